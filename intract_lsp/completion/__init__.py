"""The completion pipeline: pure domain code without I/O, torch or LSP."""
