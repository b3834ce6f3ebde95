"""Phantom data sets: images drawn from a seed, the same bytes on any machine."""
