"""What an output folder holds, and under which names."""
