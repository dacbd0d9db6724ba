"""One room or module for each command but `run`; none knows another."""
