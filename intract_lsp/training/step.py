"""One optimiser step: its samples packed, their losses and gradients, the update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.training.batches import Micro, pack, split, weight_of
from intract_lsp.training.group import Alone, Group
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
    group: Group = field(default_factory=Alone)
    """Of the processes that take each step together."""
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
        self.optimiser.zero_grad(set_to_none=True)
        count = sum(weight_of(sample, self.spec.prompt_weight) for _, sample in batch)
        # On the device until the end: asking for a value would wait for the GPU at each micro-batch.
        sums = torch.zeros(5, dtype=torch.float64, device=self.trainable.base.device)
        with self.group.together():
            self._add_gradients(number, batch[self.group.rank :: self.group.size], micro_tokens, count, sums)
            gradients = self._gradients()
        self.group.add_up([*gradients, sums])
        self._update_together(rate)
        own_loss, own_count, all_loss, all_count, tokens = sums.tolist()
        return StepResult(own_loss / own_count if own_count else all_loss / max(1.0, all_count), int(tokens))

    def _add_gradients(
        self, number: int, batch: Sequence[tuple[bool, Sample]], micro_tokens: int, count: float, sums: torch.Tensor
    ) -> None:
        """Add the samples' gradients to the parameters' and what was seen to ``sums``."""
        adapter, device = self.trainable.adapter, self.trainable.base.device
        for index, (again, group) in enumerate(_groups(batch, micro_tokens)):
            if self.token.cancelled:
                raise Stopped
            micro = pack(group, [again] * len(group), device, self.spec.prompt_weight, number)
            if adapter is not None:
                adapter.drop(torch.Generator().manual_seed(self._seed(number, index)))
            loss, each = self._losses(micro, count)
            (loss * self._scale).backward()  # type: ignore[no-untyped-call]
            own = micro.answers & ~micro.replayed
            answers = each[micro.answers]
            seen = torch.stack([each[own].sum(), own.sum(), answers.sum()])
            sums += torch.cat([seen, each.new_tensor([len(answers), micro.tokens])]).double()

    def _seed(self, number: int, index: int) -> int:
        return hash((self.spec.seed, number, index, self.group.rank)) & 0x7FFFFFFF

    def _gradients(self) -> list[torch.Tensor]:
        """Return the gradient of each parameter, zeros where this process's share of a step had none for it."""
        found = []
        for parameter in self.trainable.parameters():
            if parameter.grad is None and self.group.size > 1:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                found.append(parameter.grad)
        return found

    def _losses(self, micro: Micro, count: float) -> tuple[torch.Tensor, torch.Tensor]:
        base = self.trainable.base
        weights = micro.weights / count
        divergence = {}
        if self.trainable.adapter is not None and self.spec.kl_weight > 0 and bool(micro.replayed.any()):
            with self.trainable.base_only():
                divergence["base"] = base.hidden(micro)
            divergence["base_weights"] = weights * micro.replayed * self.spec.kl_weight
        return base.losses(base.hidden(micro), micro, weights, **divergence)

    def _update_together(self, rate: float) -> None:
        if self.group.size == 1:
            self._update(rate)
            return
        try:
            with self.group.together():
                self._update(rate)
        except MemoryError as error:
            # Some have taken the step and others have not: it cannot be taken once more.
            raise TrainingError(
                "Memory has run out on one of the GPUs: set training.gpus to 1, or take a smaller model."
            ) from error

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
