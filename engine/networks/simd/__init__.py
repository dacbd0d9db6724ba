"""Compiled loops over vectors of channels: convolutions, softmax and distances for one thread."""
