"""Models: which are known, where they come from, and how they get onto this machine. No torch at import."""
