"""Ignore files, read as git reads them: patterns, negation, anchoring, and one file a folder.

Own code rather than pathspec's: that matches whole paths at once, so that a folder which a nested file takes back in
brings in what an outer file still excludes below it; git decides folder by folder (gitignore(5), git's wildmatch.c).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from intract_lsp.index.plain_file import open_plain

_GIT_NAMES = (".gitignore", ".git/info/exclude")

_POSIX_CLASSES = (
    ("alnum", "a-zA-Z0-9"),
    ("alpha", "a-zA-Z"),
    ("blank", r"\ \t"),
    ("cntrl", r"\x00-\x1f\x7f"),
    ("digit", "0-9"),
    ("graph", r"\x21-\x7e"),
    ("lower", "a-z"),
    ("print", r"\x20-\x7e"),
    ("punct", r"!-/:-@\[-`{-~"),
    ("space", r"\s"),
    ("upper", "A-Z"),
    ("xdigit", "0-9a-fA-F"),
)
_POSIX_CLASS = re.compile(r"\[:(\w*):\]")
_TRAILING_SPACES = re.compile(r"(?<!\\)((?:\\\\)*) +\Z")


class _Unmatchable(Exception):
    """A pattern that git accepts and that matches nothing."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    regex: re.Pattern[str]
    negated: bool
    folders_only: bool
    by_name: bool
    """Without a slash in it, a pattern is about the last part of a path."""


class IgnoreFile:
    """The patterns of one ignore file, a line each."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        # Git compares bytes (``?`` is half an "é"): one character a byte makes patterns and paths alike.
        parsed = [pattern for line in lines if (pattern := _parse(line.decode("latin-1"))) is not None]
        self._patterns = tuple(reversed(parsed))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def verdict(self, path: str, is_folder: bool) -> bool | None:
        """Return whether a path, relative to the file's folder, is excluded; ``None`` where no pattern is about it."""
        path = path if path.isascii() else os.fsencode(path).decode("latin-1")
        name = path.rpartition("/")[2]
        for pattern in self._patterns:
            if pattern.folders_only and not is_folder:
                continue
            if pattern.regex.fullmatch(name if pattern.by_name else path):
                return not pattern.negated
        return None


@dataclass(frozen=True, slots=True)
class _Placed:
    """An ignore file and how a path of the tree is told to it: without its start, behind a lead."""

    file: IgnoreFile
    cut: int = 0
    lead: str = ""


class IgnoreTree:
    """The ignore files in a folder and below, each read when first needed and then kept.

    ``names`` are those to look for in each folder, the most important first. An instance is for one piece of work: a
    file that changes later is not read again. A path is excluded if one of its folders is; callers go from the root
    down and stop at an excluded folder, so ``excludes`` looks at a path alone.
    """

    def __init__(self, root: Path, names: tuple[str, ...], outermost: tuple[_Placed, ...] = ()) -> None:
        self._root = root
        self._names = names
        self._outermost = outermost
        self._stacks: dict[str, tuple[_Placed, ...]] = {}

    def excludes(self, path: str, is_folder: bool) -> bool:
        """Return whether the patterns around a path (relative to the root, with ``/``) exclude it itself."""
        for placed in self._stack(path.rpartition("/")[0]):
            verdict = placed.file.verdict(placed.lead + path[placed.cut :], is_folder)
            if verdict is not None:
                return verdict
        return False

    def seen_from(self, folder: str) -> tuple[_Placed, ...]:
        """Return the files above a folder of the tree, for a tree whose root that folder is."""
        above = self._stack(folder.rpartition("/")[0])
        return tuple(_Placed(placed.file, lead=f"{folder[placed.cut :]}/") for placed in above)

    def _stack(self, folder: str) -> tuple[_Placed, ...]:
        """Return the files that apply in a folder, the nearest first."""
        stack = self._stacks.get(folder)
        if stack is None:
            outer = self._stack(folder.rpartition("/")[0]) if folder else self._outermost
            own = (read_ignore_file(self._root / folder / name) for name in self._names)
            cut = len(folder) + 1 if folder else 0
            stack = (*(_Placed(file, cut) for file in own if file), *outer)
            self._stacks[folder] = stack
        return stack


def git_ignore_tree(root: Path) -> IgnoreTree:
    """Return git's rules for a folder without asking git: ``.gitignore`` and ``info/exclude``, not the user's own file.

    Where the folder lies in a repository, the files above it apply too, unless they exclude the folder itself: opened
    all the same, it is none of that repository's business.
    """
    root = root.resolve()
    top = next((folder for folder in (root, *root.parents) if os.path.lexists(folder / ".git")), root)
    if top == root:
        return IgnoreTree(root, _GIT_NAMES)
    above = IgnoreTree(top, _GIT_NAMES)
    inside = root.relative_to(top).as_posix()
    parts = inside.split("/")
    if any(above.excludes("/".join(parts[: count + 1]), True) for count in range(len(parts))):
        return IgnoreTree(root, _GIT_NAMES)
    return IgnoreTree(root, _GIT_NAMES, above.seen_from(inside))


def read_ignore_file(path: Path) -> IgnoreFile:
    """Read an ignore file; one that is not there, cannot be read or is a symbolic link holds nothing, as in git."""
    try:
        with open_plain(path) as stream:
            content = stream.read()
    except OSError:
        return IgnoreFile(())
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return IgnoreFile(line.removesuffix(b"\r") for line in lines)


def _parse(line: str) -> _Pattern | None:
    """Return a line's pattern; ``None`` for blanks, comments and what can match nothing."""
    if line.startswith("#"):
        return None
    text = _TRAILING_SPACES.sub(r"\1", line) if not line.isspace() else ""
    negated = text.startswith("!")
    text = text[1:] if negated else text
    folders_only = text.endswith("/")
    text = text[:-1] if folders_only else text
    by_name = "/" not in text
    text = text.removeprefix("/")
    if not text:
        return None
    try:
        return _Pattern(re.compile(_translate(text), re.DOTALL | re.ASCII), negated, folders_only, by_name)
    except _Unmatchable:
        return None


def _translate(glob: str) -> str:
    """Return a regular expression for a pattern, in which only ``**`` between slashes crosses a slash.

    Git compares what stands before the first wildcard as it is and matches the rest alone, so that the ``**`` of
    ``a**/b`` counts as one at the start.
    """
    parts: list[str] = []
    start = next((at for at, character in enumerate(glob) if character in "*?[\\"), 0)
    at = 0
    while at < len(glob):
        character = glob[at]
        if character == "*":
            end = at + 1
            while glob.startswith("*", end):
                end += 1
            alone = end - at > 1 and (at == start or glob[at - 1] == "/") and (end == len(glob) or glob[end] == "/")
            if alone and end < len(glob):
                parts.append("(?:.*/)?")
                end += 1
            else:
                parts.append(".*" if alone else "[^/]*")
            at = end
        elif character == "?":
            parts.append("[^/]")
            at += 1
        elif character == "[":
            expression, at = _bracket(glob, at + 1)
            parts.append(expression)
        else:
            if character == "\\":
                at += 1
                if at == len(glob):
                    raise _Unmatchable
            parts.append(re.escape(glob[at]))
            at += 1
    return "".join(parts)


def _bracket(glob: str, at: int) -> tuple[str, int]:
    """Return the expression for a bracket whose inside starts at ``at``, and the index behind it."""
    negated = glob[at : at + 1] in ("!", "^")
    first = at = at + negated
    inside: list[str] = []
    while True:
        if at >= len(glob):
            raise _Unmatchable
        if glob[at] == "]" and at > first:
            break
        if found := _POSIX_CLASS.match(glob, at):
            characters = dict(_POSIX_CLASSES).get(found.group(1))
            if characters is None:
                raise _Unmatchable
            inside.append(characters)
            at = found.end()
            continue
        low, at = _member(glob, at)
        if glob[at : at + 1] == "-" and glob[at + 1 : at + 2] not in ("]", ""):
            high, at = _member(glob, at + 1)
            if low <= high:
                inside.append(f"{re.escape(low)}-{re.escape(high)}")
            elif low != "/":
                # Of a range that runs backwards git takes the first character alone.
                inside.append(re.escape(low))
        else:
            inside.append(re.escape(low))
    members = "".join(inside)
    if negated:
        return f"[^/{members}]", at + 1
    return (f"(?!/)[{members}]" if members else "(?!)"), at + 1


def _member(glob: str, at: int) -> tuple[str, int]:
    """Return a character inside a bracket, unescaped, and the index behind it."""
    if glob[at] == "\\":
        at += 1
        if at >= len(glob):
            raise _Unmatchable
    return glob[at], at + 1
