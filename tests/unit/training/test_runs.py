from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from intract_lsp.errors import TrainingError
from intract_lsp.state import open_state
from intract_lsp.training.runs import Runs, RunState
from intract_lsp.training.spec import RunSpec


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(tmp_path: Path, clock: Clock) -> Iterator[Runs]:
    runs = Runs(open_state(tmp_path / "state.db"), clock)
    yield runs
    runs.close()


def spec(id_: str, workspace: str = "/project") -> RunSpec:
    return RunSpec(id_, workspace, f"/runs/{id_}", "tiny", "/models/tiny", "qwen2.5-coder")


def test_a_run_from_the_queue_to_its_end(runs: Runs) -> None:
    runs.add(spec("a"), os.getpid())
    row = runs.get("a")
    assert row is not None
    assert (row.workspace, row.folder, row.state) == ("/project", "/runs/a", RunState.QUEUED)
    assert (row.created, row.ended, row.pid) == (1001.0, None, os.getpid())
    assert row.pid_started == pytest.approx(psutil.Process().create_time(), abs=1)
    runs.update("a", RunState.RUNNING, "It trains.", pid=1)
    row = runs.get("a")
    assert row is not None
    assert (row.state, row.message, row.pid, row.result) == (RunState.RUNNING, "It trains.", 1, {})
    runs.update("a", RunState.PROMOTED, "A gain.", result={"nll_base": 1.5, "promoted": True})
    row = runs.get("a")
    assert row is not None
    assert (row.state, row.ended, row.pid) == (RunState.PROMOTED, 1002.0, 1)
    assert row.result == {"nll_base": 1.5, "promoted": True}
    runs.update("a", RunState.QUEUED)
    assert runs.get("a") == replace(row, state=RunState.QUEUED, message="", ended=None)


def test_the_order_is_that_of_the_queue_whatever_the_clock_says(runs: Runs, clock: Clock) -> None:
    for number, id_ in enumerate("cab"):
        clock.now = 500.0 - 100 * number
        runs.add(spec(id_, "/other" if id_ == "a" else "/project"), os.getpid())
    runs.update("c", RunState.EVALUATING)
    assert [row.id for row in runs.unfinished()] == ["c", "a", "b"]
    assert [row.id for row in runs.all()] == ["b", "a", "c"]
    assert [row.id for row in runs.all("/project", most=1)] == ["b"]
    for id_, state in (("c", RunState.FAILED), ("a", RunState.STOPPED)):
        runs.update(id_, state)
    assert [row.id for row in runs.unfinished()] == ["b"]
    assert [row.id for row in runs.stopped()] == ["a"]
    latest = runs.latest("/other")
    assert latest is not None
    assert latest.id == "a"
    assert runs.latest("/nowhere") is None
    assert runs.get("d") is None


def test_a_name_is_used_once(runs: Runs) -> None:
    runs.add(spec("a"), os.getpid())
    with pytest.raises(TrainingError, match="There is a run a already"):
        runs.add(spec("a"), os.getpid())


def test_a_process_that_is_gone_began_at_no_time(runs: Runs) -> None:
    runs.add(spec("a"), 2**22 + 1)
    row = runs.get("a")
    assert row is not None
    assert row.pid_started == 0.0


def test_a_database_that_cannot_be_written_is_told(tmp_path: Path, runs: Runs) -> None:
    runs.add(spec("a"), os.getpid())
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("CREATE TRIGGER no BEFORE UPDATE ON runs BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(TrainingError, match=r"cannot be written \(disk full\): free space"):
        runs.update("a", RunState.RUNNING)
    row = runs.get("a")
    assert row is not None
    assert row.state is RunState.QUEUED


@pytest.mark.parametrize("state", RunState)
def test_what_is_over(state: RunState) -> None:
    assert state.is_over == (state.value not in ("queued", "running", "evaluating"))
