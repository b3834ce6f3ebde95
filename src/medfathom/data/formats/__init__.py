"""Formats of image files: the header, and the values as they were written."""
