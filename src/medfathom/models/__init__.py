"""Networks: what they are, how they are cut into layer groups, where their weights come from."""
