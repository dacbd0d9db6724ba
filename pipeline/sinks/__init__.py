"""Sinks: labels are written chunk by chunk, each durable by itself, and assembled into files."""
