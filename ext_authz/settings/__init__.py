"""What the operator said, read once."""
