"""medfathom's own policy for `goal = "best"`: first trials from what worked elsewhere, then gain per second."""
