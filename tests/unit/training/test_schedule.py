from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from intract_lsp.training.runs import RunRow, RunState
from intract_lsp.training.schedule import IDLE_SECONDS, Moment, changed_lines, last_head, may_begin


@pytest.mark.parametrize(
    ("moment", "begins"),
    [
        (Moment(IDLE_SECONDS, True, False), True),
        (Moment(IDLE_SECONDS - 1, True, False), False),
        (Moment(IDLE_SECONDS, False, False), False),
        (Moment(IDLE_SECONDS, True, True), False),
    ],
)
def test_a_run_begins_by_itself_only_where_it_is_in_nobodys_way(moment: Moment, begins: bool) -> None:
    assert may_begin(moment) is begins


def git(folder: Path, *command: str) -> str:
    names = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *names, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, name: str, lines: int) -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"line {number}\n" for number in range(lines)))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", name)
    return git(folder, "rev-parse", "HEAD")


def test_lines_are_counted_since_the_last_run_and_inside_the_folder(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    first = commit(tmp_path, "a.py", 10)
    assert changed_lines(tmp_path, first) == 0
    second = commit(tmp_path, "b.py", 7)
    commit(tmp_path, "inner/c.py", 5)
    assert changed_lines(tmp_path, first) == 12
    assert changed_lines(tmp_path, second) == 5
    assert changed_lines(tmp_path / "inner", first) == 5
    (tmp_path / "a.py").write_text("not committed\n" * 99)
    assert changed_lines(tmp_path, second) == 5


def test_where_git_does_not_say_nothing_has_changed(tmp_path: Path) -> None:
    assert changed_lines(tmp_path, "no-such-commit") == 0
    assert changed_lines(tmp_path / "nowhere", "") == 0


def test_the_newest_run_that_came_to_its_data_says_what_was_seen(tmp_path: Path) -> None:
    for name, content in (
        ("new", None),
        ("broken", "{"),
        ("middle", json.dumps(["cut", "head"])),
        ("old", '["a", "b"]'),
    ):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "commits.json").write_text(content)
    runs = [row(tmp_path / name) for name in ("new", "broken", "middle", "old")]
    assert last_head(runs) == "head"
    assert last_head(runs[:2]) is None
    assert last_head([row(tmp_path / "new", head="cancelled at"), *runs]) == "cancelled at"


def row(folder: Path, **result: str) -> RunRow:
    return RunRow(folder.name, "/project", str(folder), RunState.STOPPED, "", 0.0, None, 0, 0.0, result)
