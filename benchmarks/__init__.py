"""Benchmarks: our runs beside those of other programs and beside the floor that the machine sets.

Nothing is here yet.
"""
