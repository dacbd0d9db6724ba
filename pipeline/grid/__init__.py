"""Where pixels lie on the ground: georeference, alignment, area of interest (in pixels: `engine.grid`)."""
