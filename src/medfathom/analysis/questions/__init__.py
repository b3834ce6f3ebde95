"""Questions beside size, one a file."""
