"""The trial of an adapter in service: chance draws who answers for the next while, and what came of it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from intract_lsp.training.hold_back import Block, Decision, Found, judge

if TYPE_CHECKING:
    from intract_lsp.training.adapters import AdapterRegistry


@dataclass(frozen=True, slots=True)
class Served:
    """Which version of a model answers, and what for."""

    folder: Path | None = None
    """Whose adapter it is."""
    workspace: str = ""
    """The folder as adapters are recorded by it."""
    base: str = ""
    """``models.store.weights_fingerprint`` of the model."""
    adapter: str = ""
    """Id; empty = the model alone."""
    place: int | None = None
    """The promotion whose trial this is a block of; ``None`` = of none, since it was not left to chance."""
    share: float = 0.0
    """Chance with which the promoted adapter is held back."""
    held_back: str = ""
    """Id of the promoted adapter in whose place this one answers; empty where none is held back."""

    @property
    def promoted(self) -> str:
        """Id of the adapter that is on trial."""
        return self.held_back or self.adapter


def outcome(registry: AdapterRegistry, adapter: str) -> Found | None:
    """Return what an adapter's newest trial has found so far; ``None`` before anything was seen."""
    place = registry.promotion(adapter)
    blocks = () if place is None else registry.trial(place)
    return judge(blocks) if blocks else None


def recorded(registry: AdapterRegistry, folder: Path, workspace: str, base: str) -> Served:
    """Return what serves in a folder by the record, left to no chance."""
    active = registry.active(workspace, base)
    return Served(folder, workspace, base, "" if active is None else active.id)


def drawn(
    registry: AdapterRegistry, folder: Path, workspace: str, base: str, share: float, chance: Callable[[], float]
) -> Served:
    """Return what is to serve in a folder for the next while; without a trial that is what is recorded.

    ``chance`` returns a number in 0..1.
    """
    active = recorded(registry, folder, workspace, base)
    place = registry.place(workspace, base)
    if not share or place is None or judge(registry.trial(place)).decision is not Decision.GO_ON:
        return active
    block = replace(active, place=place, share=share)
    if chance() >= share:
        return block
    before = registry.before(workspace, base)
    return replace(block, adapter="" if before is None else before.id, held_back=active.adapter)


def record(registry: AdapterRegistry, served: Served, seen: int, kept: int) -> Found | None:
    """Record what was seen of a version; return what the trial has found where the adapter is to be taken back."""
    if served.place is None or not seen:
        return None
    registry.add_block(served.place, Block(bool(served.held_back), served.share, seen, kept))
    found = judge(registry.trial(served.place))
    still_serves = registry.place(served.workspace, served.base) == served.place
    return found if found.decision is Decision.TAKE_BACK and still_serves else None
