"""The mathematics of Tilewright: kernels on plain arrays, codebooks, clustering.

Nothing here reads rasters or schedules work: no Dask, no xarray, no rasterio. A kernel
takes a patch of pixels and says which label every pixel of its core gets.
"""
