"""Fractions whose multiples, taken modulo 1, spread evenly however many of them there are.

Source: M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018): the inverse of the
golden ratio for the unit interval, the inverse powers of the plastic number for the unit square.
"""

from __future__ import annotations

ALONG = 0.6180339887498949
"""For the unit interval: the inverse of the golden ratio."""

DOWN, ACROSS = 0.7548776662466927, 0.5698402909980532
"""For the unit square: the inverse of the plastic number, and its square."""
