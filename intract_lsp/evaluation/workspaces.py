"""The workspaces of commit-replay items: each repository's tree as it was before the item's commit.

The repositories are git directories on this machine; nothing is fetched. One folder a repository is made and moved from
tree to tree, so that an index of it has little to do between two items.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item

SECONDS = 300.0
"""Longer than any checkout of a tree takes."""


LARGEST_FILE = 2_000_000
"""Bytes; larger files are in no index, and small clones lack them."""


class Workspaces:
    """Folders with items' trees, below a scratch directory that the caller removes."""

    def __init__(self, repositories: Path, scratch: Path) -> None:
        """``repositories`` holds one git directory a repository: ``owner+name/repo``, ``owner+name`` or ``name``."""
        self._repositories = repositories
        self._scratch = scratch
        self._trees: dict[Path, dict[str, str]] = {}
        """By folder the blobs of its files."""

    def folder(self, item: Item) -> tuple[Path, list[Path]]:
        """Make a folder hold the files of an item's parent commit; return it with the paths that changed in it.

        It is the folder of the repository's other items, too. Files that the clone lacks are left out. Raises
        ``IntractError`` where there is no such commit.
        """
        if not item.repository or not item.parent:
            raise IntractError(f"{item.task_id} names no repository and commit, so its workspace cannot be made.")
        folder = self._scratch / item.repository.replace("/", "+")
        directory = self._git_dir(item.repository)
        before, now = self._trees.get(folder, {}), _blobs(directory, item.parent)
        for path in before.keys() - now.keys():
            (folder / path).unlink(missing_ok=True)
        changed = {path: blob for path, blob in now.items() if before.get(path) != blob}
        _write(directory, folder, changed)
        self._trees[folder] = now
        return folder, [folder / path for path in (before.keys() - now.keys()) | changed.keys()]

    def _git_dir(self, repository: str) -> Path:
        owner, _, name = repository.partition("/")
        for place in (f"{owner}+{name}/repo", f"{owner}+{name}", name):
            for candidate in (self._repositories / place, self._repositories / place / ".git"):
                if (candidate / "objects").is_dir():
                    return candidate
        raise IntractError(f"There is no git directory of {repository} in {self._repositories}; clone it there.")


def _blobs(directory: Path, commit: str) -> dict[str, str]:
    """Return the blob of each regular file of a commit's tree, by path."""
    blobs = {}
    for entry in _git(directory, b"", "ls-tree", "-r", "-z", commit).split(b"\0"):
        if entry:
            described, _, path = entry.partition(b"\t")
            mode, _, blob = described.split()
            if mode.startswith(b"100"):
                blobs[os.fsdecode(path)] = blob.decode()
    return blobs


def _write(directory: Path, folder: Path, blobs: Mapping[str, str]) -> None:
    """Write files with their blobs' contents, as far as the clone has them."""
    asked = "".join(f"{blob}\n" for blob in blobs.values()).encode()
    sizes = _git(directory, asked, "cat-file", "--batch-check=%(objectsize)").splitlines()
    small = [
        (path, blob)
        for (path, blob), size in zip(blobs.items(), sizes, strict=True)
        if size.isdigit() and int(size) <= LARGEST_FILE
    ]
    answer = _git(directory, "".join(f"{blob}\n" for _, blob in small).encode(), "cat-file", "--batch=%(objectsize)")
    start = 0
    for path, _ in small:
        line_end = answer.index(b"\n", start)
        begin, size = line_end + 1, int(answer[start:line_end])
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(answer[begin : begin + size])
        start = begin + size + 1


def _git(directory: Path, given: bytes, *command: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", f"--git-dir={directory}", *command], input=given, capture_output=True, check=True, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise IntractError(f"git cannot read {directory} ({error}); is the clone whole?") from error
    return done.stdout
