"""The supervisor with a process that does what the test wants, and what is left when either of them is killed.

INTRACT_KILLS sets how often (10 unless told otherwise; 30 takes about a minute).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock, Timeout

from intract_lsp.errors import AdapterError, IntractError
from intract_lsp.state import open_state
from intract_lsp.training.activity import Activity
from intract_lsp.training.forgetting import Ended, end_runs
from intract_lsp.training.leftovers import CANCELLED, LEFT, TOO_OLD
from intract_lsp.training.progress import RunStatus
from intract_lsp.training.runs import RunRow, Runs, RunState
from intract_lsp.training.spec import DataSpec, RunSpec, TrainerSpec
from intract_lsp.training.supervisor import OUT_OF_MEMORY, SWITCHED_OFF, Supervisor, Timing

PATIENCE = 20.0
KILLS = int(os.environ.get("INTRACT_KILLS", "10"))
FAKE = Path(__file__).with_name("fake_child.py")
IMPATIENT = Timing(lock=0.02, cancel=0.5, quiet=0.2, look=0.02)

STEP = {"event": "step", "step": 1, "steps": 4, "loss": 2.0, "tokens": 9, "tokens_per_second": 3.5, "seconds_left": 6.0}
TRAINING = {"event": "stage", "name": "train", "message": "Training", "fraction": 0.0}


def finished(status: str = "promoted", **figures: float) -> dict[str, Any]:
    reason = {"promoted": "It is better.", "rejected": "No gain, nothing changed."}.get(status, f"It {status}.")
    return {"event": "finished", "status": status, "reason": reason, "adapter": "a-1", "figures": figures}


def say(*events: object) -> list[dict[str, Any]]:
    return [{"say": event} for event in events]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.005)


def command(spec: Path) -> list[str]:
    return [sys.executable, str(FAKE), str(spec)]


class Bench:
    """A place for supervisors: one table, one lock, workspaces with scripts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.delivered: list[tuple[str, str]] = []
        self.refusal: IntractError | None = None
        self.supervisors: list[Supervisor] = []
        self.heard: list[RunStatus] = []
        self._numbers = iter(range(10_000))
        (root / "runs").mkdir(parents=True, exist_ok=True)

    def supervisor(self, timing: Timing = IMPATIENT) -> Supervisor:
        activity = Activity(self.root / "activity")
        made = Supervisor(self.open_runs, self.root / "training.lock", self.deliver, activity, command, timing)
        made.on_status = self.heard.append
        self.supervisors.append(made)
        return made

    def open_runs(self) -> Runs:
        return Runs(open_state(self.root / "state.db"))

    def deliver(self, spec: RunSpec, adapter: str) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.delivered.append((spec.id, adapter))
        return "It serves now."

    def workspace(self, *script: dict[str, Any], name: str = "work") -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        (folder / "script.json").write_text(json.dumps(script))
        return folder

    def spec(self, workspace: Path, device: str = "cpu") -> RunSpec:
        run = f"run-{next(self._numbers)}"
        folder = self.root / "runs" / run
        trainer = TrainerSpec(device=device)
        return RunSpec(run, str(workspace), str(folder), "base", "/models/base", "", trainer=trainer)

    def row(self, run: str) -> RunRow:
        runs = self.open_runs()
        found = runs.get(run)
        runs.close()
        assert found is not None
        return found

    def starts(self, workspace: Path) -> list[int]:
        path = workspace / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for supervisor in bench.supervisors:
        assert supervisor.stop(PATIENCE)


def ended(future: Future[RunStatus]) -> RunStatus:
    return future.result(PATIENCE)


def test_a_run_is_carried_out_and_its_adapter_delivered(bench: Bench) -> None:
    supervisor = bench.supervisor()
    spec = bench.spec(bench.workspace(*say(TRAINING, STEP, finished(nll_base=2.0, nll_adapter=1.5))))
    assert supervisor.start(spec) == spec.id
    last = ended(supervisor.end_of(spec.id))
    assert (last.state, last.adapter, last.figures["nll_base"]) == (RunState.PROMOTED, "a-1", 2.0)
    assert "It is better." in last.message
    assert "It serves now." in last.message
    assert bench.delivered == [(spec.id, "a-1")]
    row = bench.row(spec.id)
    assert (row.state, row.message, row.result["adapter"]) == (RunState.PROMOTED, last.message, "a-1")
    assert sorted(path.name for path in Path(spec.folder).iterdir()) == ["run.log", "spec.json"]


def test_what_its_processes_work_is_counted_while_they_run_and_afterwards(bench: Bench) -> None:
    supervisor = bench.supervisor()
    assert supervisor.worked == 0.0
    workspace = bench.workspace(*say(STEP), {"hold": "go"}, *say(finished("rejected")))
    first = supervisor.start(bench.spec(workspace))
    until(lambda: (status := supervisor.status()) is not None and status.step)
    meanwhile = supervisor.worked
    assert meanwhile > 0.0, "to start Python takes some hundredths of a second"
    (workspace / "go").touch()
    ended(supervisor.end_of(first))
    afterwards = supervisor.worked
    assert afterwards >= meanwhile
    ended(supervisor.end_of(supervisor.start(bench.spec(bench.workspace(*say(STEP, finished("rejected")))))))
    assert supervisor.worked > afterwards


@pytest.mark.parametrize("how", ["ends", "cancelled", "killed twice"])
def test_the_model_makes_room_once_for_as_long_as_the_run_takes(bench: Bench, how: str) -> None:
    room = {"event": "room", "sentence": "It needs 9 GiB."}
    last: dict[str, Any] = {"exit": 9} if how == "killed twice" else {"say": finished("rejected")}
    workspace = bench.workspace(*say(TRAINING, room, STEP), {"hold": "go"}, last)
    supervisor = bench.supervisor()
    asked: list[bool] = []
    supervisor.make_room = asked.append
    run = supervisor.start(bench.spec(workspace))
    until(lambda: (status := supervisor.status()) is not None and status.step)
    assert asked == [True]
    supervisor.note_activity()
    time.sleep(3 * IMPATIENT.quiet)
    status = supervisor.status()
    assert status is not None
    assert status.notes == ("It needs 9 GiB.",)
    assert not any(told.paused for told in bench.heard), "there are no completions to give way to"
    if how == "cancelled":
        supervisor.cancel(run)
    elif how == "killed twice":
        # Each process asks anew; the model is loaded again when the last of them is gone.
        (workspace / "script.json").write_text(json.dumps(say(TRAINING, room, finished("rejected"))))
    (workspace / "go").touch()
    ended(supervisor.end_of(run))
    until(lambda: asked[-1] is False)
    assert asked == ([True, True, False] if how == "killed twice" else [True, False])
    other = supervisor.start(bench.spec(bench.workspace(*say(TRAINING, finished("rejected")), name="small")))
    ended(supervisor.end_of(other))
    assert asked.count(False) == 1, "what did not need room gives none back"


def test_what_is_told_meanwhile(bench: Bench) -> None:
    supervisor = bench.supervisor()
    workspace = bench.workspace(*say(TRAINING, STEP, {"event": "note", "sentence": "Note."}), {"hold": "go"})
    run = supervisor.start(bench.spec(workspace))
    until(lambda: (status := supervisor.status()) is not None and status.notes)
    status = supervisor.status(run)
    assert status is not None
    assert status.line == "step 1 of 4, loss 2.000, 4 tokens/s, 6 s left"
    assert (status.values()["fraction"], status.notes) == (0.2475, ("Note.",))
    fractions = [told.fraction for told in bench.heard if told.fraction is not None]
    assert fractions == sorted(fractions)


@pytest.mark.parametrize(
    ("said", "state"),
    [("rejected", RunState.REJECTED), ("shadow", RunState.SUCCEEDED), ("failed", RunState.FAILED)],
)
def test_other_ends_change_nothing(bench: Bench, said: str, state: RunState) -> None:
    supervisor = bench.supervisor()
    run = supervisor.start(bench.spec(bench.workspace(*say(finished(said)))))
    assert ended(supervisor.end_of(run)).state is state
    assert bench.delivered == []
    assert bench.row(run).state is state


def test_an_adapter_that_cannot_be_put_in_place_fails_the_run(bench: Bench) -> None:
    bench.refusal = AdapterError("Its files are damaged: train again.")
    supervisor = bench.supervisor()
    run = supervisor.start(bench.spec(bench.workspace(*say(finished()))))
    last = ended(supervisor.end_of(run))
    assert last.state is RunState.FAILED
    assert "Its files are damaged" in last.message


def test_lines_that_are_no_events_are_passed_over(bench: Bench) -> None:
    supervisor = bench.supervisor()
    rubbish = ["", "{", "[]", "null", '{"event": "nothing"}', '{"event": "step"}', "x" * 3_000_000, "\x00\ufffd"]
    run = supervisor.start(bench.spec(bench.workspace(*say(*rubbish, finished("rejected")))))
    assert ended(supervisor.end_of(run)).state is RunState.REJECTED


def test_a_process_that_dies_without_a_word_is_begun_again_but_not_for_ever(bench: Bench) -> None:
    supervisor = bench.supervisor()
    workspace = bench.workspace({"exit": 3})
    run = supervisor.start(bench.spec(workspace))
    last = ended(supervisor.end_of(run))
    assert last.state is RunState.FAILED
    assert "(status 3)" in last.message
    assert "run.log" in last.message
    assert len(bench.starts(workspace)) == 3


def test_a_process_that_dies_at_the_same_step_each_time_is_not_begun_again_for_ever(bench: Bench) -> None:
    supervisor = bench.supervisor()
    workspace = bench.workspace(*say(STEP), {"exit": 9})
    run = supervisor.start(bench.spec(workspace))
    assert ended(supervisor.end_of(run)).state is RunState.FAILED
    assert len(bench.starts(workspace)) == 4, "once to get there, three times without getting further"


def test_a_process_that_the_system_ends_since_memory_is_out_goes_on_with_less(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter(range(100))
    monkeypatch.setattr("intract_lsp.training.attempt.oom_kills", lambda: next(kills))
    supervisor = bench.supervisor()
    workspace = bench.workspace(*say(STEP), {"signal": 9})
    spec = bench.spec(workspace)
    supervisor.start(spec)
    last = ended(supervisor.end_of(spec.id))
    assert last.state is RunState.FAILED
    assert last.notes == (OUT_OF_MEMORY,)
    assert last.message.startswith("Memory has run out")
    written = json.loads((Path(spec.folder) / "spec.json").read_text())
    assert written["trainer"]["gradient_checkpointing"] is True


def test_a_process_that_somebody_kills_goes_on_as_it_was(bench: Bench) -> None:
    supervisor = bench.supervisor()
    workspace = bench.workspace(*say(STEP), {"signal": 9})
    spec = bench.spec(workspace)
    supervisor.start(spec)
    last = ended(supervisor.end_of(spec.id))
    assert (last.notes, "(status -9)" in last.message) == ((), True)


def test_a_process_that_closes_its_output_and_stays_is_ended(bench: Bench) -> None:
    supervisor = bench.supervisor()
    run = supervisor.start(bench.spec(bench.workspace({"deaf": True}, *say(finished("rejected")), {"hold": "never"})))
    assert ended(supervisor.end_of(run)).state is RunState.REJECTED


def test_a_program_that_cannot_be_started(bench: Bench) -> None:
    activity = Activity(bench.root / "activity")
    nowhere = lambda spec: ["/no/such"]  # noqa: E731
    supervisor = Supervisor(bench.open_runs, bench.root / "lock", bench.deliver, activity, nowhere, IMPATIENT)
    bench.supervisors.append(supervisor)
    run = supervisor.start(bench.spec(bench.workspace()))
    assert "could not be started" in ended(supervisor.end_of(run)).message


def test_a_table_that_cannot_be_opened_fails_the_run(bench: Bench) -> None:
    (bench.root / "state.db").mkdir()
    supervisor = bench.supervisor()
    run = supervisor.start(bench.spec(bench.workspace()))
    last = ended(supervisor.end_of(run))
    assert (last.state, "state.db" in last.message) == (RunState.FAILED, True)


def test_a_cancelled_run_leaves_only_its_record(bench: Bench) -> None:
    supervisor = bench.supervisor()
    spec = bench.spec(bench.workspace(*say(STEP), {"hold": "never"}))
    supervisor.start(spec)
    until(lambda: (status := supervisor.status(spec.id)) is not None and status.step)
    assert supervisor.cancel(spec.id)
    last = ended(supervisor.end_of(spec.id))
    assert (last.state, last.message) == (RunState.STOPPED, CANCELLED)
    assert not Path(spec.folder).exists()
    assert bench.row(spec.id).state is RunState.STOPPED
    assert not supervisor.cancel(spec.id)
    assert ended_ids(bench, supervisor, Path(spec.workspace)) == ()


def test_a_run_that_is_being_cancelled_when_the_program_ends_does_not_come_back(bench: Bench) -> None:
    supervisor = bench.supervisor(Timing(lock=0.02, cancel=PATIENCE, quiet=0.2))
    workspace = bench.workspace({"deaf": True}, *say(STEP), {"hold": "never"})
    spec = bench.spec(workspace)
    supervisor.start(spec)
    until(lambda: (status := supervisor.status(spec.id)) is not None and status.step)
    (Path(spec.folder) / "commits.json").write_text('["cut", "head"]')
    supervisor.cancel(spec.id)
    until(lambda: not (Path(spec.folder) / "spec.json").exists())
    assert supervisor.stop(PATIENCE)
    assert_dropped(bench, spec)
    assert not any(runs_still(pid) for pid in bench.starts(workspace))


def test_a_run_that_is_being_cancelled_when_the_program_is_killed_does_not_come_back(bench: Bench) -> None:
    spec = bench.spec(bench.workspace())
    Path(spec.folder, "checkpoints").mkdir(parents=True)
    Path(spec.folder, "commits.json").write_text('["cut", "head"]')
    runs = bench.open_runs()
    runs.add(spec, os.getpid())
    runs.update(spec.id, RunState.RUNNING, pid=2**22 + 1)
    runs.close()
    assert_dropped(bench, spec)


def assert_dropped(bench: Bench, spec: RunSpec) -> None:
    assert ended_ids(bench, bench.supervisor(), Path(spec.workspace)) == ()
    assert not Path(spec.folder).exists()
    row = bench.row(spec.id)
    assert (row.state, row.message, row.result["head"]) == (RunState.STOPPED, CANCELLED, "head")


def test_what_waits_begins_when_fine_tuning_is_allowed(bench: Bench) -> None:
    supervisor = bench.supervisor()
    allowed = False
    supervisor.may_begin = lambda: allowed
    run = supervisor.start(bench.spec(bench.workspace(*say(finished("rejected")))))
    until(lambda: (supervisor.status(run) or pytest.fail()).message == SWITCHED_OFF)
    allowed = True
    assert ended(supervisor.end_of(run)).state is RunState.REJECTED


def test_who_tidies_up_is_told_of_every_end(bench: Bench) -> None:
    supervisor = bench.supervisor()
    over: list[str] = []
    supervisor.on_over = lambda spec: over.append(spec.id)
    first = supervisor.start(bench.spec(bench.workspace(*say(finished("rejected")))))
    ended(supervisor.end_of(first))
    second = supervisor.start(bench.spec(bench.workspace({"hold": "never"}, name="other")))
    supervisor.cancel(second)
    ended(supervisor.end_of(second))
    until(lambda: over == [first, second])


def test_a_run_that_cannot_be_recorded_leaves_the_one_at_work_alone(bench: Bench) -> None:
    supervisor = bench.supervisor()
    first = bench.spec(bench.workspace({"hold": "go"}, *say(finished("rejected"))))
    supervisor.start(first)
    until(lambda: bench.starts(Path(first.workspace)))
    twin = supervisor.start(replace(first, folder=str(bench.root / "runs" / "twin")))
    supervisor.recover([]).result(PATIENCE)
    assert twin == first.id
    (Path(first.workspace) / "go").touch()
    until(lambda: bench.row(first.id).state is RunState.REJECTED)


def ended_ids(bench: Bench, supervisor: Supervisor, *workspaces: Path) -> tuple[str, ...]:
    return supervisor.recover(workspaces).result(PATIENCE)


def test_a_deaf_process_is_killed(bench: Bench) -> None:
    supervisor = bench.supervisor()
    workspace = bench.workspace({"deaf": True}, *say(STEP), {"hold": "never"})
    run = supervisor.start(bench.spec(workspace))
    until(lambda: (status := supervisor.status(run)) is not None and status.step)
    began = time.monotonic()
    supervisor.cancel(run)
    assert ended(supervisor.end_of(run)).state is RunState.STOPPED
    assert IMPATIENT.cancel <= time.monotonic() - began < PATIENCE
    assert not psutil.pid_exists(bench.starts(workspace)[0])


def test_one_after_the_other(bench: Bench) -> None:
    supervisor = bench.supervisor()
    first = bench.spec(bench.workspace({"hold": "go"}, *say(finished("rejected")), name="one"))
    second = bench.spec(bench.workspace(*say(finished("rejected")), name="two"))
    third = bench.spec(bench.workspace(*say(finished("rejected")), name="three"))
    for spec in (first, second, third):
        supervisor.start(spec)
    until(lambda: bench.starts(Path(first.workspace)))
    supervisor.cancel(third.id)
    assert ended(supervisor.end_of(third.id)).state is RunState.STOPPED
    # The machine is still this program's.
    with pytest.raises(Timeout):
        FileLock(bench.root / "training.lock").acquire(timeout=0)
    assert bench.starts(Path(second.workspace)) == []
    status = supervisor.status(second.id)
    assert status is not None
    assert status.state is RunState.QUEUED
    assert bench.row(second.id).state is RunState.QUEUED
    (Path(first.workspace) / "go").touch()
    assert ended(supervisor.end_of(second.id)).state is RunState.REJECTED


def test_programs_wait_for_each_other_in_order(bench: Bench) -> None:
    one, two, three = bench.supervisor(), bench.supervisor(), bench.supervisor()
    specs = [bench.spec(bench.workspace({"hold": "go"}, *say(finished("rejected")), name=name)) for name in "abc"]
    one.start(specs[0])
    until(lambda: bench.starts(Path(specs[0].workspace)))
    two.start(specs[1])
    until(lambda: "Another program" in (two.status() or pytest.fail()).message)
    three.start(specs[2])
    until(lambda: "Another program" in (three.status() or pytest.fail()).message)
    for number, supervisor in enumerate((one, two, three)):
        assert bench.starts(Path(specs[min(number + 1, 2)].workspace)) == [] or number == 2
        (Path(specs[number].workspace) / "go").touch()
        assert ended(supervisor.end_of(specs[number].id)).state is RunState.REJECTED
        if number < 2:
            until(lambda following=number + 1: bench.starts(Path(specs[following].workspace)))


def test_a_run_on_the_cpu_pauses_while_completions_are_asked_for(bench: Bench) -> None:
    supervisor = bench.supervisor(Timing(lock=0.02, cancel=0.5, quiet=0.5))
    workspace = bench.workspace(*say(STEP), {"hold": "go"}, *say(finished("rejected")))
    run = supervisor.start(bench.spec(workspace))
    until(lambda: (status := supervisor.status(run)) is not None and status.step)
    process = psutil.Process(bench.starts(workspace)[0])
    supervisor.note_activity()
    until(lambda: process.status() == psutil.STATUS_STOPPED)
    status = supervisor.status(run)
    assert status is not None
    assert status.paused
    assert status.line.startswith("Paused while you type")
    (workspace / "go").touch()
    last = ended(supervisor.end_of(run))
    assert (last.state, last.paused) == (RunState.REJECTED, False)


def test_a_run_gives_way_to_another_programs_completions(bench: Bench) -> None:
    supervisor = bench.supervisor(Timing(lock=0.02, cancel=0.5, quiet=0.5, look=0.02))
    workspace = bench.workspace(*say(STEP), {"hold": "go"}, *say(finished("rejected")))
    run = supervisor.start(bench.spec(workspace))
    until(lambda: (status := supervisor.status(run)) is not None and status.step)
    process = psutil.Process(bench.starts(workspace)[0])
    bench.supervisor().note_activity()
    until(lambda: process.status() == psutil.STATUS_STOPPED)
    (workspace / "go").touch()
    assert ended(supervisor.end_of(run)).state is RunState.REJECTED


def test_a_paused_run_is_cancelled_all_the_same(bench: Bench) -> None:
    supervisor = bench.supervisor(Timing(lock=0.02, cancel=PATIENCE, quiet=PATIENCE))
    workspace = bench.workspace(*say(STEP), {"hold": "never"})
    run = supervisor.start(bench.spec(workspace))
    until(lambda: (status := supervisor.status(run)) is not None and status.step)
    supervisor.note_activity()
    until(lambda: (status := supervisor.status(run)) is not None and status.paused)
    supervisor.cancel(run)
    assert ended(supervisor.end_of(run)).state is RunState.STOPPED


@pytest.mark.parametrize(("device", "may_pause"), [("cuda", True), ("cpu", False)])
def test_a_run_that_is_in_nobodys_way_goes_on(bench: Bench, device: str, may_pause: bool) -> None:
    supervisor = bench.supervisor()
    supervisor.may_pause = lambda: may_pause
    run = supervisor.start(bench.spec(bench.workspace(*say(STEP), {"hold": "go"}), device))
    until(lambda: (status := supervisor.status(run)) is not None and status.step)
    supervisor.note_activity()
    # The thread has looked at the activity when it has obeyed what was left behind it.
    supervisor.recover([]).result(PATIENCE)
    status = supervisor.status(run)
    assert status is not None
    assert not status.paused


def test_a_program_that_ends_leaves_its_run_to_the_next(bench: Bench) -> None:
    workspace = bench.workspace(*say(STEP), {"hold": "go"}, *say(finished("rejected")))
    first = bench.supervisor()
    spec = bench.spec(workspace)
    first.start(spec)
    until(lambda: (status := first.status(spec.id)) is not None and status.step)
    assert first.stop(PATIENCE)
    assert first.end_of(spec.id).cancelled()
    until(lambda: (Path(spec.folder) / "checkpoints" / "written").exists())
    other = bench.supervisor()
    assert ended_ids(bench, other, bench.root / "elsewhere") == ()
    assert bench.row(spec.id).message == LEFT
    assert ended_ids(bench, other, workspace) == (spec.id,)
    (workspace / "go").touch()
    assert ended(other.end_of(spec.id)).state is RunState.REJECTED
    assert len(bench.starts(workspace)) == 2


def test_what_waits_when_a_program_ends_goes_on_too(bench: Bench) -> None:
    workspace = bench.workspace(*say(finished("rejected")))
    lock = FileLock(bench.root / "training.lock")
    with lock:
        first = bench.supervisor()
        run = first.start(bench.spec(workspace))
        until(lambda: "Another program" in (first.status() or pytest.fail()).message)
        assert ended_ids(bench, first, workspace) == ()
        assert first.stop(PATIENCE)
    second = bench.supervisor()
    assert ended_ids(bench, second, workspace) == (run,)
    assert ended(second.end_of(run)).state is RunState.REJECTED


def test_a_run_that_was_left_behind_long_ago_is_over(bench: Bench) -> None:
    workspace = bench.workspace(*say(STEP), {"hold": "never"})
    first = bench.supervisor()
    run = first.start(bench.spec(workspace))
    until(lambda: (status := first.status(run)) is not None and status.step)
    first.stop(PATIENCE)
    state = open_state(bench.root / "state.db")
    state.database.execute("UPDATE runs SET created = created - 1e6")
    state.database.conn.commit()
    state.close()
    assert ended_ids(bench, bench.supervisor(), workspace) == ()
    assert (bench.row(run).state, bench.row(run).message) == (RunState.FAILED, TOO_OLD)


def test_what_learns_from_a_file_that_is_forgotten_ends(bench: Bench) -> None:
    first, supervisor, stranger = bench.supervisor(), bench.supervisor(), bench.supervisor()
    workspace = bench.workspace(*say(STEP), {"hold": "never"})
    interrupted = bench.spec(workspace)
    first.start(interrupted)
    until(lambda: (status := first.status(interrupted.id)) is not None and status.step)
    first.stop(PATIENCE)
    until(lambda: not any(runs_still(pid) for pid in bench.starts(workspace)))
    at_work, waiting, elsewhere = (bench.spec(workspace) for _ in range(3))
    without = replace(bench.spec(workspace), data=DataSpec(exclude=("a.py",)))
    for spec in (at_work, waiting, without):
        supervisor.start(spec)
    until(lambda: (status := supervisor.status(at_work.id)) is not None and status.step)
    stranger.start(elsewhere)
    until(lambda: "Another program" in (stranger.status() or pytest.fail()).message)
    runs = bench.open_runs()
    found = end_runs(supervisor, runs, str(workspace), "a.py")
    assert set(found.ended) == {at_work.id, waiting.id, interrupted.id}
    assert found.elsewhere == (elsewhere.id,)
    assert elsewhere.id in found.sentence and at_work.id in found.sentence
    assert not any(Path(spec.folder).exists() for spec in (at_work, waiting, interrupted))
    assert not (supervisor.status(without.id) or pytest.fail()).state.is_over
    assert end_runs(supervisor, runs, str(workspace / "other"), "a.py") == Ended((), ())
    runs.close()


def test_a_damaged_spec_fails_its_run(bench: Bench) -> None:
    workspace = bench.workspace(*say(STEP), {"hold": "never"})
    first = bench.supervisor()
    spec = bench.spec(workspace)
    first.start(spec)
    until(lambda: (status := first.status(spec.id)) is not None and status.step)
    first.stop(PATIENCE)
    (Path(spec.folder) / "spec.json").write_text("{")
    assert ended_ids(bench, bench.supervisor(), workspace) == ()
    assert bench.row(spec.id).state is RunState.FAILED


# --- kills


def test_a_process_killed_at_random_moments_is_begun_again_and_comes_to_its_end(bench: Bench) -> None:
    randomness = random.Random(5)
    supervisor = bench.supervisor()
    for number in range(KILLS):
        lives = [each for index in range(20) for each in (*say({**STEP, "step": index}), {"hold": f"go{number}"})]
        workspace = bench.workspace(*lives, *say(finished()), name=f"work{number}")
        spec = bench.spec(workspace)
        supervisor.start(spec)
        until(lambda workspace=workspace: bench.starts(workspace))
        if randomness.random() < 0.5:
            until(lambda run=spec.id: (status := supervisor.status(run)) is not None and status.step is not None)
            supervisor.note_activity()
        time.sleep(randomness.uniform(0, 0.05))
        psutil.Process(bench.starts(workspace)[0]).kill()
        (workspace / f"go{number}").touch()
        assert ended(supervisor.end_of(spec.id)).state is RunState.PROMOTED
        assert bench.row(spec.id).state is RunState.PROMOTED
        assert bench.delivered == [(f"run-{done}", "a-1") for done in range(number + 1)]
        assert len(bench.starts(workspace)) == 2


def test_a_program_killed_at_random_moments_leaves_runs_that_go_on(bench: Bench) -> None:
    randomness = random.Random(6)
    workspace = bench.workspace(*say(TRAINING, STEP), {"hold": "go"}, *say(finished("rejected")))
    interrupted = 0
    for _ in range(KILLS):
        program = subprocess.Popen(
            [sys.executable, __file__, str(bench.root), str(workspace)], stdout=subprocess.PIPE, text=True
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "started\n"
        time.sleep(randomness.uniform(0, 0.25))
        program.kill()
        program.communicate(timeout=PATIENCE)
        runs = bench.open_runs()
        unfinished = [row.id for row in runs.unfinished()]
        known = [row.id for row in runs.all()]
        runs.close()
        assert set(unfinished) <= set(known)
        # Nobody holds its process: it notices by itself, paused or not.
        until(lambda: not any(runs_still(pid) for pid in bench.starts(workspace)))
        (workspace / "go").touch()
        survivor = bench.supervisor()
        goes_on = ended_ids(bench, survivor, workspace)
        assert goes_on == tuple(unfinished)
        interrupted += len(goes_on)
        for run in goes_on:
            assert ended(survivor.end_of(run)).state is RunState.REJECTED
        assert survivor.stop(PATIENCE)
        runs = bench.open_runs()
        assert runs.unfinished() == []
        runs.close()
        (workspace / "go").unlink()
    assert interrupted >= KILLS / 2


def runs_still(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def program(root: Path, workspace: Path) -> None:
    """Run a supervisor, and keep its run busy and paused in turn, until this process is killed."""
    bench = Bench(root)
    supervisor = bench.supervisor()
    spec = bench.spec(workspace)
    run = f"run-{os.getpid()}"
    supervisor.start(RunSpec(run, spec.workspace, str(root / "runs" / run), "base", "/models/base", ""))
    print("started", flush=True)
    while True:
        supervisor.note_activity()
        time.sleep(0.05)


if __name__ == "__main__":
    program(Path(sys.argv[1]), Path(sys.argv[2]))
