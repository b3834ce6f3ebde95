"""What a model is worth beyond its own test split: other places, subgroups, decisions, the record."""
