"""What a run takes: seconds and bytes of disk."""
