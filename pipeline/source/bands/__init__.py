"""Bands computed from bands."""
