"""Checks whether finished labels hold what was written, and whether their inputs yield the same again."""
