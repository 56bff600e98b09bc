"""The loss on held-out samples, always the same ones."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch

from intract_lsp.completion.generation import CancelToken
from intract_lsp.training.batches import pack
from intract_lsp.training.budget import VALIDATION_SHARE
from intract_lsp.training.losses import Losses
from intract_lsp.training.network import Trainable
from intract_lsp.training.sample import Sample
from intract_lsp.training.step import Stopped

LEAST_SAMPLES = 8
"""Scored however long it takes: fewer say nothing."""

LEAST_WITHOUT_TIME = 16
"""The same where a run's end is not set by time."""

_TOKENS = 512
"""Of a forward pass without gradients, where more make nothing faster."""


def affordable(samples: Sequence[Sample], trained: float) -> list[Sample]:
    """Return the first samples, those that are scored where a run trains on ``trained`` tokens and no time is set.

    Scoring takes a forward pass, a third of a step: once through them takes the same share of the run as where its
    time is set.
    """
    room = 3 * VALIDATION_SHARE * trained
    tokens = list(accumulate(len(sample.ids) for sample in samples))
    return list(samples[: max(LEAST_WITHOUT_TIME, bisect_right(tokens, room))])


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
    def score(self, context_length: int, clock: Callable[[], float], limit: float = 0.0) -> Losses:
        """Return the losses of the samples' supervised tokens.

        With a ``limit`` in seconds no more are scored once it is over. Longer samples than ``context_length`` are left
        out. Raises ``Stopped`` where the token is cancelled.
        """
        began = clock()
        sums: list[float] = []
        counts: list[int] = []
        while len(sums) < len(self.samples):
            if self._token.cancelled:
                raise Stopped
            if limit and len(sums) >= LEAST_SAMPLES and clock() - began >= limit:
                break
            if len(self.samples[len(sums)].ids) > context_length:
                sums.append(0.0)
                counts.append(0)
                continue
            for loss, count in self._losses(self._group(len(sums), context_length)):
                sums.append(loss)
                counts.append(count)
        return Losses(tuple(sums), tuple(counts))

    def _group(self, first: int, context_length: int) -> list[Sample]:
        """Return the samples from ``first`` on that go through the model together."""
        group: list[Sample] = []
        tokens = 0
        for sample in self.samples[first:]:
            tokens += len(sample.ids)
            if len(sample.ids) > context_length or (group and tokens > _TOKENS):
                break
            group.append(sample)
        return group

    def _losses(self, group: Sequence[Sample]) -> list[tuple[float, int]]:
        base = self._trainable.base
        micro = pack(group, [False] * len(group), base.device)
        _, each = base.losses(base.hidden(micro), micro, micro.weights)
        counts = [len(sample.answer) for sample in group]
        return [(float(part.double().sum()), len(part)) for part in torch.split(each, counts)]
