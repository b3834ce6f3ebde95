"""A study's record as journals ask for it: checklists, each item with its number and where it comes from."""
