"""The processes that take a run's steps together, each on a GPU of its own: sums over them, through accelerate.

Every one holds the same weights and the same optimiser, computes the gradient of its share of a step's samples, and
takes the same step once the shares are summed (data parallelism).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from intract_lsp.errors import TrainingError
from intract_lsp.training.ladder import is_out_of_memory

PATIENCE = timedelta(minutes=10)
"""For which one process waits for the others in the middle of a step. Then torch ends it, since a peer's death is not
seen from within a GPU's sum, and the run goes on as after any kill."""

_LOOPBACK = "lo"
"""Linux's name of it, which is where several GPUs are trained on."""

_FINE, _OUT_OF_MEMORY, _FAILED = 0, 1, 2


class Group(Protocol):
    """The processes of a run, seen from one of them."""

    rank: int
    """Number of this process, from 0, which leads."""
    size: int
    """How many there are."""

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, each of which gives as many of the same shapes."""

    def together(self) -> AbstractContextManager[None]:
        """Return what ends in an error in all processes where there was one in any.

        Where memory was out elsewhere that is a ``MemoryError``, else a ``TrainingError``.
        """


class Alone:
    """A run in one process."""

    rank, size = 0, 1

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """See ``Group.add_up``: there is nothing to add."""

    def together(self) -> AbstractContextManager[None]:
        """See ``Group.together``."""
        return nullcontext()


class Joined:
    """A run in several processes; to be made in all of them, once in each."""

    def __init__(self, rank: int, size: int, device: torch.device, meeting: Path) -> None:
        """Wait for the others. ``meeting`` is a file that is not there yet, the same for all."""
        from accelerate import PartialState
        from accelerate.utils import check_cuda_p2p_ib_support, reduce

        self.rank, self.size = rank, size
        if device.type == "cuda" and not check_cuda_p2p_ib_support():
            # Such GPUs cannot talk to each other directly; accelerate refuses to begin unless it is told.
            os.environ.update(NCCL_P2P_DISABLE="1", NCCL_IB_DISABLE="1")
        # Nothing of a run is to be reached from another machine.
        interface = {} if os.name == "nt" else {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
        number, count = str(rank), str(size)
        known = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        # Else accelerate sets the number of threads by itself.
        known["OMP_NUM_THREADS"] = str(torch.get_num_threads())
        self._reduce = reduce
        with _environment({**interface, **known}):
            self._state = PartialState(
                cpu=device.type == "cpu",
                init_method=meeting.absolute().as_uri(),
                rank=rank,
                world_size=size,
                timeout=PATIENCE,
            )
            # Made, and used once, while there is memory: it is what is asked when there is none. The first sum is also
            # when GPUs are connected.
            self._trouble = torch.zeros(1, dtype=torch.int32, device=device)
            self._worst(_FINE)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """See ``Group.add_up``."""
        for tensor in tensors:
            tensor.copy_(self._over_all(tensor, "sum"))

    @contextmanager
    def together(self) -> Iterator[None]:
        """See ``Group.together``."""
        trouble = _FINE
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                self._worst(_FAILED)
                raise
            trouble = _OUT_OF_MEMORY
        # Outside of the handler, where the failed pass is no longer held by its traceback.
        worst = self._worst(trouble)
        if worst == _OUT_OF_MEMORY:
            raise MemoryError("out of memory in a process of the run")
        if worst == _FAILED:
            raise TrainingError("One of the processes of the run has failed: see the run's log, run.log.")

    def leave(self) -> None:
        """Let go of the others."""
        self._state.destroy_process_group()
        # Else accelerate would take this process for one of several for as long as it lives.
        self._state._reset_state()

    def _worst(self, own: int) -> int:
        self._trouble.fill_(own)
        return int(self._over_all(self._trouble, "max"))

    def _over_all(self, tensor: Tensor, how: str) -> Tensor:
        try:
            found: Tensor = self._reduce(tensor, how)
            return found
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise TrainingError("A process of the run has ended: see the run's log, run.log.") from error


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for a while: other libraries read them, too, and take the process for one that was launched."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
