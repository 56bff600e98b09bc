"""The only layer that knows LSP: translates between the protocol and the rest."""
