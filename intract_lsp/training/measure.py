"""Scores versions of a model on the held-out places, as served: likelihood of what was written, and what is shown.

Each place's context, pieces of other files included, is made once and given to every version. Versions that are
measured together take turns at each place, so that a busy moment of the machine strikes all of them, or after some
places where they are not in memory together.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from intract_lsp.completion.context import CompletionContext, Extent, build_context
from intract_lsp.completion.generation import CancelToken
from intract_lsp.completion.request import CompletionRequest, RejectReason, TriggerKind
from intract_lsp.evaluation.items import Item
from intract_lsp.evaluation.scores import Score, score
from intract_lsp.training.arm import Answer, Arm
from intract_lsp.training.leak import looks_secret

if TYPE_CHECKING:
    from intract_lsp.training.samples import Retrieve

LONGEST_MIDDLE = 700
"""Characters of what was written that are scored; as many as a training span has at most."""

GENERATING_SHARE = 0.5
"""Of the time for measuring, in which suggestions are asked for: the likelihood tells more in the same time."""


@dataclass(frozen=True, slots=True)
class Place:
    """A held-out item, ready to be asked about."""

    item: Item
    context: CompletionContext
    middle: str
    """What was written there: the rest of the line, or of the block where a block is asked for. Ends with no line end
    and has ``\\n`` alone between lines."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a version showed at a place, and how good it is."""

    text: str | None
    score: Score
    stop_error: bool
    """It is more than a line longer or shorter than what was written, or did not end by itself."""
    runs_on: bool
    """It is over-long as ``Score.over_long`` has it, or did not end by itself."""
    repeats_suffix: bool
    """The model wrote the next line below the cursor once more, whether or not a filter took it away."""
    looks_secret: bool
    rate: float | None
    """Milliseconds a token; ``None`` where the other versions were not asked at about the same time."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured, and in how much time."""

    seconds: float = math.inf
    """After which no further turn is begun; suggestions are asked for in the first half of them."""
    generations: int = 100
    """Most places at which suggestions are asked for; the likelihood is taken at all."""
    least_places: int = 0
    """Measured however long they take."""
    least_generations: int = 0
    """The same for suggestions."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One place's result under one version."""

    task_id: str
    nll: float
    """Of the whole middle, summed, in nats."""
    tokens: int
    """Of the middle."""
    shown: Shown | None = None
    """``None`` where nothing was generated, to save time."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One version's outcomes, by task id in the order of measuring."""

    outcomes: Mapping[str, Outcome]

    @property
    def nll(self) -> float | None:
        """Mean negative log-likelihood a token in nats; ``None`` without any token."""
        tokens = sum(outcome.tokens for outcome in self.outcomes.values())
        return sum(outcome.nll for outcome in self.outcomes.values()) / tokens if tokens else None

    def at(self, tasks: Container[str]) -> Measured:
        """Return what was measured at some of the places, by their items' ids."""
        return Measured({task: outcome for task, outcome in self.outcomes.items() if task in tasks})

    @property
    def generated(self) -> int:
        """At how many places something was generated."""
        return sum(outcome.shown is not None for outcome in self.outcomes.values())


def places(items: Sequence[Item], retrieve: Retrieve | None, tokens: int) -> tuple[Place, ...]:
    """Make the items ready, in an order that is the same in each run and has nothing to do with their files.

    ``tokens`` is the room for pieces of other files. Items at which serving suggests nothing, such as inside a word,
    and those whose middle is blank are left out.
    """
    made = (_place(item, retrieve, tokens) for item in sorted(items, key=_order))
    return tuple(place for place in made if place is not None)


def measure(
    arms: Mapping[str, Arm],
    at: Sequence[Place],
    token: CancelToken,
    effort: Effort | None = None,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[float], None] = lambda share: None,
    places_a_turn: int = 1,
) -> dict[str, Measured]:
    """Measure each version at the places, the first ones first; once ``token`` is set, return what there is.

    All versions are measured at the same places, each at ``places_a_turn`` before the next one is. ``clock`` gives
    seconds; ``progress`` is told which share is done.
    """
    effort = effort or Effort()
    outcomes: dict[str, dict[str, Outcome]] = {name: {} for name in arms}
    names = list(arms)
    began = clock()
    for turn, begin in enumerate(range(0, len(at), places_a_turn)):
        spent = clock() - began
        if begin >= effort.least_places and spent >= effort.seconds:
            break
        some = at[begin : begin + places_a_turn]
        generations = effort.generations if spent < GENERATING_SHARE * effort.seconds else 0
        asked = max(generations, effort.least_generations)
        first = turn % len(names) if names else 0
        for name in names[first:] + names[:first]:
            for number, place in enumerate(some, begin):
                if token.cancelled:
                    return {name: Measured(found) for name, found in outcomes.items()}
                outcomes[name][place.item.task_id] = _outcome(
                    arms[name], place, generate=number < asked, timed=places_a_turn == 1
                )
        done = begin + len(some)
        progress(min(1.0, max(done / len(at), (clock() - began) / max(effort.seconds, 1e-9))))
    return {name: Measured(found) for name, found in outcomes.items()}


def _order(item: Item) -> bytes:
    return hashlib.sha256(item.task_id.encode("utf-8", "replace")).digest()


def _place(item: Item, retrieve: Retrieve | None, tokens: int) -> Place | None:
    request = CompletionRequest(
        uri="",
        version=0,
        language_id=item.language_id,
        prefix=item.prefix,
        suffix=item.suffix,
        trigger=TriggerKind.INVOKED,
        path=item.path,
    )
    context = build_context(request)
    if isinstance(context, RejectReason):
        return None
    written = item.truth_block if context.extent is Extent.BLOCK else item.truth_line
    middle = written.replace("\r\n", "\n").rstrip()[:LONGEST_MIDDLE]
    if not middle.strip():
        return None
    if retrieve is not None and tokens > 0:
        chunks = retrieve(item.path, item.language_id, context.above, context.below, tokens)
        context = replace(context, chunks=chunks)
    return Place(item, context, middle)


def _outcome(arm: Arm, place: Place, *, generate: bool, timed: bool) -> Outcome:
    # The likelihood first: the suggestion then finds the prompt computed.
    nll, tokens = arm.likelihood(place.context, place.middle)
    shown = _shown(arm.complete(place.context), place) if generate else None
    if shown is not None and not timed:
        shown = replace(shown, rate=None)
    return Outcome(place.item.task_id, nll, tokens, shown)


def _shown(answer: Answer, place: Place) -> Shown:
    found = score(place.item, answer.text, answer.replace)
    lines = answer.text.rstrip().count("\n") if answer.text is not None else None
    wanted = place.middle.count("\n")
    following = next(iter(place.context.following_lines), "").strip()
    written = _lines(answer.raw)
    return Shown(
        text=answer.text,
        score=found,
        stop_error=answer.broken_off or (lines is not None and abs(lines - wanted) > 1),
        runs_on=answer.broken_off or found.over_long,
        repeats_suffix=bool(following) and written.count(following) > _lines(place.middle).count(following),
        looks_secret=looks_secret(answer.raw, place.context),
        rate=answer.rate,
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]
