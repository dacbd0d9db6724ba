"""Rasters in Zarr stores, decoded within bounds also where the store is hostile."""
