"""The versions of the model that a run compares, each loaded as a server loads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from intract_lsp.completion.generation import CancelToken
from intract_lsp.completion.service import Policy
from intract_lsp.errors import AdapterError, TrainingError
from intract_lsp.inference.engine import AdapterFiles, LoadOrder, ModelCard, ModelFiles, ReportProgress
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.models.store import quantized_copy
from intract_lsp.paths import Paths
from intract_lsp.training.arm import Arm, EngineArm
from intract_lsp.training.spec import RunSpec

BASE, ACTIVE, CANDIDATE = "base", "active", "candidate"


@dataclass(frozen=True, slots=True)
class Arms:
    """Versions that are loaded together, by name."""

    by_name: Mapping[str, Arm]
    card: ModelCard
    """Of the base."""


def served_files(spec: RunSpec, paths: Paths) -> ModelFiles:
    """Return the files of a run's base model as a server loads them."""
    directory = Path(spec.model_directory)
    return ModelFiles(spec.model, directory, spec.fim_family, quantized_copy(directory, paths))


def served_order(spec: RunSpec) -> LoadOrder:
    """Return as what a server loads a run's base model."""
    return LoadOrder(spec.model, spec.trainer.device, spec.precision, spec.trainer.threads)


@contextmanager
def loaded(
    files: ModelFiles,
    adapters: Mapping[str, AdapterFiles | None],
    order: LoadOrder,
    report: ReportProgress,
    token: CancelToken,
) -> Iterator[Arms]:
    """Load the model once for each adapter, by the version's name; ``None`` is the base alone.

    All are in the number format that the first one gets. Raises ``ModelError``, and ``TrainingError`` for an adapter
    that cannot be used.
    """
    engines: list[ModelEngine] = []
    arms: dict[str, Arm] = {}
    card: ModelCard | None = None
    try:
        for name, adapter in adapters.items():
            engine = ModelEngine(lambda model, progress, stop: files)
            found = engine.load(replace(order, adapter=adapter), report, token)
            engines.append(engine)
            if adapter is not None and found.adapter != adapter.id:
                raise TrainingError(" ".join(found.notes) or f"The adapter {adapter.id} cannot be loaded.")
            arms[name] = EngineArm(engine, Policy(), token)
            if card is None:
                # Beside the first one ``auto`` may mean something else.
                card, order = found, replace(order, device=found.device, precision=found.precision)
        assert card is not None, "there is always the base"
        yield Arms(arms, card)
    except AdapterError as error:
        raise TrainingError(str(error)) from error
    finally:
        for engine in engines:
            engine.unload()
