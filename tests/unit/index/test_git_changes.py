from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from intract_lsp.index import git_changes
from intract_lsp.index.git_changes import ChangedLines, uncommitted


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, env=environment)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    (root / "a.py").write_text("".join(f"line {number}\n" for number in range(20)))
    (root / "gone.py").write_text("x\n")
    (root / ".gitignore").write_text("*.log\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def change_lines(path: Path, changes: dict[int, str]) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(changes.get(number, line) for number, line in enumerate(lines)))


def test_nothing_to_tell(repository: Path) -> None:
    assert uncommitted(repository) == []


def test_changed_inserted_and_removed_lines(repository: Path) -> None:
    change_lines(repository / "a.py", {0: "new\n", 5: "line 5\nmore\nmore\n", 10: "", 11: "", 19: "no end"})
    assert uncommitted(repository) == [
        ChangedLines("a.py", 0, 1),
        ChangedLines("a.py", 6, 8),
        ChangedLines("a.py", 12, 12),
        ChangedLines("a.py", 19, 20),
    ]


def test_staged_new_removed_ignored_and_untracked_files(repository: Path) -> None:
    change_lines(repository / "a.py", {3: "staged\n"})
    (repository / "added.py").write_text("a\nb\n")
    git(repository, "add", ".")
    (repository / "gone.py").unlink()
    (repository / "x.log").write_text("ignored")
    (repository / "sub").mkdir()
    (repository / "sub" / "untracked.py").write_text("x")
    assert uncommitted(repository) == [
        ChangedLines("a.py", 3, 4),
        ChangedLines("added.py", 0, 2),
        ChangedLines("sub/untracked.py", 0, None),
    ]


@pytest.mark.parametrize("name", ["a b.py", 'quo"te\\.py', "tab\there.py", "zoë.py", "日本/語.py", "b", "+++ b"])
def test_names_of_all_kinds(repository: Path, name: str) -> None:
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x\n")
    assert uncommitted(repository) == [ChangedLines(name, 0, None)]
    git(repository, "add", ".")
    assert uncommitted(repository) == [ChangedLines(name, 0, 1)]


def test_a_name_that_is_no_text(repository: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.py")
    try:
        (repository / name).write_text("x\n")
    except OSError:
        pytest.skip("the disk takes no such names")
    git(repository, "add", ".")
    assert uncommitted(repository) == [ChangedLines(name, 0, 1)]


def test_text_that_looks_like_a_patch(repository: Path) -> None:
    (repository / "sql.sql").write_text("-- old\n" + "same\n" * 20 + "last\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "second")
    (repository / "sql.sql").write_text("++ b/wrong.py\n@@ -1 +1 @@\n\n+++ b/wrong.py\n@@ -1 +1 @@\n" + "same\n" * 20)
    (repository / "z.py").write_text("x\n")
    git(repository, "add", "z.py")
    assert uncommitted(repository) == [
        ChangedLines("sql.sql", 0, 5),
        ChangedLines("sql.sql", 25, 25),
        ChangedLines("z.py", 0, 1),
    ]


def test_a_file_without_a_last_line_end_whose_text_looks_like_a_patch(repository: Path) -> None:
    (repository / "sql.sql").write_text("old")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "second")
    (repository / "sql.sql").write_text("@@ -1 +1 @@\n++ b/wrong.py\n@@ -1 +1 @@")
    change_lines(repository / "a.py", {19: "x"})
    (repository / "z.py").write_text("x")
    git(repository, "add", "z.py")
    assert uncommitted(repository) == [
        ChangedLines("a.py", 19, 20),
        ChangedLines("sql.sql", 0, 3),
        ChangedLines("z.py", 0, 1),
    ]


def test_a_folder_inside_a_repository_knows_only_itself(repository: Path) -> None:
    (repository / "sub").mkdir()
    (repository / "sub" / "x.py").write_text("x\n")
    change_lines(repository / "a.py", {0: "new\n"})
    git(repository, "add", ".")
    (repository / "untracked.py").write_text("x")
    assert uncommitted(repository / "sub") == [ChangedLines("x.py", 0, 1)]


def test_binary_files_and_links(repository: Path) -> None:
    (repository / "a.bin").write_bytes(b"\0\1\2" * 100)
    (repository / "link").symlink_to("a.py")
    git(repository, "add", ".")
    assert uncommitted(repository) == [ChangedLines("link", 0, 1)]


def test_where_there_is_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert uncommitted(tmp_path) == []
    assert uncommitted(tmp_path / "missing") == []
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    assert uncommitted(tmp_path / "empty") == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert uncommitted(tmp_path / "empty") == []


def test_another_repository_in_the_environment(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_lines(repository / "a.py", {0: "new\n"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other"))
    assert uncommitted(repository) == [ChangedLines("a.py", 0, 1)]


def test_the_configuration_of_a_repository_runs_nothing(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    for name in ("core.fsmonitor", "diff.external", "diff.odd.textconv", "diff.odd.command", "core.pager"):
        git(repository, "config", name, str(script))
    (repository / ".gitattributes").write_text("*.py diff=odd\n")
    for name in ("diff.noprefix", "diff.mnemonicPrefix"):
        git(repository, "config", name, "true")
    git(repository, "config", "color.ui", "always")
    change_lines(repository / "a.py", {0: "new\n"})
    assert ChangedLines("a.py", 0, 1) in uncommitted(repository)
    assert not (tmp_path / "ran").exists()


def test_a_git_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(git_changes, "TIMEOUT", 0.2)
    start = time.monotonic()
    assert uncommitted(tmp_path) == []
    assert time.monotonic() - start < 10


def test_an_answer_that_is_too_long(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (repository / f"new{number:02}.py").write_text("x")
    monkeypatch.setattr(git_changes, "MOST_CHANGES", 10)
    assert [change.path for change in uncommitted(repository)] == [f"new{number:02}.py" for number in range(10)]
    monkeypatch.setattr(git_changes, "MOST_BYTES", 20)  # two names of nine characters and a null each
    assert [change.path for change in uncommitted(repository)] == ["new00.py", "new01.py"]
