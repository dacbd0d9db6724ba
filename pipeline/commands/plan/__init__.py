"""`plan`: what a run would take, measured on parts."""
