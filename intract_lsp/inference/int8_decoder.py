"""A decoder with int8 weights on the CPU: numpy arrays, and ``kernels`` to compute with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intract_lsp.inference import kernels
from intract_lsp.inference.jit import BLOCK, QUAD, ROWS
from intract_lsp.inference.kernels import Floats, Linear, Room, Sizes, Weights
from intract_lsp.inference.shape import Shape
from intract_lsp.inference.team import Team

FIRST_CAPACITY = 1024
"""Tokens that a sequence's buffers hold at first: a CPU prompt with its answer."""

FIRST_ROWS = 128
"""Tokens of a pass that there is room for at first: a piece of a prompt."""


class KeyValues:
    """One sequence's keys and values, in buffers that are larger than what is in use.

    Keys lie in blocks of 64 positions, the positions of a block side by side: so a block's scores are one product.
    """

    def __init__(self, keys: Floats, values: Floats, length: int = 0) -> None:
        self.keys = keys
        """(layers, key-value heads, blocks, head size, 64)"""
        self.values = values
        """(layers, key-value heads, positions and what a block reads beyond, head size)"""
        self.length = length

    @classmethod
    def empty(cls, layers: int, heads: int, size: int, capacity: int) -> KeyValues:
        """Return room for ``capacity`` positions, rounded up to a whole block, of key-value heads of ``size``."""
        blocks = -(-capacity // BLOCK)
        beyond = -(-BLOCK // size)
        keys = np.zeros((layers, heads, blocks, size, BLOCK), np.float32)
        values = np.zeros((layers, heads, blocks * BLOCK + beyond, size), np.float32)
        return cls(keys, values)

    @property
    def capacity(self) -> int:
        """Positions that the buffers hold."""
        return int(self.keys.shape[2]) * BLOCK

    @property
    def size_bytes(self) -> int:
        """Bytes of both buffers."""
        return self.keys.nbytes + self.values.nbytes

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        self.length = length

    def keep(self, start: int, rows: Sequence[int]) -> None:
        """Of the positions from ``start`` on keep those at ``start`` + each of ``rows``, moved together."""
        self.length = start + len(rows)
        for place, row in enumerate(rows, start):
            if place != start + row:
                origin = start + row
                self.values[:, :, place] = self.values[:, :, origin]
                self.keys[:, :, place // BLOCK, :, place % BLOCK] = self.keys[:, :, origin // BLOCK, :, origin % BLOCK]

    def copy(self, length: int) -> KeyValues:
        """Return a sequence of its own with the first ``length`` positions of this one."""
        twin = KeyValues(np.zeros_like(self.keys), np.zeros_like(self.values))
        twin._take(self, length)
        return twin

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` positions, keeping those in use."""
        layers, heads, _, size, _ = self.keys.shape
        larger = KeyValues.empty(layers, heads, size, capacity)
        larger._take(self, self.length)
        self.keys, self.values = larger.keys, larger.values

    def _take(self, other: KeyValues, length: int) -> None:
        blocks = -(-length // BLOCK)
        self.keys[:, :, :blocks] = other.keys[:, :, :blocks]
        self.values[:, :, :length] = other.values[:, :, :length]
        self.length = length


class Int8Decoder:
    """A model's forward pass over sequences whose keys and values the caller holds."""

    branching = True
    """Trees of tokens can be computed in one pass."""

    def __init__(self, shape: Shape, arrays: Mapping[str, Any], team: Team) -> None:
        """Compute with ``arrays``, as ``packing.pack`` gives them, on the threads of ``team``."""
        self.shape = shape
        self._team = team
        self._embedding = arrays["embedding"]
        self._weights = _weights(arrays)
        hidden = self._embedding.shape[1]
        self._sizes = Sizes(
            shape.layers, shape.heads, shape.kv_heads, shape.head_size, hidden, shape.gated, np.float32(shape.epsilon)
        )
        self._vocabulary = len(self._embedding)
        self._frequencies = arrays["frequencies"]
        self._cosine = self._sine = np.zeros((0, shape.head_size // 2), np.float32)
        self._room = self._new_room(FIRST_ROWS, FIRST_CAPACITY)

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on, at most as many as the team has."""
        self._team.size = count

    def begin(self) -> KeyValues:
        """Return an empty sequence."""
        shape = self.shape
        capacity = min(FIRST_CAPACITY, shape.context_length)
        return KeyValues.empty(shape.layers, shape.kv_heads, shape.head_size, capacity)

    def forward(
        self, sequence: KeyValues, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None
    ) -> Floats:
        """Append ``ids``, a tree with ``parents``, to a sequence; return the logits of its ``last`` positions.

        (last, vocabulary). Keys and values of a tree are written in the order of ``ids``.
        """
        count, start = len(ids), sequence.length
        if start + count > sequence.capacity:
            sequence.grow(max(start + count, min(self.shape.context_length, 2 * sequence.capacity)))
        if start + count > len(self._cosine):
            self._extend_rope(sequence.capacity)
        if count > len(self._room.x) or sequence.capacity > self._room.scores.shape[2]:
            self._room = self._new_room(max(count, len(self._room.x)), sequence.capacity)
        self._room.x[:count, : self._sizes.hidden] = self._embedding[np.asarray(ids)]
        seen = np.tri(count, dtype=np.uint8) if parents is None else _ancestry(parents)
        # Of all tokens with the same distance from a tree's root the position is the same.
        positions = start + seen.sum(1, dtype=np.int64) - 1
        logits = np.empty((last, self._weights.head.weight.shape[1] * BLOCK), np.float32)
        threads = self._team.size
        self._team.run(
            partial(
                kernels.forward,
                self._weights,
                self._sizes,
                self._room,
                sequence.keys,
                sequence.values,
                positions,
                self._cosine,
                self._sine,
                start,
                seen,
                logits,
                threads,
            )
        )
        sequence.length = start + count
        return logits[:, : self._vocabulary]

    def _new_room(self, rows: int, positions: int) -> Room:
        weights, threads = self._weights, self._team.most
        matrices = (weights.qkv, weights.out, weights.up, weights.down)
        inputs = [matrix.weight.shape[2] * QUAD for matrix in matrices]
        outputs = [matrix.weight.shape[1] * BLOCK for matrix in (weights.qkv, weights.out, weights.down)]
        size = self.shape.head_size
        return Room(
            x=np.zeros((rows, weights.before_attention.shape[1]), np.float32),
            wide=np.zeros((rows, max(*inputs, *outputs)), np.float32),
            levels=np.zeros((rows, max(inputs)), np.int8),
            scale=np.zeros(rows, np.float32),
            sums=np.zeros(rows, np.int32),
            block=np.zeros((threads, rows, BLOCK), np.int32),
            query=np.zeros((threads, ROWS, size), np.float32),
            scores=np.zeros((threads, ROWS, -(-positions // BLOCK) * BLOCK), np.float32),
            mixed=np.zeros((threads, ROWS, BLOCK), np.float32),
            meeting=np.zeros(kernels.MEETING_WORDS, np.int64),
        )

    def _extend_rope(self, positions: int) -> None:
        angles = np.outer(np.arange(positions, dtype=np.float32), self._frequencies)
        self._cosine = (np.cos(angles) * self.shape.rope_scale).astype(np.float32)
        self._sine = (np.sin(angles) * self.shape.rope_scale).astype(np.float32)


def _weights(arrays: Mapping[str, Any]) -> Weights:
    parts: dict[str, Any] = {name: arrays[name] for name in Weights._fields if name in arrays}
    for name in Weights._fields:
        if name not in parts:
            parts[name] = Linear(*(arrays[f"{name}.{part}"] for part in Linear._fields))
    return Weights(**parts)


def _ancestry(parents: Sequence[int]) -> NDArray[np.uint8]:
    """Return which tokens of a tree each one sees, (count, count): itself and what it follows."""
    seen = np.zeros((len(parents), len(parents)), np.uint8)
    for row, parent in enumerate(parents):
        if parent >= 0:
            seen[row] = seen[parent]
        seen[row, row] = 1
    return seen
