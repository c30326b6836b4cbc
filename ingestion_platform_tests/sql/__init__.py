"""What we derive."""
