"""The same from Python: open, segment, write."""
