"""transformers' own forward for architectures that ``decoder`` does not know, behind the same two methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class TransformersNetwork:
    """One sequence's forward pass through a transformers model, with its keys and values."""

    def __init__(self, model: Any) -> None:
        self._model = model
        # A plain cache, so that any layer can be cut back; transformers masks sliding windows all the same.
        self._cache = DynamicCache()
        self.length = 0
        """Positions whose keys and values are held."""

    def forward(self, ids: Sequence[int], last: int = 1) -> Tensor:
        """Append ``ids`` to the sequence and return the logits of its ``last`` positions, (last, vocabulary)."""
        output = self._model(
            torch.tensor([ids], device=self._model.device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=last,
        )
        self.length += len(ids)
        logits: Tensor = output.logits[0]
        return logits

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        if length == 0:
            self._cache = DynamicCache()
        elif length < self.length:
            self._cache.crop(length - self.length)
        self.length = length
