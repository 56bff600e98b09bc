"""Snippets of what is not committed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from intract_lsp.index.recent import WINDOW_LINES
from intract_lsp.index.unfinished import MOST, MOST_OF_A_FILE, unfinished


def committed(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / f"{name}.py").write_text(text, encoding="utf-8")
    git = ("git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)


def lines(count: int) -> str:
    return "".join(f"the_value = compute_the_total_of = {number}\n" for number in range(count))


def test_the_lines_around_a_change_of_the_file_written_last_first(tmp_path: Path) -> None:
    committed(tmp_path, one=lines(100), two=lines(100), same=lines(9))
    (tmp_path / "one.py").write_text(lines(100).replace("= 50\n", "= fifty\n"))
    (tmp_path / "two.py").write_text(lines(100).replace("= 3\n", "= three\n"))
    (tmp_path / "new.py").write_text(lines(5))
    for age, name in ((300, "one"), (100, "two"), (200, "new")):
        os.utime(tmp_path / f"{name}.py", (tmp_path.stat().st_mtime - age,) * 2)
    found = unfinished(tmp_path, {"one.py", "two.py", "new.py", "same.py"})
    assert [one.path for one in found] == [(tmp_path / f"{name}.py").as_uri() for name in ("two", "new", "one")]
    assert [one.start_line for one in found] == [0, 0, 50 - (WINDOW_LINES - 1) // 2]
    assert [one.text.count("\n") + 1 for one in found] == [WINDOW_LINES, 5, WINDOW_LINES]
    assert "total_of = fifty" in found[2].text
    assert found[0].age_seconds < found[1].age_seconds < found[2].age_seconds


def test_only_files_that_are_used_and_not_too_many(tmp_path: Path) -> None:
    committed(tmp_path, **{f"part_{number}": lines(200) for number in range(MOST)})
    for number in range(MOST):
        text = lines(200).replace("0\n", "zero\n")
        (tmp_path / f"part_{number}.py").write_text(text)
    files = {f"part_{number}.py" for number in range(MOST)}
    found = unfinished(tmp_path, files)
    assert len(found) == MOST
    assert all(sum(one.path == other.path for other in found) <= MOST_OF_A_FILE for one in found)
    assert {one.path for one in unfinished(tmp_path, {"part_3.py"})} == {(tmp_path / "part_3.py").as_uri()}
    assert unfinished(tmp_path, set()) == ()


def test_without_git_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = 1\n")
    assert unfinished(tmp_path, {"a.py"}) == ()
