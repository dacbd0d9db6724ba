"""Parts of a run by themselves: reading, labelling, encoding, the coordinator."""
