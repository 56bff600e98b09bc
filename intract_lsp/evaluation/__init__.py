"""Scores suggestions against code that people wrote: items, scores, and the run that asks for each item."""
