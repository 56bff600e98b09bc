"""A training of a tiny model in this process, with what it said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from training_models import some_samples

from intract_lsp.completion.generation import CancelToken
from intract_lsp.training.events import Event
from intract_lsp.training.network import load_base
from intract_lsp.training.sample import Sample
from intract_lsp.training.spec import RunSpec
from intract_lsp.training.trainer import TrainOutcome, train

SAMPLES = some_samples(12)
VALIDATION = some_samples(6, seed=2)
REPLAY = some_samples(4, seed=3)


class Run:
    """A training with what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.token = CancelToken()
        self.on: Callable[[Event], None] = lambda event: None

    def train(
        self,
        spec: RunSpec,
        samples: list[Sample] = SAMPLES,
        validation: list[Sample] = VALIDATION,
        replay: list[Sample] = REPLAY,
    ) -> TrainOutcome:
        def note(event: Event) -> None:
            self.events.append(event)
            self.on(event)

        base = load_base(spec, torch.float32)
        output, checkpoints = self.folder / "adapter", self.folder / "checkpoints"
        return train(spec, samples, validation, replay, output, checkpoints, note, self.token, base)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = load_file(self.folder / "adapter" / "adapter_model.safetensors")
        return found
