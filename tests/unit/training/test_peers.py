"""Several processes that take each step together, on CPUs in place of GPUs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
import torch
from one_training import Run
from training_models import run_spec, write_qwen

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.training.events import Event, Note, Step
from intract_lsp.training.group import Joined
from intract_lsp.training.peers import Peers
from intract_lsp.training.spec import RunSpec
from intract_lsp.training.step import Stepper

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("qwen"))


def steps(run: Run) -> list[Step]:
    found: list[Step] = run.of(Step)
    return found


def processes(spec: RunSpec, count: int) -> RunSpec:
    return replace(spec, trainer=replace(spec.trainer, processes=count))


@pytest.fixture(scope="module")
def spec(qwen: Path) -> RunSpec:
    # Not a multiple of the number of processes: the shares differ.
    return run_spec(qwen, steps=8, batch_size=5)


@pytest.fixture(scope="module")
def alone(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("alone"))
    run.train(spec)
    return run


def assert_the_same(run: Run, other: Run) -> None:
    assert [step.loss for step in steps(run)] == pytest.approx([step.loss for step in steps(other)], rel=1e-3)
    assert steps(run)[-1].tokens == steps(other)[-1].tokens
    ours, theirs = run.weights, other.weights
    assert ours.keys() == theirs.keys()
    for name, weights in ours.items():
        torch.testing.assert_close(weights, theirs[name], rtol=1e-2, atol=1e-4)


def test_several_processes_train_as_one_does(spec: RunSpec, alone: Run, tmp_path: Path) -> None:
    run = Run(tmp_path)
    outcome = run.train(processes(spec, 3))
    assert outcome.steps == 8
    assert_the_same(run, alone)
    assert not multiprocessing.active_children()


def test_one_process_in_two_that_is_stopped_goes_on_where_it_was(spec: RunSpec, alone: Run, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.on = lambda event: run.token.cancel() if isinstance(event, Step) and event.step == 4 else None
    assert run.train(processes(spec, 2)).stopped
    assert not multiprocessing.active_children()
    run.token = CancelToken()
    assert not run.train(processes(spec, 2)).stopped
    assert [step.step for step in steps(run)] == list(range(1, 9))
    assert_the_same(run, alone)


def test_where_memory_is_short_all_do_with_less(
    spec: RunSpec, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Stepper._add_gradients
    failures = iter([True])

    def short(self: Stepper, *arguments: object) -> None:
        whole(self, *arguments)  # type: ignore[arg-type]
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stepper, "_add_gradients", short)
    run = Run(tmp_path)
    run.train(processes(spec, 2))
    assert any("Memory is short" in event.sentence for event in run.of(Note))
    assert_the_same(run, alone)


def test_a_run_whose_peer_is_killed_fails_and_says_so(spec: RunSpec, tmp_path: Path) -> None:
    run = Run(tmp_path)

    def kill(event: Event) -> None:
        if isinstance(event, Step) and event.step == 3:
            for process in multiprocessing.active_children():
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()

    run.on = kill
    with pytest.raises(TrainingError, match="has ended"):
        run.train(processes(spec, 2))
    assert not (tmp_path / "adapter").exists()
    assert not multiprocessing.active_children()


def test_a_peer_that_cannot_load_the_model_says_why(spec: RunSpec, tmp_path: Path) -> None:
    peers = Peers(replace(processes(spec, 2), model_directory=str(tmp_path)))
    try:
        with pytest.raises(TrainingError, match="GPU 1 cannot take part: tiny cannot be loaded"):
            peers.join()
    finally:
        peers.close()


def lead(spec: RunSpec, line: Connection) -> None:
    """Have a peer, say which process it is, and do nothing more."""
    Peers(spec)
    line.send([process.pid for process in multiprocessing.active_children()])
    time.sleep(600)


def test_peers_end_with_the_process_that_leads(spec: RunSpec) -> None:
    context = multiprocessing.get_context("spawn")
    own, theirs = context.Pipe()
    leader = context.Process(target=lead, args=(processes(spec, 2), theirs))
    leader.start()
    (pid,) = own.recv()
    peer = psutil.Process(pid)
    leader.kill()
    leader.join()
    peer.wait(120)


def test_more_gpus_than_there_are_is_refused(spec: RunSpec) -> None:
    asked = processes(spec, 64)
    with pytest.raises(TrainingError, match=r"set (it to no more|training\.gpus to 1)"):
        Peers(replace(asked, trainer=replace(asked.trainer, device="cuda")))


def joined(rank: int, meeting: Path, line: Connection, trouble: str) -> None:
    """Be in a group of two and tell what comes of three rounds, the second with trouble in process 1."""
    torch.set_num_threads(1)
    group = Joined(rank, 2, torch.device("cpu"), meeting)
    heard: list[object] = []
    for number in range(3):
        mine = torch.full((2, 3), float(rank + 1 + number))
        try:
            with group.together():
                if number == 1 and rank == 1:
                    raise {"memory": MemoryError("out of memory"), "other": ValueError("wrong")}[trouble]
            group.add_up([mine])
            heard.append(mine.mean().item())
        except Exception as error:  # noqa: BLE001 - which one is what is asked
            heard.append(type(error).__name__)
    line.send(heard)
    group.leave()


@pytest.mark.parametrize(
    ("trouble", "heard"),
    [("memory", ["MemoryError", "MemoryError"]), ("other", ["TrainingError", "ValueError"])],
)
def test_an_error_in_one_process_is_one_in_all(tmp_path: Path, trouble: str, heard: list[str]) -> None:
    context = multiprocessing.get_context("spawn")
    lines, started = [], []
    for rank in range(2):
        own, theirs = context.Pipe()
        process = context.Process(target=joined, args=(rank, tmp_path / "meeting", theirs, trouble), daemon=True)
        process.start()
        theirs.close()
        lines.append(own)
        started.append(process)
    found = [line.recv() for line in lines]
    assert found == [[3.0, heard[0], 7.0], [3.0, heard[1], 7.0]]
    for process in started:
        process.join(60)
        assert process.exitcode == 0
