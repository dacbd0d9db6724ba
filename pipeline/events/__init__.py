"""What a run reports, and who listens: progress, journal, log, metrics."""
