"""Trees of commit-replay items, from git directories on this machine."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from intract_lsp.errors import IntractError
from intract_lsp.evaluation import workspaces
from intract_lsp.evaluation.items import Item
from intract_lsp.evaluation.workspaces import Workspaces


def git(folder: Path, *command: str) -> str:
    options = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *options, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def commits(tmp_path: Path) -> list[str]:
    """Two commits of one repository."""
    clone = tmp_path / "clones" / "owner+name" / "repo"
    clone.mkdir(parents=True)
    git(clone, "init", "-q", "-b", "main")
    found = []
    for files in ({"a.py": b"one", "deep/é.py": b"\x00\xff\n", "empty": b""}, {"a.py": b"two\r\n", "big": b"x" * 999}):
        for path in clone.iterdir():
            if path.name != ".git":
                git(clone, "rm", "-rqf", "--ignore-unmatch", path.name)
        for name, content in files.items():
            (clone / name).parent.mkdir(exist_ok=True)
            (clone / name).write_bytes(content)
        git(clone, "add", "-A", "-f")
        git(clone, "commit", "-qm", "c")
        found.append(git(clone, "rev-parse", "HEAD"))
    return found


ITEM = Item("t", "a.py", "", "", "x", "x", "s", repository="owner/name")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_moves_from_tree_to_tree(tmp_path: Path, commits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "LARGEST_FILE", 500)
    made = Workspaces(tmp_path / "clones", tmp_path / "scratch")
    first = {"a.py": b"one", "deep/é.py": b"\x00\xff\n", "empty": b""}
    for commit, expected in ((commits[0], first), (commits[1], {"a.py": b"two\r\n"}), (commits[0], first)):
        folder, changed = made.folder(replace(ITEM, parent=commit))
        assert contents(folder) == expected
        assert set(changed) >= {folder / "a.py", folder / "empty"}
        assert made.folder(replace(ITEM, parent=commit)) == (folder, [])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "names no repository and commit"),
        ({"parent": "0" * 40}, "git cannot read"),
        ({"parent": "HEAD", "repository": "other/name2"}, "no git directory of other/name2"),
    ],
)
def test_what_cannot_be_made(tmp_path: Path, commits: list[str], changes: dict[str, str], sentence: str) -> None:
    made = Workspaces(tmp_path / "clones", tmp_path / "scratch")
    with pytest.raises(IntractError, match=sentence):
        made.folder(replace(ITEM, **changes))
