"""The report of a run: what was asked, what came of it and why, with places for people to look at. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from intract_lsp.index.secrets import has_secret
from intract_lsp.training.gate import Verdict
from intract_lsp.training.measure import Measured, Place
from intract_lsp.training.spec import RunSpec

EXAMPLES = 10
"""Shown in a report."""

IMPROVED, WORSENED = 4, 3
"""How many of them are the most improved and the most worsened."""

LINES_ABOVE = 6
"""Of the file, that an example shows."""

LONGEST_LINE = 240
"""Characters of a line that an example shows."""


class Choice(str, Enum):
    """Why an example is shown."""

    IMPROVED = "most improved"
    WORSENED = "most worsened"
    ANY = "picked without regard to its quality"


@dataclass(frozen=True, slots=True)
class Example:
    """A place with what was suggested before and after, and what the author wrote."""

    path: str
    line: int
    """From 1."""
    choice: Choice
    above: str
    """The lines before the cursor, its own up to the cursor included."""
    written: str
    before: str | None
    after: str | None
    """What the base and the candidate showed; ``None`` for nothing."""
    similarity_before: float
    similarity_after: float


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a loss curve."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report says."""

    spec: RunSpec
    created: str
    """ISO 8601, with its time zone."""
    seconds: float
    """That the run took, pauses not counted."""
    tokens_per_second: float
    training: tuple[Point, ...]
    """Loss of each step."""
    validation: tuple[Point, ...]
    verdict: Verdict
    examples: tuple[Example, ...]
    provenance: Mapping[str, str]
    """Where it comes from, in words: base and its fingerprint, git head, cut, fingerprint of the data, adapter."""
    plan: Mapping[str, Any]
    """What was taken for training and what was refused, as JSON values."""
    notes: tuple[str, ...] = ()
    """Sentences that the run said on its way."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; what is not a number becomes ``null``."""
        values = asdict(self)
        verdict = values.pop("verdict")
        spec = values.pop("spec")
        tree = {"run": spec["id"], **verdict, **values, "spec": spec}
        plain: dict[str, Any] = _plain(tree)
        return plain


def choose_examples(
    at: Sequence[Place], base: Measured, candidate: Measured, count: int = EXAMPLES
) -> tuple[Example, ...]:
    """Choose places for people to look at: the most improved, the most worsened, the rest by no quality of theirs.

    None shows what looks like a secret.
    """
    found: list[tuple[float, Place]] = []
    for place in at:
        before, after = (one.outcomes.get(place.item.task_id) for one in (base, candidate))
        if before is None or after is None or before.shown is None or after.shown is None:
            continue
        texts = (_above(place), place.middle, before.shown.text or "", after.shown.text or "")
        if before.shown.looks_secret or after.shown.looks_secret or has_secret("\n".join(texts)):
            continue
        a, b = before.shown.score, after.shown.score
        # Of two places with equally similar first lines, the one of which more is right has gained more.
        gain = b.edit_similarity - a.edit_similarity + 10 * (b.saved_characters - a.saved_characters)
        found.append((gain, place))
    ranked = sorted(found, key=lambda pair: pair[0])
    worsened = [place for gain, place in ranked[:WORSENED] if gain < 0]
    improved = [place for gain, place in ranked[::-1][:IMPROVED] if gain > 0]
    taken = {place.item.task_id for place in (*worsened, *improved)}
    others = [place for _, place in found if place.item.task_id not in taken]
    chosen = (
        *((place, Choice.IMPROVED) for place in improved),
        *((place, Choice.WORSENED) for place in worsened),
        *((place, Choice.ANY) for place in others),
    )
    return tuple(_example(place, choice, base, candidate) for place, choice in chosen[:count])


def _example(place: Place, choice: Choice, base: Measured, candidate: Measured) -> Example:
    before, after = base.outcomes[place.item.task_id].shown, candidate.outcomes[place.item.task_id].shown
    assert before is not None and after is not None, "examples are chosen among places with suggestions"
    return Example(
        path=place.item.path,
        line=place.item.prefix.count("\n") + 1,
        choice=choice,
        above=_above(place),
        written=place.middle,
        before=before.text,
        after=after.text,
        similarity_before=before.score.edit_similarity,
        similarity_after=after.score.edit_similarity,
    )


def _above(place: Place) -> str:
    lines = place.item.prefix.replace("\r\n", "\n").split("\n")[-LINES_ABOVE:]
    return "\n".join([*(line[:LONGEST_LINE] for line in lines[:-1]), lines[-1][-LONGEST_LINE:]])


def _plain(value: Any) -> Any:
    """Return a tree of JSON values: what cannot stand in JSON is ``None`` or a text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | None) else str(value)
