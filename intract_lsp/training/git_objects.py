"""What git holds of a folder, asked by the ids of commits and blobs: the user's index and files are not touched.

Only plumbing is used, nothing takes a lock and nothing is fetched: of a partial clone what is missing stays missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

SECONDS = 300.0
"""Longer than any of these commands takes."""

LARGEST_DIFFED = 1_000_000
"""Bytes of a file beyond which git counts it as binary: no source that is used has more."""

MOST_COMMITS = "--max-count=10000"
"""That are looked at: half of these go further back than any cut needs to."""

PATHS_A_COMMAND = 200
"""Beyond, command lines grow too long for some systems."""

_SETTINGS = (
    *("-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false", "-c", "core.quotepath=off"),
    *("-c", f"core.bigFileThreshold={LARGEST_DIFFED}", "-c", "diff.renameLimit=1000"),
)
"""A repository's own settings must not start a program nor have git write to it."""

_DIFF = (
    *("diff-tree", "-r", "-z", "--raw", "--patch", "--no-abbrev", "--unified=0", "--inter-hunk-context=0"),
    *("--relative", "--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--diff-filter=AMR"),
)
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


class GitFailure(Exception):
    """Git could not answer. Never leaves this package: callers go on without git."""


@dataclass(frozen=True, slots=True)
class Added:
    """Lines of a text that an older one has not, numbered from 0; the end is the line behind the last one."""

    start: int
    end: int
    pure: bool
    """Whether they were added, rather than put in the place of others."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file that a newer tree has and that an older one had not, or had otherwise."""

    path: str
    """In the newer tree, relative to the folder, with ``/``."""
    old_path: str
    """In the older one; the same where it was not renamed, also where it was not there at all."""
    blob: str
    """Of the newer tree."""
    is_new: bool
    """Whether the older tree has nothing of it."""
    added: tuple[Added, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """What a commit has of the folder, by path."""

    blobs: dict[str, str]
    """Of each regular file."""
    links: dict[str, bool]
    """What is no file: symbolic links, and submodules (true)."""


class GitFolder:
    """A folder of a repository, possibly below its top. Paths are relative to the folder, with ``/``."""

    def __init__(self, root: Path, head: str = "HEAD") -> None:
        """``head`` names the newest commit. Raises ``GitFailure`` without git, a repository or that commit."""
        self._root = root
        program = shutil.which("git")
        if program is None:
            raise GitFailure("no git")
        self._program = program
        self.head = self.commit(head)
        """The newest commit as of now: what is asked later is asked of it, whatever has been committed since."""

    def commit(self, name: str) -> str:
        """Return the id of the commit that goes by a name, such as a branch's. Raises ``GitFailure``."""
        return self._ask("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").decode().strip()

    def commits(self, since: str | None = None) -> list[str]:
        """Return the commits of the main line that touch the folder, the newest first; a shallow clone has few.

        With the id of a commit as ``since``, what that one goes back to is left out.
        """
        known = () if since is None else (f"^{since}",)
        return self._ask("rev-list", "--first-parent", MOST_COMMITS, self.head, *known, "--", ".").decode().split()

    def tree(self, commit: str) -> Tree:
        """Return what a commit has."""
        found = Tree({}, {})
        for entry in self._ask("ls-tree", "-r", "-z", commit).split(b"\0"):
            if entry:
                described, _, name = entry.partition(b"\t")
                mode, _, id_ = described.decode().split()
                path = os.fsdecode(name)
                if mode.startswith("100"):
                    found.blobs[path] = id_
                else:
                    found.links[path] = mode == "160000"
        return found

    def contents(self, blobs: Iterable[str], largest: int) -> dict[str, bytes]:
        """Return the contents of blobs, by id; those of more than ``largest`` bytes are left out.

        None of them is missing in the clone.
        """
        asked = list(dict.fromkeys(blobs))
        sizes = self._ask("cat-file", "--batch-check=%(objectsize)", given=_lines(asked)).decode().splitlines()
        small = [blob for blob, size in zip(asked, sizes, strict=True) if size.isdigit() and int(size) <= largest]
        answer = self._ask("cat-file", "--batch=%(objectsize)", given=_lines(small))
        found: dict[str, bytes] = {}
        start = 0
        for blob in small:
            begin = answer.index(b"\n", start) + 1
            end = begin + int(answer[start : begin - 1])
            found[blob] = answer[begin:end]
            start = end + 1
        return found

    def changes(self, old: str, new: str) -> list[Change]:
        """Return what a commit has that an older one has not; renamed files are known again where all blobs are there.

        Files of which the clone lacks either side are left out.
        """
        try:
            return list(_parse(self._ask(*_DIFF, "--find-renames", "--no-rename-empty", old, new)))
        except GitFailure:
            missing = self.missing(old) | self.missing(new)
            raw = self._ask("diff-tree", "-r", "-z", "--no-abbrev", "--relative", "--diff-filter=AM", old, new)
            paths = [
                entry.paths[-1]
                for entry in _entries(raw.split(b"\0"))
                if missing.isdisjoint((entry.old_blob, entry.blob))
            ]
            return [change for some in _batches(paths) for change in self._changes_of(old, new, some)]

    def _changes_of(self, old: str, new: str, paths: Sequence[str]) -> Iterator[Change]:
        names = [os.fsdecode(path) for path in paths]
        return _parse(self._ask("--literal-pathspecs", *_DIFF, "--no-renames", old, new, "--", *names))

    def missing(self, commit: str) -> frozenset[str]:
        """Return the blobs of a commit's tree that a partial clone lacks.

        Of all commands ``rev-list`` alone looks without fetching, in every version of git.
        """
        command = ("rev-list", "--objects", "--no-object-names", "--missing=print", f"{commit}^{{tree}}")
        return frozenset(line[1:] for line in self._ask(*command).decode().splitlines() if line.startswith("?"))

    def _ask(self, *arguments: str, given: bytes = b"") -> bytes:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        kept = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH")
        environment |= {name: os.environ[name] for name in kept if name in os.environ}
        # Older gits do not know the first of these; the second leaves no protocol to fetch with.
        environment |= {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
        environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                (self._program, "--no-pager", *_SETTINGS, *arguments),
                cwd=self._root,
                input=given,
                capture_output=True,
                timeout=SECONDS,
                env=environment,
                check=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise GitFailure(f"git {arguments[0]}: {type(error).__name__}") from error
        return done.stdout


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of git's raw format."""

    old_blob: str
    blob: str
    status: str
    paths: tuple[str, ...]


def _entries(tokens: Iterable[bytes]) -> Iterator[_Entry]:
    rest = iter(tokens)
    for token in rest:
        if not token.startswith(b":"):
            return
        _, _, old_blob, blob, status = token.decode().split()
        count = 2 if status.startswith(("R", "C")) else 1
        yield _Entry(old_blob, blob, status, tuple(os.fsdecode(path) for path in islice(rest, count)))


def _parse(answer: bytes) -> Iterator[Change]:
    """Read raw entries and the patches behind them, which come in the same order: names in patches may be quoted."""
    raw, _, patch = answer.partition(b"\0\0")
    entries = list(_entries(raw.split(b"\0")))
    hunks = list(_hunks(patch))
    if len(hunks) != len(entries):
        raise GitFailure("git's patches do not fit its list of changes")
    for entry, added in zip(entries, hunks, strict=True):
        yield Change(entry.paths[-1], entry.paths[0], entry.blob, entry.status.startswith("A"), tuple(added))


def _hunks(patch: bytes) -> Iterator[list[Added]]:
    """Yield the added lines of each file; hunks are passed over by the counts, as they may look like anything."""
    found: list[Added] | None = None
    lines = iter(patch.split(b"\n"))
    for line in lines:
        if line.startswith(b"diff --git "):
            if found is not None:
                yield found
            found = []
        elif found is not None and (hunk := _HUNK.match(line)) is not None:
            removed, added = (1 if count is None else int(count) for count in hunk.group(1, 3))
            if added:
                start = int(hunk[2]) - 1
                found.append(Added(start, start + added, removed == 0))
            for _ in islice(lines, removed + added):
                pass
    if found is not None:
        yield found


def _batches(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), PATHS_A_COMMAND):
        yield paths[start : start + PATHS_A_COMMAND]


def _lines(entries: Iterable[str]) -> bytes:
    return "".join(f"{entry}\n" for entry in entries).encode()
