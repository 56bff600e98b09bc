"""The measuring of a run: base, active adapter and candidate side by side, at the newest code and on guard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intract_lsp.completion.generation import CancelToken
from intract_lsp.training.arms import ACTIVE, BASE, CANDIDATE, Arms
from intract_lsp.training.events import Event, Note, Stage
from intract_lsp.training.gate import Evidence, Rules, Verdict, judge
from intract_lsp.training.guard import LEAST_PLACES, guard_items
from intract_lsp.training.leak import find_leaks, probes
from intract_lsp.training.measure import Effort, Measured, Place, measure, places
from intract_lsp.training.step import Stopped

_GUARD_BEGINS, _LEAKS_BEGIN = 0.75, 0.95
"""Of the time that measuring takes."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict, with what it was found by at the project's own places."""

    verdict: Verdict
    base: Measured
    candidate: Measured


def judge_arms(
    arms: Arms,
    at: Sequence[Place],
    secrets: Sequence[tuple[str, str]],
    emit: Callable[[Event], None],
    token: CancelToken,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Judged:
    """Measure and judge; ``secrets`` are path and text of the files in which there are any.

    After ``seconds`` by ``clock`` no further turn is begun, beyond what a verdict takes; see
    ``budget.measuring_seconds``.
    Raises ``Stopped`` where the token is cancelled, and ``TrainingError`` where forgetting cannot be judged.
    """

    def progress(sentence: str, begin: float, end: float) -> Callable[[float], None]:
        return lambda share: emit(Stage("evaluate", sentence, begin + (end - begin) * share))

    rules = Rules()
    emit(Stage("evaluate", "Measuring on the newest code", 0.0))
    found = measure(
        arms.by_name,
        at,
        token,
        Effort(_GUARD_BEGINS * seconds, least_places=rules.least_places, least_generations=rules.least_shown),
        clock,
        progress("Measuring on the newest code", 0.0, _GUARD_BEGINS),
        arms.places_a_turn,
    )
    measured = len(found[BASE].outcomes)
    if measured < len(at) and not token.cancelled:
        emit(Note(f"Measured at {measured} of {len(at)} places: {seconds / 60:.3g} minutes were set apart for it."))
    guarded = measure(
        {name: arms.by_name[name] for name in (BASE, CANDIDATE)},
        places(guard_items(), None, 0),
        token,
        Effort((_LEAKS_BEGIN - _GUARD_BEGINS) * seconds, generations=0, least_places=LEAST_PLACES),
        clock,
        progress("Looking for what was forgotten", _GUARD_BEGINS, _LEAKS_BEGIN),
        arms.places_a_turn,
    )
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
    )
    return Judged(judge(evidence, rules), found[BASE], found[CANDIDATE])
