"""Evaluation items: a cursor in a real file and what the author typed there, read from JSON lines.

Two forms are read: commit replay (``groundtruth_line``, ``groundtruth_block``) and public benchmarks (``groundtruth``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intract_lsp.errors import IntractError
from intract_lsp.languages import language_id


@dataclass(frozen=True, slots=True)
class Item:
    """One cursor and the text that belongs there. Line ends are ``\\n`` or as in the source file."""

    task_id: str
    path: str
    """Path inside the repository with ``/``."""
    prefix: str
    suffix: str
    truth_line: str
    """The rest of the cursor's line as the author wrote it."""
    truth_block: str
    """``truth_line`` and the lines of its block that follow; equal to ``truth_line`` where there are none."""
    set: str
    """Which collection the item is from."""
    repository: str = ""
    """``owner/name``; empty where unknown."""
    parent: str = ""
    """The commit before the one that the item is from; empty where unknown."""
    trigger: str = ""
    """Where on its line the cursor stands, such as ``newline`` or ``midline``; empty where unknown."""
    crossfile: bool | None = None
    """Whether the line uses a name that its file does not contain; ``None`` where unknown."""
    pure_insertion: bool | None = None
    """Whether the line was added rather than rewritten; ``None`` where unknown."""

    @property
    def language_id(self) -> str:
        """The language identifier by the path's suffix; ``plaintext`` where unknown."""
        return language_id(self.path)


def read_items(path: Path, limit: int | None = None) -> list[Item]:
    """Read the first ``limit`` items of a JSON-lines file (all of them for ``None``).

    Raises ``IntractError`` naming the file, and the line where one cannot be used.
    """
    items: list[Item] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if limit is not None and len(items) >= limit:
                    break
                if line.strip():
                    items.append(_parse(line, f"{path}, line {number}", path.stem))
    except OSError as error:
        raise IntractError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise IntractError(f"{path} is not UTF-8 text; give a file with one JSON object a line.") from error
    if not items:
        raise IntractError(f"{path} holds no items; give a file with one JSON object a line.")
    return items


def _parse(line: str, where: str, default_set: str) -> Item:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise IntractError(f"{where}: this is not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise IntractError(f"{where}: this is a JSON {type(row).__name__}, not an object.")
    if "prefix" not in row and "parent" in row:
        raise IntractError(f"{where}: this is a position without its text; rebuild the items from their repositories.")
    suffix = _text(row, "suffix", where)
    if "groundtruth_line" in row:
        truth_line = _text(row, "groundtruth_line", where)
        truth_block = _text(row, "groundtruth_block", where) if "groundtruth_block" in row else truth_line
    elif "groundtruth" in row:
        truth_block = _text(row, "groundtruth", where)
        # A truth that ends with its line's end leaves the suffix at the next line's start. An editor's cursor has that
        # line's end behind it, so it moves there: prefix + truth + suffix stays the same text.
        if truth_block.endswith("\n"):
            end = "\r\n" if truth_block.endswith("\r\n") else "\n"
            truth_block = truth_block[: -len(end)]
            suffix = end + suffix
        truth_line = truth_block.split("\n", maxsplit=1)[0].removesuffix("\r")
    else:
        raise IntractError(f"{where}: there is neither a 'groundtruth_line' nor a 'groundtruth'.")
    if not truth_block.strip():
        raise IntractError(f"{where}: the truth is blank, so nothing can be scored.")
    return Item(
        task_id=_text(row, "task_id", where),
        path=_text(row, "path", where),
        prefix=_text(row, "prefix", where),
        suffix=suffix,
        truth_line=truth_line,
        truth_block=truth_block,
        set=_text(row, "set", where) if "set" in row else "commit-replay" if "commit" in row else default_set,
        repository=_text(row, "repo", where) if "repo" in row else "",
        parent=_text(row, "parent", where) if "parent" in row else "",
        trigger=_text(row, "trigger", where) if "trigger" in row else "",
        crossfile=_flag(row, "crossfile", where),
        pure_insertion=_flag(row, "pure_insertion", where),
    )


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        found = "is missing" if key not in row else f"is a JSON {type(value).__name__}"
        raise IntractError(f"{where}: {key!r} must be a text, but {found}.")
    return value


def _flag(row: Mapping[str, Any], key: str, where: str) -> bool | None:
    value = row.get(key)
    if value is not None and not isinstance(value, bool):
        raise IntractError(f"{where}: {key!r} must be true or false.")
    return value
