"""zlib data of labels."""
