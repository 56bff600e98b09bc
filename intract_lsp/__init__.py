"""intract-lsp: inline code completions from a model on your own machine."""

__version__ = "0.1.0"
