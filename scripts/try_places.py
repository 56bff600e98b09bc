"""Where scripts/try completes: places given as FILE:LINE:COL, or three in this repository's own code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class TryError(Exception):
    """Ends the run; the message is what the user reads."""


@dataclass(frozen=True)
class Place:
    """A cursor in a file whose text behind the cursor is taken out before the server sees it."""

    path: Path
    before: str
    """Text up to the cursor."""
    removed: str
    behind: str
    """Text that the server still sees behind the cursor."""
    own: bool = False
    """One of this repository's places, where having nothing to suggest is a failure."""

    @property
    def line(self) -> int:
        """The cursor's line, from 0."""
        return self.before.count("\n")

    @property
    def line_prefix(self) -> str:
        """The cursor's line up to the cursor."""
        return self.before.rpartition("\n")[2]

    @property
    def title(self) -> str:
        """The place as FILE:LINE:COL."""
        shown = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{shown}:{self.line + 1}:{len(self.line_prefix) + 1}"


def read_document(path: Path) -> str:
    """Read a text file with its line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise TryError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise TryError(f"{path} is no UTF-8 text file.") from error


def cut_line(path: Path, text: str, cursor: int, own: bool = False) -> Place:
    """Take the rest of the cursor's line out."""
    end = min((at for at in (text.find("\r\n", cursor), text.find("\n", cursor)) if at >= 0), default=len(text))
    return Place(path, text[:cursor], text[cursor:end], text[end:], own)


def cut_block(path: Path, text: str, cursor: int) -> Place:
    """Take everything out up to the next line that is indented less than the cursor's."""
    column = cursor - text.rfind("\n", 0, cursor) - 1
    end = cursor
    for line in text[cursor:].splitlines(keepends=True):
        if end > cursor and line.strip() and len(line) - len(line.lstrip()) < column:
            break
        end += len(line)
    body = text[cursor:end].rstrip()
    return Place(path, text[:cursor], body, text[cursor + len(body) :], own=True)


def own_places() -> list[Place]:
    """Return three places in this repository's own code, found by what stands there."""

    def find(name: str, up_to: str) -> tuple[Path, str, int]:
        path = ROOT / "intract_lsp" / name
        text = read_document(path)
        at = text.find(up_to)
        if at < 0:
            raise TryError(f"{path} no longer holds {up_to!r}: choose another place in scripts/try.py.")
        return path, text, at + len(up_to)

    return [
        cut_line(*find("paths.py", "data=directories."), own=True),
        cut_line(*find("completion/request.py", "round(getattr(self, name), 1) for "), own=True),
        cut_block(*find("completion/context.py", "def _last_line(text: str) -> str:\n    ")),
    ]


def parse_place(argument: str) -> Place:
    """Turn FILE:LINE:COL into a place; lines and columns count from 1, columns in characters."""
    match = re.fullmatch(r"(.+):([0-9]+):([0-9]+)", argument)
    if match is None:
        raise TryError(f"{argument!r} is no place; write FILE:LINE:COL, such as intract_lsp/paths.py:12:5.")
    name, line, column = match[1], int(match[2]), int(match[3])
    path = Path(name).resolve()
    text = read_document(path)
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise TryError(f"{argument}: there is no line {line}; {name} has {len(lines)}.")
    content = lines[line - 1].removesuffix("\r")
    if not 1 <= column <= len(content) + 1:
        raise TryError(f"{argument}: there is no column {column}; line {line} ends at column {len(content) + 1}.")
    start = sum(len(above) + 1 for above in lines[: line - 1])
    return cut_line(path, text, start + column - 1)
