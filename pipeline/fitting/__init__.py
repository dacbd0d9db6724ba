"""A sample of cells becomes a frozen codebook."""
