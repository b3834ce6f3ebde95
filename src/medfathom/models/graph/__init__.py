"""Networks as graphs: traced, measured, cut into five layer groups."""
