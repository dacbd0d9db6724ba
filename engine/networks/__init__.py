"""Kernels that are neural networks."""
