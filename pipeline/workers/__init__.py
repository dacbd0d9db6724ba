"""Who does the tasks: threads or a local Dask cluster."""
