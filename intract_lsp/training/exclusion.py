"""Which files the user wants left out of training, in the words of an ignore file. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from intract_lsp.index.ignore import IgnoreFile

_SPECIAL = re.compile(r"[\\*?\[\] ]")


class Exclusion:
    """Lines of an ignore file at a folder's root."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._rules = IgnoreFile(os.fsencode(line) for line in lines)

    def names(self, path: str) -> bool:
        """Return whether a path (relative, with ``/``) is excluded, or one of the folders that it lies in."""
        if not self._rules:
            return False
        parts = path.split("/")
        folders = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self._rules.verdict(folder, True) for folder in folders) or bool(self._rules.verdict(path, False))


def line_for(path: str) -> str:
    """Return the line that excludes one file or folder, whatever characters are in its name."""
    return "/" + _SPECIAL.sub(lambda found: "\\" + found[0], path.strip("/"))
