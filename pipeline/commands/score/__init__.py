"""`score`: the labels of a run beside a reference."""
