"""The keys and values of the last prompt, kept so that the next one costs only what is new in it."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import DynamicCache


class PrefixCache:
    """One sequence of tokens with its keys and values in every layer."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self.layers = DynamicCache()
        """What the model's forward appends to: a plain cache, so that any layer can be cut back."""

    def __len__(self) -> int:
        return len(self._ids)

    def reuse(self, prompt: Sequence[int]) -> int:
        """Cut back to what is common with ``prompt`` and return its length in tokens.

        At least the prompt's last token is left to be computed, since its logits are needed.
        """
        common = common_prefix(self._ids, prompt[:-1])
        surplus = len(self._ids) - common
        if surplus:
            self._ids = self._ids[:common]
            if common:
                self.layers.crop(-surplus)
            else:
                self.layers = DynamicCache()
        return common

    def extend(self, ids: Sequence[int]) -> None:
        """Note that the model has appended the keys and values of ``ids``."""
        self._ids.extend(ids)

    def clear(self) -> None:
        """Forget everything."""
        self._ids = []
        self.layers = DynamicCache()


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common from their start on."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
