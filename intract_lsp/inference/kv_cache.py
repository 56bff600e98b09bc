"""The keys and values of the last prompt, kept so that the next one costs only what is new in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """A model's forward pass over one sequence, of which it holds the keys and values."""

    def forward(self, ids: Sequence[int], last: int = 1) -> Tensor:
        """Append ``ids`` to the sequence and return the logits of its ``last`` positions, (last, vocabulary)."""

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""


class PrefixCache:
    """The tokens behind a network's keys and values: knows what of a new prompt is there already."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ids: list[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    def reuse(self, prompt: Sequence[int]) -> int:
        """Cut back to what is common with ``prompt`` and return its length in tokens.

        At least the prompt's last token is left to be computed, since its logits are needed.
        """
        common = common_prefix(self._ids, prompt[:-1])
        self.cut(common)
        return common

    def append(self, ids: Sequence[int], last: int = 1) -> Tensor:
        """Compute ``ids`` behind what is held and return the logits of the ``last`` positions, (last, vocabulary)."""
        with torch.inference_mode():
            logits = self._network.forward(ids, last)
        self._ids.extend(ids)
        return logits

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        if length < len(self._ids):
            self._network.cut(length)
            del self._ids[length:]

    def clear(self) -> None:
        """Forget everything, also what a computation that failed half-way may have left."""
        self._network.cut(0)
        self._ids = []


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common from their start on."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
