"""The lazy chunk graph, with the only `map_overlap`."""
