"""Whether finished labels are those that were written, and what their inputs give."""
