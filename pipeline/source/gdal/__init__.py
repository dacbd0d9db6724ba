"""Rasters that GDAL reads: files, VRTs, addresses."""
