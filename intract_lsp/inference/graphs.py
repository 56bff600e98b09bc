"""Short forward passes as CUDA graphs: recorded once, then played back without a launch for each kernel.

A decoding step starts hundreds of kernels, and on a GPU with a small model starting them takes longer than computing.
A recording repeats the same kernels on the same addresses. So the passes have a few fixed numbers of rows and work in
one buffer, the mirror, that holds a copy of the sequence in use; what a pass adds is written back to the sequence. A
sequence is thereby whole at any moment, whether its next pass is played back or not.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intract_lsp.inference.buffers import KeyValues, Room
from intract_lsp.inference.decoder import LeanDecoder, ancestors, positions_of

log = logging.getLogger(__name__)

ROWS = (1, 3, 5, 9)
"""Rows of the recorded passes: one token, and one with a tree of up to eight. What is shorter is filled up."""

FIRST_CAPACITY = 1024
"""Positions of the smallest recorded pass; attention reads all of a pass's positions, so there are larger ones apart,
each of twice the positions of the one before."""

USUAL_POSITIONS = 4096
"""Positions that a GPU's default prompt takes with its answer."""

Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Turns a computation on fixed tensors into a playback of it, which returns the same tensor each time."""


class GraphedDecoder:
    """A ``LeanDecoder`` whose passes of up to nine rows are played back; the others it computes itself.

    A played pass's logits hold until the next pass.
    """

    branching = True
    """Trees of tokens can be computed in one pass."""

    def __init__(self, decoder: LeanDecoder, record: Record) -> None:
        self._decoder = decoder
        self._record = record
        self._recording = True
        self._mirror: _Mirror | None = None

    def begin(self) -> KeyValues:
        """Return an empty sequence."""
        return self._decoder.begin()

    @torch.inference_mode()
    def prepare(self, positions: int, report: Callable[[float], None]) -> None:
        """Record all passes for sequences of up to ``positions``; ``report`` gets the fraction done."""
        most = min(positions, self._decoder.shape.context_length)
        capacities = [_capacity(1)]
        while capacities[-1] < most:
            capacities.append(2 * capacities[-1])
        jobs = [(capacity, rows) for capacity in reversed(capacities) for rows in ROWS]
        for done, (capacity, rows) in enumerate(jobs):
            report(done / len(jobs))
            self._passes(capacity, rows)

    def forward(
        self, sequence: KeyValues, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None
    ) -> Tensor:
        """Append ``ids`` to a sequence and return the logits of its ``last`` positions; see ``LeanDecoder.forward``."""
        count, start = len(ids), sequence.length
        rows = next((each for each in ROWS if each >= count), 0)
        if not rows or start + count > self._decoder.shape.context_length:
            return self._decoder.forward(sequence, ids, last, parents)
        passed = self._passes(_capacity(start + rows), rows)
        if passed is None or self._mirror is None:
            return self._decoder.forward(sequence, ids, last, parents)
        if start + count > sequence.capacity:
            sequence.grow(min(self._decoder.shape.context_length, max(start + count, 2 * sequence.capacity)))
        self._mirror.show(sequence)
        passed.inputs.copy_(torch.tensor(_inputs(start, ids, parents, rows)))
        logits = passed.play()
        self._mirror.write_back(sequence, count)
        return logits[count - last : count]

    def _passes(self, capacity: int, rows: int) -> _Pass | None:
        """Return a recorded pass, recorded now where it is the first of its kind; ``None`` where that fails."""
        if not self._recording:
            return None
        try:
            if self._mirror is None or self._mirror.capacity < capacity:
                self._mirror = None  # frees the old one before the larger one takes its memory
                self._mirror = _Mirror(self._decoder, capacity)
            return self._mirror.recorded(self._decoder, self._record, capacity, rows)
        except RuntimeError as error:  # also torch.OutOfMemoryError
            log.warning("CUDA graphs cannot be recorded (%s): each step starts its kernels one by one", error)
            self._recording = False
            self._mirror = None
            return None


@dataclass(frozen=True, slots=True)
class _Pass:
    inputs: Tensor
    """As ``_inputs`` gives them."""
    room: Room
    play: Callable[[], Tensor]


class _Mirror:
    """A buffer in one place, the passes recorded on it, and whose keys and values are in it."""

    def __init__(self, decoder: LeanDecoder, capacity: int) -> None:
        """Raises ``RuntimeError`` where there is no memory."""
        shape = decoder.shape
        like = decoder.begin().keys
        self.capacity = capacity
        # Zeros: what is hidden from a row counts for nothing in its attention, but nothing times NaN would be NaN.
        self._keys = like.new_zeros(shape.layers, shape.kv_heads, capacity, shape.head_size)
        self._values = torch.zeros_like(self._keys)
        self._shown: weakref.ref[KeyValues] | None = None
        self._passes: dict[tuple[int, int], _Pass] = {}

    def recorded(self, decoder: LeanDecoder, record: Record, capacity: int, rows: int) -> _Pass:
        """Return the pass over ``capacity`` positions, recorded first where it is new."""
        found = self._passes.get((capacity, rows))
        if found is None:
            cosine, sine = decoder.rope(capacity)
            room = Room(self._keys[:, :, :capacity], self._values[:, :, :capacity], cosine, sine)
            inputs = torch.tensor(_inputs(0, [0], None, rows), device=decoder.device)
            ids, positions, start, tree = (
                inputs[:rows],
                inputs[rows : 2 * rows],
                inputs[2 * rows],
                inputs[-rows * rows :],
            )
            seen = tree.view(rows, rows)
            # Recording computes once to warm up, into the buffer's first places.
            self._shown = None
            play = record(lambda: decoder.step(ids, positions, start, seen != 0, room))
            found = self._passes[capacity, rows] = _Pass(inputs, room, play)
        return found

    def show(self, sequence: KeyValues) -> None:
        """Copy what the buffer lacks of a sequence."""
        if self._shown is None or self._shown() is not sequence:
            self._shown = weakref.ref(sequence)
            sequence.unchanged = 0
            self._keys[:, :, sequence.length :] = 0
            self._values[:, :, sequence.length :] = 0
        new = slice(sequence.unchanged, sequence.length)
        if new.start < new.stop:
            self._keys[:, :, new] = sequence.keys[:, :, new]
            self._values[:, :, new] = sequence.values[:, :, new]

    def write_back(self, sequence: KeyValues, count: int) -> None:
        """Append to a sequence what a pass has written for its first ``count`` rows."""
        new = slice(sequence.length, sequence.length + count)
        sequence.keys[:, :, new] = self._keys[:, :, new]
        sequence.values[:, :, new] = self._values[:, :, new]
        sequence.length = sequence.unchanged = new.stop


def cuda_recorder(device: torch.device) -> Record:
    """Return what records CUDA graphs; they share one pool of memory, as they are played one after the other."""
    pool = torch.cuda.graph_pool_handle()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def record(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        # Once without recording: libraries set themselves up at their first call.
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            compute()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Only this thread's calls may disturb the recording.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            logits = compute()

        def play() -> Tensor:
            graph.replay()
            return logits

        return play

    return record


def _capacity(positions: int) -> int:
    """Return the positions of the smallest pass that has room for so many."""
    capacity = FIRST_CAPACITY
    while capacity < positions:
        capacity *= 2
    return capacity


def _inputs(start: int, ids: Sequence[int], parents: Sequence[int] | None, rows: int) -> list[int]:
    """Return a pass's inputs as one list: ids, positions, ``start`` and the tree's rows, all filled up to ``rows``.

    Rows that fill up see the sequence and themselves and nothing sees them.
    """
    count = len(ids)
    parents = range(-1, count - 1) if parents is None else parents
    missing = rows - count
    tree = [[*seen, *[False] * missing] for seen in ancestors(parents)]
    tree += [[place == row for place in range(rows)] for row in range(count, rows)]
    positions = [*positions_of(start, parents), *[start] * missing]
    return [*ids, *[0] * missing, *positions, start, *(int(each) for seen in tree for each in seen)]
