"""medfathom."""
