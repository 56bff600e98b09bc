"""Programs for the tests: servers of several kinds, as ``intract.server.path`` names them."""

from __future__ import annotations

import sys
from pathlib import Path


def program(folder: Path, script: str) -> str:
    """Write a program that runs this with the tests' Python, its own arguments last, and return its path."""
    path = folder / "intract-lsp"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {script} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)
