"""The commands but `run`, a room or module each; none imports another."""
