"""Live rules on the running stream."""
