"""The report of an analysis: its sentences, figures and page."""
