"""When a run ends: of minutes, steps and epochs, what is reached first; and whether it is worth beginning."""

from __future__ import annotations

import math
from dataclasses import dataclass

from intract_lsp.errors import TrainingError
from intract_lsp.training.spec import TrainerSpec

LEAST_STEPS = 20
"""With fewer optimiser steps nothing is learnt that could be measured."""
MEASURED_STEPS = 3
"""After these it is known how long a step takes."""
VALIDATIONS = 5
"""How many times the validation samples are scored in a whole run."""
VALIDATION_SHARE = 0.015
"""Of a run's minutes, for scoring the validation samples once."""

MEASURING_SHARE = 0.5
"""Of the minutes of training, for measuring what came of it: a run ends when it is expected to."""
LEAST_MEASURING, MEASURING_WITHOUT_MINUTES = 480.0, 1800.0
"""Seconds for measuring: at least, and where training is not limited by time."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a run; 0 = no limit."""

    seconds: float
    steps: int
    """By steps and by epochs."""

    @property
    def validation_seconds(self) -> float:
        """How long scoring the validation samples once may take; 0.0 = as long as it takes."""
        return VALIDATION_SHARE * self.seconds

    def done(self, steps: int, seconds: float, validation_seconds: float) -> float:
        """Return how much of the run is over, 1.0 or more where training has to end.

        Time is kept for the validation that comes after the last step.
        """
        by_steps = steps / self.steps if self.steps else 0.0
        if not self.seconds:
            return by_steps
        rest = max(0.25 * self.seconds, self.seconds - validation_seconds)
        return max(by_steps, seconds / rest)

    def expected_steps(self, steps: int, seconds: float, seconds_per_step: float, validation_seconds: float) -> int:
        """Return how many steps there will be in all, after ``steps`` that have taken ``seconds`` with all else."""
        if not self.seconds:
            return self.steps
        done = self.done(0, seconds, validation_seconds)
        passes = VALIDATIONS * max(0.0, 1.0 - done) + 1
        left = max(0.0, self.seconds - seconds - passes * validation_seconds)
        return self.most(steps + math.floor(left / seconds_per_step))

    def most(self, steps: int) -> int:
        """Return ``steps``, or how many there may be at most where these are fewer."""
        return min(self.steps, steps) if self.steps else steps

    def check(self, expected: int, seconds_per_step: float, validation_seconds: float, batch_size: int) -> None:
        """Raise ``TrainingError`` where time allows for fewer than ``LEAST_STEPS`` steps, with what is needed."""
        if not self.seconds or expected >= min(LEAST_STEPS, self.steps or LEAST_STEPS):
            return
        needed = LEAST_STEPS * seconds_per_step + (VALIDATIONS + 1) * validation_seconds
        raise TrainingError(
            f"{self.seconds / 60:.3g} minutes are enough for {expected} steps of {batch_size} samples here, and fewer "
            f"than {LEAST_STEPS} teach nothing: give at least {math.ceil(1.1 * needed / 60)} minutes, or take "
            "a smaller model, batch or context."
        )


def make_budget(spec: TrainerSpec, steps_per_epoch: float) -> Budget:
    """Return a spec's limits. Raises ``TrainingError`` where there are none."""
    counts = [spec.steps] if spec.steps > 0 else []
    if spec.epochs > 0:
        counts.append(max(1, math.ceil(spec.epochs * steps_per_epoch)))
    if not counts and spec.minutes <= 0:
        raise TrainingError("A run needs an end: set training.minutes, training.steps or training.epochs.")
    return Budget(max(0.0, spec.minutes * 60.0), min(counts, default=0))


def measuring_seconds(minutes: float) -> float:
    """Return how long measuring may take after so many minutes of training; 0 = training is not limited by time."""
    return max(LEAST_MEASURING, MEASURING_SHARE * 60 * minutes) if minutes > 0 else MEASURING_WITHOUT_MINUTES
