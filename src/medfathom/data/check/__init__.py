"""`medfathom data check`: what would invalidate a study."""
