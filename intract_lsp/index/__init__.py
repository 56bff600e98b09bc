"""The live index of a workspace: which files, what of them, where it is kept and how it is searched."""
