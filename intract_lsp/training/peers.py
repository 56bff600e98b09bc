"""The further processes of a run on several GPUs, and what the one that leads tells them.

The leader alone decides, validates and writes; a peer does what it is told. Rank r trains on GPU r.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.training.checkpoint import Checkpoints
from intract_lsp.training.group import Joined
from intract_lsp.training.ladder import Rung, give_back
from intract_lsp.training.network import attach, checkpoint_gradients, load_base
from intract_lsp.training.optimisers import load_state, make_optimiser
from intract_lsp.training.parent import signal_at_parents_death
from intract_lsp.training.sample import Sample
from intract_lsp.training.spec import RunSpec
from intract_lsp.training.step import Stepper

log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""For which a peer is waited for before it is killed."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Take weights and optimiser from the latest checkpoint."""

    checkpoints: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Take:
    """Take a step; see ``Stepper.take``."""

    number: int
    batch: tuple[tuple[bool, Sample], ...]
    rung: Rung
    rate: float


class Peers:
    """The processes of a run beside this one, which leads."""

    def __init__(self, spec: RunSpec, dtype: torch.dtype | None = None) -> None:
        """Begin to start them; ``dtype`` is as in ``load_base``, the same for all.

        Raises ``TrainingError`` where there are not as many GPUs as the run has processes.
        """
        count = spec.trainer.processes
        cuda = torch.device(spec.trainer.device).type == "cuda"
        if cuda and not (torch.distributed.is_available() and torch.distributed.is_nccl_available()):
            raise TrainingError("Several GPUs train together on Linux alone: set training.gpus to 1.")
        if cuda and count > torch.cuda.device_count():
            raise TrainingError(
                f"training.gpus is {count}, and {torch.cuda.device_count()} can be used here: set it to no more."
            )
        self._device = torch.device("cuda", 0) if cuda else torch.device("cpu")
        self._folder = tempfile.TemporaryDirectory(prefix="intract-peers-")
        self._meeting = Path(self._folder.name) / "meeting"
        self._size = count
        self._group: Joined | None = None
        self._processes: list[BaseProcess] = []
        self._lines: list[Connection] = []
        context = multiprocessing.get_context("spawn")
        for rank in range(1, count):
            own, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(spec, dtype, rank, theirs, self._meeting), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._lines.append(own)

    def join(self) -> Joined:
        """Wait until all have loaded the model. Raises ``TrainingError`` where one cannot."""
        for rank, line in enumerate(self._lines, 1):
            try:
                trouble = line.recv()
            except EOFError:
                trouble = f"The process for GPU {rank} has ended: see the run's log, run.log."
            if trouble:
                raise TrainingError(str(trouble))
        self._group = Joined(0, self._size, self._device, self._meeting)
        return self._group

    def tell(self, task: Resume | Take) -> None:
        """Have all peers do something. Raises ``TrainingError`` where one is gone."""
        for rank, line in enumerate(self._lines, 1):
            try:
                line.send(task)
            except OSError as error:
                raise TrainingError(f"The process for GPU {rank} has ended: see the run's log, run.log.") from error

    def close(self) -> None:
        """End them."""
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join(END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        if self._group is not None:
            self._group.leave()
        self._folder.cleanup()


def _serve(spec: RunSpec, dtype: torch.dtype | None, rank: int, line: Connection, meeting: Path) -> None:
    """Be a peer until the leader has closed the line, or is gone."""
    sys.stdout = sys.stderr  # standard output is the leader's, for its events
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the leader's to obey
    signal_at_parents_death(signal.SIGKILL)
    try:
        peer = _Peer(spec, dtype, rank)
    except (TrainingError, RuntimeError, MemoryError) as error:
        line.send(f"GPU {rank} cannot take part: {error}")
        return
    with suppress(EOFError, OSError):  # the leader is gone, or needs no peers any more
        line.send("")
        try:
            peer.join(meeting)
            while True:
                peer.do(line.recv())
        except TrainingError as error:
            log.info("process %d of the run ends: %s", rank, error)


class _Peer:
    """A model and its optimiser, as the leader has them."""

    def __init__(self, spec: RunSpec, dtype: torch.dtype | None, rank: int) -> None:
        trainer = spec.trainer
        self._rank = rank
        if torch.device(trainer.device).type == "cuda":
            trainer = replace(trainer, device=f"cuda:{rank}")
            torch.cuda.set_device(rank)
        self._spec = replace(spec, trainer=trainer)
        self._trainable = attach(load_base(self._spec, dtype), self._spec)
        self._optimiser = make_optimiser(trainer.optimiser, self._trainable.parameters(), trainer.learning_rate)
        self._checkpointing = trainer.gradient_checkpointing

    def join(self, meeting: Path) -> None:
        trainer = self._spec.trainer
        group = Joined(self._rank, trainer.processes, self._trainable.base.device, meeting)
        self._stepper = Stepper(self._trainable, self._optimiser, trainer, CancelToken(), group)

    def do(self, task: Resume | Take) -> None:
        if isinstance(task, Resume):
            found = Checkpoints(task.checkpoints).load(task.fingerprint)
            if found is None:
                raise TrainingError("The run's checkpoint cannot be read: start the run again.")
            _, weights, state = found
            self._trainable.load(weights)
            load_state(self._optimiser, state)
            return
        if task.rung.checkpointing and not self._checkpointing:
            checkpoint_gradients(self._trainable.base)
            self._checkpointing = True
        with suppress(MemoryError):  # the leader knows, and tells to take the step with less
            self._stepper.take(task.number, task.batch, task.rung.micro_tokens, task.rate)
            return
        give_back(self._optimiser, self._trainable.base.device)
