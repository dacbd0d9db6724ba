"""Stages that make a map of labels: smoothing, and regions of a minimum area."""
