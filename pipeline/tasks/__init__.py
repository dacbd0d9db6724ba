"""What a worker does for one raster: label, merge, assemble, check, publish, redo."""
