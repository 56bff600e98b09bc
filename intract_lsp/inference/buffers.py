"""The memory that ``decoder`` keeps keys and values in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class KeyValues:
    """One sequence's keys and values, in buffers that are larger than what is in use."""

    def __init__(self, keys: Tensor, values: Tensor, length: int = 0) -> None:
        self.keys = keys
        """(layers, key-value heads, capacity, head size); the first ``length`` positions are in use."""
        self.values = values
        self.length = length
        self.unchanged = 0
        """Positions, from the first on, that are still as they were when whoever keeps a copy of them set this."""

    @property
    def capacity(self) -> int:
        """Positions that the buffers hold."""
        return self.keys.shape[2]

    @property
    def size_bytes(self) -> int:
        """Bytes of both buffers."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        self.length = length
        self.unchanged = min(self.unchanged, length)

    @torch.inference_mode()
    def keep(self, start: int, rows: Sequence[int]) -> None:
        """Of the positions from ``start`` on keep those at ``start`` + each of ``rows``, moved together."""
        self.length = start + len(rows)
        in_place = next((place for place, row in enumerate(rows) if row != place), len(rows))
        self.unchanged = min(self.unchanged, start + in_place)
        if in_place < len(rows):
            chosen = torch.tensor(rows, device=self.keys.device) + start
            for buffer in (self.keys, self.values):
                buffer[:, :, start : self.length] = buffer.index_select(2, chosen)

    @torch.inference_mode()
    def copy(self, length: int) -> KeyValues:
        """Return a sequence of its own with the first ``length`` positions of this one."""
        twin = KeyValues(torch.empty_like(self.keys), torch.empty_like(self.values), length)
        twin.keys[:, :, :length] = self.keys[:, :, :length]
        twin.values[:, :, :length] = self.values[:, :, :length]
        return twin

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` positions, keeping those in use."""
        layers, heads, _, size = self.keys.shape
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_empty(layers, heads, capacity, size)
            new[:, :, : self.length] = old[:, :, : self.length]
            setattr(self, name, new)


@dataclass(frozen=True, slots=True)
class Room:
    """Buffers of a fixed size for the keys and values of one sequence."""

    keys: Tensor
    """(layers, key-value heads, capacity, head size)"""
    values: Tensor
    cosine: Tensor
    """As ``LeanDecoder.rope`` gives it, for the whole capacity."""
    sine: Tensor
