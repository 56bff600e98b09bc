"""What a run needs to go on where it was: safetensors and JSON in a directory that is whole or not there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from intract_lsp.errors import TrainingError
from intract_lsp.training.durable import replace_directory, replaced
from intract_lsp.training.losses import Losses, losses_of
from intract_lsp.training.sample import Sample
from intract_lsp.training.spec import Method, RunSpec

_LATEST = "latest"
_BEST = "best"
_STATE = "state.json"
_WEIGHTS = "weights.safetensors"
_OPTIMISER = "optimiser.safetensors"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    fingerprint: str
    """Of the samples and settings: with others it cannot go on."""
    step: int = 0
    """Optimiser steps taken."""
    tokens: int = 0
    seconds: float = 0.0
    """Worked so far."""
    training_seconds: float = 0.0
    """Of these, spent in optimiser steps."""
    base: Losses | None = None
    """Of the validation samples that are scored each time, under the base model."""
    validation_seconds: float = 0.0
    """For scoring them once."""
    validations: int = 0
    """How many of the points in the run at which they are scored are behind it."""
    validated_step: int = 0
    """Steps taken when they were scored last."""
    lowest: Losses | None = None
    """The lowest of those under trained weights."""
    kept: Losses | None = None
    """Under the weights that are kept as the best."""
    worse: int = 0
    """Validations in a row that are worse than the lowest, or than the base model, beyond chance."""
    micro_tokens: int = 0
    """Most tokens of a micro-batch, as far as memory allowed."""
    context_length: int = 0
    """Most tokens of a sample, as far as memory allowed."""
    gradient_checkpointing: bool = False


class Checkpoints:
    """A run's checkpoints in a directory: the latest one, and the best weights."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, progress: Progress, weights: dict[str, Tensor], optimiser: dict[str, Tensor]) -> None:
        """Replace the latest checkpoint. Raises ``TrainingError`` where the disk does not take it."""

        def fill(folder: Path) -> None:
            save_file(weights, folder / _WEIGHTS)
            save_file(optimiser, folder / _OPTIMISER)
            (folder / _STATE).write_text(json.dumps(asdict(progress), indent=2), encoding="utf-8")

        self._write(_LATEST, fill)

    def save_best(self, weights: dict[str, Tensor]) -> None:
        """Replace the best weights. Raises ``TrainingError`` where the disk does not take them."""
        self._write(_BEST, lambda folder: save_file(weights, folder / _WEIGHTS))

    def load(self, fingerprint: str) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]] | None:
        """Return the latest checkpoint, ``None`` where there is none for this fingerprint or it cannot be read."""
        folder = self._existing(_LATEST)
        try:
            values = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            for name in ("base", "lowest", "kept"):
                values[name] = losses_of(values[name])
            progress = Progress(**values)
            if progress.fingerprint != fingerprint:
                return None
            return progress, load_file(folder / _WEIGHTS), load_file(folder / _OPTIMISER)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError):
            return None

    def load_best(self) -> dict[str, Tensor]:
        """Return the best weights. Raises ``TrainingError`` where they are not there."""
        try:
            weights: dict[str, Tensor] = load_file(self._existing(_BEST) / _WEIGHTS)
            return weights
        except (OSError, SafetensorError) as error:
            raise TrainingError("The run's best weights cannot be read: start the run again.") from error

    def remove(self) -> None:
        """Remove all of it; nothing happens where nothing is there."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self, name: str, fill: Callable[[Path], None]) -> None:
        try:
            replace_directory(self.directory / name, fill)
        except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
            raise TrainingError(f"The run's checkpoint cannot be written ({error}): free some disk.") from error

    def _existing(self, name: str) -> Path:
        folder = self.directory / name
        # Killed between the two renames of a replacement, the older one still lies beside.
        return folder if folder.is_dir() else replaced(folder)


def fingerprint(spec: RunSpec, *groups: Sequence[Sample]) -> str:
    """Return a hash of the settings and samples on which the course of a training depends."""
    without = ("threads", "minutes", "processes", "gradient_checkpointing")
    trainer = {name: value for name, value in asdict(spec.trainer).items() if name not in without}
    trainer["method"] = Method(spec.trainer.method).value
    found = hashlib.sha256(json.dumps([spec.model, spec.data.replay_share, trainer], sort_keys=True).encode())
    for group in groups:
        for sample in group:
            found.update(repr((sample.ids, sample.supervised_from)).encode())
        found.update(b"/")
    return found.hexdigest()
