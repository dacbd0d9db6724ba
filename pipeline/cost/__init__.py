"""Costs of a run: seconds and bytes of disk."""
