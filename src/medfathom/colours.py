"""The colours of all pictures."""

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"

PALETTE = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31", "#5254A3")
"""Okabe and Ito's seven colours on white, which colour-blind readers can distinguish, and two more."""
