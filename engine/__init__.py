"""The mathematics of Tilewright: kernels on plain arrays, codebooks, clustering.

Nothing here reads rasters or schedules work: no Dask, no xarray, no rasterio. A kernel
takes a patch of pixels and returns a label for every pixel of the patch's core.
"""
