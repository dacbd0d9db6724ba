"""Whole commands that take turns on one raster: ours, other programs, and floors."""
