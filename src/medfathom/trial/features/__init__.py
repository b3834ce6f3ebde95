"""Features of a frozen prefix: whether they are kept, where, and how they are computed."""
