"""Checks whether finished labels are what was written, and what their inputs yield."""
