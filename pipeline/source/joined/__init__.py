"""Several files as one raster: mosaics of adjoining tiles, and stacks of bands."""
