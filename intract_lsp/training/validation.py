"""The loss on held-out samples, always the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from intract_lsp.completion.generation import CancelToken
from intract_lsp.training.batches import pack
from intract_lsp.training.network import Trainable
from intract_lsp.training.sample import Sample
from intract_lsp.training.step import Stopped

LEAST_SAMPLES = 8
"""Scored however long it takes: fewer say nothing."""

_TOKENS = 512
"""Of a forward pass without gradients, where more make nothing faster."""


class Validator:
    """Scores held-out samples."""

    def __init__(self, trainable: Trainable, samples: Sequence[Sample], token: CancelToken) -> None:
        self._trainable = trainable
        self._token = token
        self.samples = list(samples)

    def keep(self, count: int) -> None:
        """Score only the first ``count`` samples from now on."""
        del self.samples[count:]

    @torch.no_grad()
    def score(self, context_length: int, clock: Callable[[], float], limit: float = 0.0) -> tuple[float, int]:
        """Return the mean negative log-likelihood (nats) of the supervised tokens, and how many samples were scored.

        With a ``limit`` in seconds no more are scored once it is over. Longer samples than ``context_length`` count as
        scored and are left out. Raises ``Stopped`` where the token is cancelled.
        """
        base = self._trainable.base
        began = clock()
        total, count, scored = torch.zeros((), dtype=torch.float64, device=base.device), 0, 0
        while scored < len(self.samples):
            if self._token.cancelled:
                raise Stopped
            if limit and scored >= LEAST_SAMPLES and clock() - began >= limit:
                break
            group: list[Sample] = []
            tokens = 0
            while scored < len(self.samples) and (not group or tokens + len(self.samples[scored].ids) <= _TOKENS):
                sample = self.samples[scored]
                scored += 1
                if len(sample.ids) <= context_length:
                    group.append(sample)
                    tokens += len(sample.ids)
            if group:
                micro = pack(group, [False] * len(group), base.device)
                _, losses = base.losses(base.hidden(micro), micro, micro.weights)
                total += losses.sum().double()
                count += len(losses)
        return float(total) / max(1, count), scored
