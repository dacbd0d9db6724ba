"""What is made of the labels of a kernel, so that they become a map: smoothing."""
