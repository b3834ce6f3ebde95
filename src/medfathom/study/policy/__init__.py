"""medfathom's own policy for `goal = "best"`: what worked elsewhere first, then gain per second."""
