"""Our own process and its system: signals, start-up, memory."""
