"""Data sets: where they come from, how they are prepared once, what is wrong with them."""
