"""One optimiser step: its samples packed, their losses and gradients, the update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.training.batches import Micro, pack, split, weight_of
from intract_lsp.training.network import Trainable
from intract_lsp.training.sample import Sample
from intract_lsp.training.spec import TrainerSpec

LONGEST_GRADIENT = 1.0
"""Norm to which a step's gradient is clipped."""

_MOST_FAILURES = 10
"""Steps in a row without a finite gradient before a run is given up."""


class Stopped(Exception):
    """The token was cancelled."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step has seen."""

    loss: float
    """Mean negative log-likelihood (nats) of its training samples' answers; of the replayed ones' where there are no
    others."""
    tokens: int


@dataclass(slots=True)
class Stepper:
    """Takes optimiser steps."""

    trainable: Trainable
    optimiser: torch.optim.Optimizer
    spec: TrainerSpec
    token: CancelToken
    _scale: float = field(init=False)
    """Of the loss in float16, whose small gradients would vanish."""
    _failures: int = 0

    def __post_init__(self) -> None:
        self._scale = 4096.0 if self.trainable.base.dtype is torch.float16 else 1.0

    def take(
        self,
        number: int,
        batch: Sequence[tuple[bool, Sample]],
        micro_tokens: int,
        rate: float,
    ) -> StepResult:
        """Take step ``number`` on samples, each with whether it is replayed, at a learning rate.

        Raises ``Stopped``, with nothing changed, and ``TrainingError`` where the loss does not stay finite.
        """
        adapter, device = self.trainable.adapter, self.trainable.base.device
        self.optimiser.zero_grad(set_to_none=True)
        count = sum(weight_of(sample, self.spec.prompt_weight) for _, sample in batch)
        # On the device until the end: asking for a value would wait for the GPU at each micro-batch.
        sums = torch.zeros(4, dtype=torch.float64, device=device)
        tokens = 0
        for index, (again, group) in enumerate(_groups(batch, micro_tokens)):
            if self.token.cancelled:
                raise Stopped
            micro = pack(group, [again] * len(group), device, self.spec.prompt_weight, number)
            if adapter is not None:
                adapter.drop(torch.Generator().manual_seed(hash((self.spec.seed, number, index)) & 0x7FFFFFFF))
            loss, each = self._losses(micro, count)
            (loss * self._scale).backward()  # type: ignore[no-untyped-call]
            tokens += micro.tokens
            own = micro.answers & ~micro.replayed
            answers = each[micro.answers]
            sums += torch.stack([each[own].sum(), own.sum(), answers.sum(), each.new_tensor(len(answers))]).double()
        self._update(rate)
        own_loss, own_count, all_loss, all_count = sums.tolist()
        return StepResult(own_loss / own_count if own_count else all_loss / max(1.0, all_count), tokens)

    def _losses(self, micro: Micro, count: float) -> tuple[torch.Tensor, torch.Tensor]:
        base = self.trainable.base
        weights = micro.weights / count
        divergence = {}
        if self.trainable.adapter is not None and self.spec.kl_weight > 0 and bool(micro.replayed.any()):
            with self.trainable.base_only():
                divergence["base"] = base.hidden(micro)
            divergence["base_weights"] = weights * micro.replayed * self.spec.kl_weight
        return base.losses(base.hidden(micro), micro, weights, **divergence)

    def _update(self, rate: float) -> None:
        parameters = self.trainable.parameters()
        if self._scale != 1.0:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self._scale)
        norm = nn.utils.clip_grad_norm_(parameters, LONGEST_GRADIENT)
        if not bool(torch.isfinite(norm)):
            self._failures += 1
            self._scale = max(1.0, self._scale / 2)
            if self._failures >= _MOST_FAILURES:
                raise TrainingError("Training does not stay finite: set a lower training.learning_rate.")
            return
        self._failures = 0
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()


def _groups(batch: Sequence[tuple[bool, Sample]], micro_tokens: int) -> Iterator[tuple[bool, list[Sample]]]:
    """Group a batch into micro-batches, replayed samples by themselves: only they need the base model's outputs."""
    for again in (False, True):
        samples = [sample for replayed, sample in batch if replayed is again]
        for group in split([len(sample.ids) for sample in samples], micro_tokens):
            yield again, [samples[index] for index in group]
