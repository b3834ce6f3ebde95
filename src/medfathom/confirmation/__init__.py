"""A confirmation: its choice, its workers, what they leave, and what that is worth on the test split."""
