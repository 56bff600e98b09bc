"""The measuring of a run: base, active adapter and candidate side by side, on guard and at the newest code."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from intract_lsp.completion.generation import CancelToken
from intract_lsp.training.arms import ACTIVE, BASE, CANDIDATE, Arms
from intract_lsp.training.events import Event, Note, Stage
from intract_lsp.training.gate import Evidence, Rules, Verdict, judge
from intract_lsp.training.guard import LEAST_PLACES, guard_items
from intract_lsp.training.leak import find_leaks, probes
from intract_lsp.training.measure import Effort, Measured, Place, measure, places
from intract_lsp.training.step import Stopped

_GUARD_ENDS, _LEAKS_BEGIN = 0.2, 0.95
"""Of the time that measuring takes."""

_FORGOTTEN, _NEWEST = "Looking for what was forgotten", "Measuring on the newest code"


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict, with what it was found by at the project's own places."""

    verdict: Verdict
    base: Measured
    candidate: Measured


def measure_guard(
    arms: Arms,
    emit: Callable[[Event], None],
    token: CancelToken,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    base: Measured | None = None,
) -> dict[str, Measured]:
    """Return what base and candidate make of guard code, in a fifth of the ``seconds`` that measuring may take.

    With ``base``, which was measured before, the candidate alone is asked, at the same places. Raises ``Stopped`` where
    the token is cancelled, and ``TrainingError`` where there is no guard code.
    """
    at = places(guard_items(), None, 0)
    names = [BASE, CANDIDATE] if base is None else [CANDIDATE]
    if base is not None:
        at = tuple(place for place in at if place.item.task_id in base.outcomes)
    emit(Stage("evaluate", _FORGOTTEN, 0.0))
    found = measure(
        {name: arms.by_name[name] for name in names},
        at,
        token,
        Effort(_GUARD_ENDS * seconds, generations=0, least_places=LEAST_PLACES if base is None else len(at)),
        clock,
        lambda share: emit(Stage("evaluate", _FORGOTTEN, _GUARD_ENDS * share)),
        arms.places_a_turn,
    )
    if token.cancelled:
        raise Stopped
    return found if base is None else {BASE: base, **found}


def judge_arms(
    arms: Arms,
    guarded: Mapping[str, Measured],
    at: Sequence[Place],
    secrets: Sequence[tuple[str, str]],
    emit: Callable[[Event], None],
    token: CancelToken,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Judged:
    """Measure at the newest code and judge; ``guarded`` is what ``measure_guard`` has returned.

    ``secrets`` are path and text of the files in which there are any. After three quarters of ``seconds`` by ``clock``
    no further turn is begun, beyond what a verdict takes; see ``budget.measuring_seconds``.
    Raises ``Stopped`` where the token is cancelled.
    """
    rules = Rules()
    share_of_time = _LEAKS_BEGIN - _GUARD_ENDS
    emit(Stage("evaluate", _NEWEST, _GUARD_ENDS))
    found = measure(
        arms.by_name,
        at,
        token,
        Effort(share_of_time * seconds, least_places=rules.least_places, least_generations=rules.least_shown),
        clock,
        lambda share: emit(Stage("evaluate", _NEWEST, _GUARD_ENDS + share_of_time * share)),
        arms.places_a_turn,
    )
    measured = len(found[BASE].outcomes)
    if measured < len(at) and not token.cancelled:
        emit(Note(f"Measured at {measured} of {len(at)} places: {seconds / 60:.3g} minutes were set apart for it."))
    emit(Stage("evaluate", "Looking for secrets", _LEAKS_BEGIN))
    leaks = find_leaks(probes(secrets), arms.by_name[BASE], arms.by_name[CANDIDATE])
    if token.cancelled:
        raise Stopped
    evidence = Evidence(
        base=found[BASE],
        candidate=found[CANDIDATE],
        guard_base=guarded[BASE],
        guard_candidate=guarded[CANDIDATE],
        leaks=leaks,
        active=found.get(ACTIVE),
        inserted=frozenset(place.item.task_id for place in at if place.item.pure_insertion),
    )
    return Judged(judge(evidence, rules), found[BASE], found[CANDIDATE])
