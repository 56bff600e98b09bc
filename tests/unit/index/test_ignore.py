"""Ignore patterns: what git itself says of the same patterns and paths is the truth."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intract_lsp.index.ignore import IgnoreFile, IgnoreTree, git_ignore_tree

NAMES = ("a", "b", "ab", "a.b", "-", "!a", "#b", "a b", "a ", "]", "[", "abc", "B", "é", "a\\b", "^", ":x")
PATHS = tuple(f"{x}{y}" for x in NAMES for y in ("", "/a", "/ab", "/a/b.b", "/ab/abc", "/ab/a"))
ATOMS = ("a", "b", "c", ".", "*", "**", "/", "?", "[", "]", "!", "\\", " ", "-", "[a-c]", "[!a]", "[]a]", "/**/", "**/")
MORE_ATOMS = ("/**", "[[:alpha:]]", "[[:nope:]]", "#", "[^-]", "[c-a]", "é", "[a-", "[\\]]", "[!]a]", "[-a]", "\t")


@pytest.fixture(scope="module")
def gits_answer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bool]]:
    """From a pattern to the paths that git finds it, or a folder's exclusion by it, to be about."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path_factory.mktemp("patterns")
    subprocess.run(["git", "init", "-q", root], check=True)
    for path in PATHS:
        file = root / path
        if path.endswith(("b.b", "abc", "/a")) and "/" in path and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.name in ("b.b", "abc"):
                file.touch()
                continue
        file.mkdir(parents=True, exist_ok=True)

    def answer(pattern: str) -> dict[str, bool]:
        (root / ".git/info/exclude").write_bytes(pattern.encode() + b"\n")
        asked = "\0".join(f"./{path}" for path in PATHS).encode()
        command = ["git", "check-ignore", "-z", "-v", "-n", "--stdin"]
        fields = subprocess.run(command, cwd=root, input=asked, capture_output=True).stdout.decode().split("\0")
        return {fields[at + 3][2:]: bool(fields[at]) for at in range(0, len(fields) - 3, 4)}

    answer.root = root  # type: ignore[attr-defined]
    return answer


@given(st.lists(st.sampled_from(ATOMS + MORE_ATOMS), min_size=1, max_size=6).map("".join))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pattern_means_what_git_takes_it_for(gits_answer: Callable[[str], dict[str, bool]], pattern: str) -> None:
    root: Path = gits_answer.root  # type: ignore[attr-defined]
    file = IgnoreFile([pattern.encode()])
    ours = {}
    for path in PATHS:
        parts = path.split("/")
        folders = ["/".join(parts[:count]) for count in range(1, len(parts))]
        by_folder = any(file.verdict(folder, True) is True for folder in folders)
        ours[path] = by_folder or file.verdict(path, (root / path).is_dir()) is not None
    assert ours == gits_answer(pattern)


@pytest.mark.parametrize(
    ("lines", "path", "verdict"),
    [
        ("*.py", "a/b.py", True),
        ("/*.py", "a/b.py", None),
        ("/*.py", "b.py", True),
        ("a/*.py", "x/a/b.py", None),
        ("**/a/*.py", "x/a/b.py", True),
        ("build/", "build", None),
        ("*.log\n!keep.log", "x/keep.log", False),
        ("!keep.log\n*.log", "keep.log", True),
        ("\\#a", "#a", True),
        ("#a", "#a", None),
        ("a  ", "a", True),
        ("a\\ ", "a ", True),
        ("", "a", None),
        ("a[", "a[", None),
        ("*", "x/日本.py", True),
    ],
)
def test_verdicts_on_files(lines: str, path: str, verdict: bool | None) -> None:
    assert IgnoreFile(lines.encode().split(b"\n")).verdict(path, False) is verdict


def test_a_nearer_file_overrules_but_not_below_what_it_brings_back(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".gitignore").write_text("*.txt\n*.py\n")
    (tmp_path / "sub/.gitignore").write_bytes(b"\xef\xbb\xbf!foo\r\n!*.py\r\n")
    tree = IgnoreTree(tmp_path, (".gitignore",))
    assert not tree.excludes("sub/a.py", False)
    assert not tree.excludes("sub/foo", True)
    assert tree.excludes("sub/foo/a.txt", False), "what is taken back is the folder, not the files in it"


def test_an_ignore_file_that_is_a_link_or_a_folder_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("*.py\n")
    (tmp_path / "one").mkdir()
    (tmp_path / "two/.gitignore").mkdir(parents=True)
    (tmp_path / "one/.gitignore").symlink_to(tmp_path / "rules")
    tree = IgnoreTree(tmp_path, (".gitignore",))
    assert not tree.excludes("one/a.py", False)
    assert not tree.excludes("two/a.py", False)


def test_files_above_the_root_apply_inside_a_repository(tmp_path: Path) -> None:
    inner = tmp_path / "one/two"
    inner.mkdir(parents=True)
    (tmp_path / ".git/info").mkdir(parents=True)
    (tmp_path / ".git/info/exclude").write_text("private.py\n")
    (tmp_path / ".gitignore").write_text("/one/two/made.py\n*.tmp.py\n")
    (tmp_path / "one/.gitignore").write_text("two/other.py\n!x.tmp.py\n")
    tree = git_ignore_tree(inner)
    excluded = [
        name
        for name in ("private.py", "made.py", "a.tmp.py", "x.tmp.py", "other.py", "a.py")
        if tree.excludes(name, False)
    ]
    assert excluded == ["private.py", "made.py", "a.tmp.py", "other.py"]


def test_a_root_that_is_ignored_is_not_bound_by_what_ignores_it(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "scratch/work").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("*\n")
    assert not git_ignore_tree(tmp_path / "scratch/work").excludes("a.py", False)
