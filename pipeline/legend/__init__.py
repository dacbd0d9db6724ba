"""What classes look like: their names and colours, and files that give these."""
