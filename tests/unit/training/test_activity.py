from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from intract_lsp.training.activity import Activity


def test_nothing_was_asked_for_yet(tmp_path: Path) -> None:
    assert Activity(tmp_path / "activity").at() == float("-inf")


def test_each_program_knows_of_the_others(tmp_path: Path) -> None:
    here, there = Activity(tmp_path / "activity"), Activity(tmp_path / "activity")
    here.note()
    # A file's time of change is coarser than the clock.
    assert there.at() == pytest.approx(time.monotonic(), abs=1)
    assert here.at() == pytest.approx(time.monotonic(), abs=1)


def test_what_was_asked_before_this_program_began_is_as_old_as_the_file(tmp_path: Path) -> None:
    file = tmp_path / "activity"
    file.touch()
    os.utime(file, (time.time() - 500, time.time() - 500))
    assert Activity(file).at() == pytest.approx(time.monotonic() - 500, abs=5)


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    file = tmp_path / "activity"
    file.touch()
    here = Activity(file)
    first = here.at()
    assert here.at() == first, "the file has not changed"
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: before + jump)
    os.utime(file, (before + jump, before + jump))
    assert here.at() == pytest.approx(time.monotonic(), abs=5)


def test_where_the_file_cannot_be_written_others_are_not_told(tmp_path: Path) -> None:
    here = Activity(tmp_path / "nowhere" / "activity")
    here.note()
    assert here.at() == pytest.approx(time.monotonic(), abs=5)
