"""Data sets made on the spot, the same bytes on any machine."""
