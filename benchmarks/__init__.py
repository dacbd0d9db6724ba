"""Benchmarks: our runs beside those of other programs and beside the floor that the machine sets.

`python -m benchmarks` races whole commands on one raster; `python -m benchmarks parts` times the parts that
a run is made of. What came out is in RESULTS.md.
"""
