"""How well labels agree with what people drew: rasters with known classes, and scores."""
