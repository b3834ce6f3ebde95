"""A model folder at work, without a study."""
