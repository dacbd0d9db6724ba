"""Rasters of every kind, read window by window with their validity."""
