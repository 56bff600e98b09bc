"""transformers' own forward for architectures that ``decoder`` does not know, behind the same methods."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class CachedSequence:
    """One sequence's keys and values in transformers' form."""

    def __init__(self) -> None:
        # A plain cache, so that any layer can be cut back; transformers masks sliding windows all the same.
        self.cache = DynamicCache()
        self.length = 0
        """Positions whose keys and values are held."""

    @property
    def size_bytes(self) -> int:
        """Memory of all layers."""
        tensors = (each for layer in self.cache.layers for each in (layer.keys, layer.values))
        return sum(each.numel() * each.element_size() for each in tensors if each is not None)

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        if length == 0:
            self.cache = DynamicCache()
        elif length < self.length:
            self.cache.crop(length - self.length)
        self.length = length

    def keep(self, start: int, rows: Sequence[int]) -> None:
        """Forget the positions from ``start`` on but for ``rows``: without branches the first ones, as they stand."""
        self.cut(start + len(rows))

    def copy(self, length: int) -> CachedSequence:
        """Return a sequence of its own with the first ``length`` positions of this one."""
        twin = CachedSequence()
        twin.cache, twin.length = deepcopy(self.cache), self.length
        twin.cut(length)
        return twin


class TransformersNetwork:
    """A transformers model's forward pass over sequences whose keys and values the caller holds."""

    branching = False
    """Each token follows the one before it."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def begin(self) -> CachedSequence:
        """Return an empty sequence."""
        return CachedSequence()

    def forward(
        self, sequence: CachedSequence, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None
    ) -> Tensor:
        """Append ``ids`` to a sequence and return the logits of its ``last`` positions, (last, vocabulary)."""
        if parents is not None:
            raise ValueError("this network takes no trees")
        output = self._model(
            torch.tensor([ids], device=self._model.device),
            past_key_values=sequence.cache,
            use_cache=True,
            logits_to_keep=last,
        )
        sequence.length += len(ids)
        logits: Tensor = output.logits[0]
        return logits
