"""All text for terminals: what the commands print. Nothing below imports it."""
