"""Which samples each optimiser step sees, and how they lie in memory: one behind the other, without padding.

A micro-batch is a single sequence of several samples whose positions begin again at each. The linear layers see all of
its tokens at once, attention sees each sample for itself (``layers.packed_attention``).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intract_lsp.training.sample import Sample

PROMPT_STRIDE = 5
"""Of a prompt's tokens one in so many is a target, others at the next step: all of them would take a third longer."""


@dataclass(frozen=True, slots=True)
class Micro:
    """Samples packed for one forward pass, ``tokens`` of them in all."""

    ids: Tensor
    """``[1, tokens]``."""
    positions: Tensor
    """``[1, tokens]``, each in its own sample."""
    starts: tuple[int, ...]
    """Where each sample begins, and at the end the number of tokens."""
    rows: Tensor
    """``[targets]``: the tokens whose successors are to be predicted."""
    targets: Tensor
    """``[targets]``: the successors."""
    weights: Tensor
    """``[targets]``, float32: of each target's loss."""
    replayed: Tensor
    """``[targets]``, bool: of samples against forgetting."""
    answers: Tensor
    """``[targets]``, bool: not of a prompt."""

    @property
    def tokens(self) -> int:
        """How many tokens, prompts included."""
        return self.starts[-1]


def pack(
    samples: Sequence[Sample],
    replayed: Sequence[bool],
    device: torch.device,
    prompt_weight: float = 0.0,
    phase: int = 0,
) -> Micro:
    """Pack samples; ``replayed`` says of each whether it is there against forgetting only.

    With a ``prompt_weight`` the tokens of prompts are targets, too, each of that weight beside an answer's: prompts are
    the project's code, and several times as long as the answers. It helps most where those are short and samples few
    (Shi et al. 2024, "Instruction Tuning With Loss Over Instructions"). Of them one in ``PROMPT_STRIDE`` stands for the
    others, which one depends on ``phase``. Those of replayed samples hold the model as their answers do.
    """
    ids: list[int] = []
    positions: list[int] = []
    starts = [0]
    targets: list[int] = []
    weights: list[float] = []
    again: list[bool] = []
    answers: list[bool] = []
    for sample, replay in zip(samples, replayed, strict=True):
        begin = len(ids)
        asked = sample.prompt[phase % PROMPT_STRIDE :: PROMPT_STRIDE] if prompt_weight else range(0)
        wanted = sample.answer
        ids += sample.ids
        positions += range(len(sample.ids))
        starts.append(len(ids))
        targets += [begin + index for index in (*asked, *wanted)]
        weights += [prompt_weight * PROMPT_STRIDE] * len(asked) + [1.0] * len(wanted)
        again += [replay] * (len(asked) + len(wanted))
        answers += [False] * len(asked) + [True] * len(wanted)
    target = torch.tensor(targets, dtype=torch.long)
    all_ids = torch.tensor(ids, dtype=torch.long)
    return Micro(
        ids=all_ids.unsqueeze(0).to(device),
        positions=torch.tensor(positions, dtype=torch.long).unsqueeze(0).to(device),
        starts=tuple(starts),
        rows=(target - 1).to(device),
        targets=all_ids[target].to(device),
        weights=torch.tensor(weights, dtype=torch.float32).to(device),
        replayed=torch.tensor(again, dtype=torch.bool).to(device),
        answers=torch.tensor(answers, dtype=torch.bool).to(device),
    )


def weight_of(sample: Sample, prompt_weight: float) -> float:
    """Return the sum of the weights of a sample's targets, whichever of its prompt's stand for the others."""
    return len(sample.answer) + prompt_weight * len(sample.prompt)


def split(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Split samples, by index, into groups of at most ``most_tokens``; one that is longer stands alone.

    First-fit decreasing: few groups, and of similar size.
    """
    groups: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        place = next((number for number, left in enumerate(room) if lengths[index] <= left), None)
        if place is None:
            groups.append([])
            room.append(most_tokens)
            place = len(groups) - 1
        groups[place].append(index)
        room[place] -= lengths[index]
    return groups


def usable(samples: Sequence[Sample], context_length: int) -> list[Sample]:
    """Return the samples that have something to learn and are not longer than ``context_length`` tokens."""
    return [sample for sample in samples if len(sample.ids) <= context_length and sample.answer]


@dataclass(frozen=True, slots=True)
class Order:
    """The samples of each step, a pure function of the seed, so that a run that goes on sees what it would have seen.

    An epoch holds each training sample once, and as many replayed ones as their share asks for, shuffled together.
    """

    training: int
    replay: int
    replay_share: float
    """Of an epoch's samples."""
    batch_size: int
    seed: int

    @property
    def epoch(self) -> int:
        """Samples of an epoch."""
        if not self.replay:
            return self.training
        return self.training + round(self.training * self.replay_share / (1.0 - self.replay_share))

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps of an epoch; epochs follow each other without a gap."""
        return self.epoch / self.batch_size

    def batch(self, step: int) -> list[tuple[bool, int]]:
        """Return what step ``step`` (from 0) trains on: whether it is replayed, and the index among its kind."""
        first = step * self.batch_size
        shuffled: dict[int, list[tuple[bool, int]]] = {}
        batch = []
        for place in range(first, first + self.batch_size):
            number, offset = divmod(place, self.epoch)
            if number not in shuffled:
                shuffled[number] = self._shuffled(number)
            batch.append(shuffled[number][offset])
        return batch

    def _shuffled(self, number: int) -> list[tuple[bool, int]]:
        again = self.epoch - self.training
        entries = [(False, index) for index in range(self.training)]
        entries += [(True, (number * again + index) % self.replay) for index in range(again)]
        random.Random(f"{self.seed}/{number}").shuffle(entries)
        return entries
