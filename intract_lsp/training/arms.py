"""The versions of the model that a run compares, each loaded as a server loads it.

Where memory does not suffice for all of them, one is loaded at a time, and asked about many places before the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken
from intract_lsp.completion.service import Policy
from intract_lsp.errors import AdapterError, TrainingError
from intract_lsp.inference.engine import AdapterFiles, LoadOrder, ModelCard, ModelFiles, ReportProgress
from intract_lsp.inference.loading import NoRoomError
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.models.store import quantized_copy
from intract_lsp.paths import Paths
from intract_lsp.training.arm import Answer, Arm, EngineArm
from intract_lsp.training.spec import RunSpec

BASE, ACTIVE, CANDIDATE = "base", "active", "candidate"


PLACES_A_TURN = 40
"""That a version is asked about while it alone is loaded: loading a large one takes as long as some places."""


@dataclass(frozen=True, slots=True)
class Arms:
    """Versions that can be asked, by name."""

    by_name: Mapping[str, Arm]
    card: ModelCard
    """Of the base."""
    places_a_turn: int = 1
    """How many places one is best asked about before the next one is."""


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
    *,
    together: bool = True,
) -> Iterator[Arms]:
    """Load the model once for each adapter, by the version's name; ``None`` is the base alone.

    Unless they fit ``together``, only the one that was asked last is in memory. All are in the number format that the
    first one gets. Raises ``ModelError``, and ``TrainingError`` for an adapter that cannot be used.
    """
    versions = _Versions(files, adapters, order, report, token, together)
    try:
        card = versions.load_first()
        arms = {name: _Version(versions, name) for name in adapters}
        yield Arms(arms, card, 1 if versions.together else PLACES_A_TURN)
    except AdapterError as error:
        raise TrainingError(str(error)) from error
    finally:
        versions.unload()


class _Versions:
    """The engines of those that are in memory."""

    def __init__(
        self,
        files: ModelFiles,
        adapters: Mapping[str, AdapterFiles | None],
        order: LoadOrder,
        report: ReportProgress,
        token: CancelToken,
        together: bool,
    ) -> None:
        self._files = files
        self._adapters = adapters
        self._order = order
        self._report = report
        self._token = token
        self.together = together
        """Whether all are in memory."""
        self._engines: dict[str, ModelEngine] = {}

    def load_first(self) -> ModelCard:
        """Load the first one, and the others where there is room; return its card."""
        first, *others = self._adapters
        card = self._load(first)
        # Beside it ``auto`` may mean something else.
        self._order = replace(self._order, device=card.device, precision=card.precision)
        try:
            for name in others if self.together else ():
                self._load(name)
        except NoRoomError:
            self.unload()
            self.together = False
        # What is loaded from now on is a part of the measuring.
        self._report = lambda sentence, fraction: None
        return card

    def arm(self, name: str) -> Arm:
        """Return a version, loaded."""
        if name not in self._engines:
            self.unload()
            self._load(name)
        return EngineArm(self._engines[name], Policy(), self._token)

    def unload(self) -> None:
        """Let go of all."""
        while self._engines:
            self._engines.popitem()[1].unload()

    def _load(self, name: str) -> ModelCard:
        adapter = self._adapters[name]
        engine = ModelEngine(lambda model, progress, stop: self._files)
        self._engines[name] = engine
        card = engine.load(replace(self._order, adapter=adapter), self._report, self._token)
        if adapter is not None and card.adapter != adapter.id:
            raise TrainingError(" ".join(card.notes) or f"The adapter {adapter.id} cannot be loaded.")
        return card


@dataclass(frozen=True, slots=True)
class _Version:
    """An ``Arm`` that is loaded when it is asked."""

    versions: _Versions
    name: str

    def complete(self, context: CompletionContext) -> Answer:
        return self.versions.arm(self.name).complete(context)

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        return self.versions.arm(self.name).likelihood(context, middle)
