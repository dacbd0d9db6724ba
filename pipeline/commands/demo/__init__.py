"""`demo`: the built-in scene, segmented and compared with its truth."""
