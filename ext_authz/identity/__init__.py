"""Who the user is, proven."""
