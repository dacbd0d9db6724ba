"""`status`: where a run stands."""
