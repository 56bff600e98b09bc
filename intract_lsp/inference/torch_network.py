"""What serving asks of a network, for the forward passes that torch computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from intract_lsp.inference.kv_cache import KeyValues, Logits

K = TypeVar("K", bound=KeyValues)


class Forward(Protocol[K]):
    """A forward pass, see ``kv_cache.Network``, that returns a tensor."""

    @property
    def branching(self) -> bool:
        """Whether ``forward`` takes ``parents``."""

    def begin(self) -> K:
        """Return an empty sequence."""

    def forward(self, sequence: K, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None) -> Tensor:
        """Return the logits of the ``last`` positions, (last, vocabulary)."""


class TorchNetwork(Generic[K]):
    """A ``Forward`` as a ``kv_cache.Network``: logits as float32 in the machine's memory, and Python's errors."""

    def __init__(self, decoder: Forward[K]) -> None:
        self._decoder = decoder

    @property
    def branching(self) -> bool:
        """Whether trees of tokens can be computed in one pass."""
        return self._decoder.branching

    def use_threads(self, count: int) -> None:
        """Have torch compute with so many threads."""
        if count != torch.get_num_threads():
            torch.set_num_threads(count)

    @torch.inference_mode()
    def begin(self) -> K:
        """Return an empty sequence."""
        return self._decoder.begin()

    @torch.inference_mode()
    def forward(self, sequence: K, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None) -> Logits:
        """Append ``ids`` to a sequence and return the logits of its ``last`` positions. Raises ``MemoryError``."""
        try:
            return _in_memory(self._decoder.forward(sequence, ids, last, parents))
        except RuntimeError as error:
            # torch has a type for a CUDA GPU's memory, and only words for Metal's and the machine's.
            if isinstance(error, torch.OutOfMemoryError) or re.search("out of memory|allocate memory", str(error)):
                raise MemoryError(str(error)) from error
            raise


def _in_memory(logits: Tensor) -> Logits:
    """Return logits as float32 in the machine's memory, as an array of its own."""
    array: Any
    if logits.device.type == "cuda":
        # Pinned memory, which torch keeps for the next time: some MiB of logits come several times as fast.
        pinned = torch.empty(logits.shape, dtype=torch.float32, pin_memory=True)
        array = pinned.copy_(logits).numpy()
    else:
        array = logits.float().cpu().numpy()
    return array  # type: ignore[no-any-return]
