"""Where tasks run: on threads or on a local Dask cluster."""
