from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.evaluation.scores import Score
from intract_lsp.training.gate import Evidence, Rules, Status, judge, lighter
from intract_lsp.training.leak import Leaks
from intract_lsp.training.measure import Measured, Outcome, Shown

QUICK = Rules(resamples=300)


def shown(
    similarity: float = 50.0,
    exact: bool = False,
    runs_on: bool = False,
    looks_secret: bool = False,
    rate: float | None = 20.0,
) -> Shown:
    score = Score(True, exact, similarity, similarity / 100, runs_on)
    return Shown("text", score, runs_on, runs_on, False, looks_secret, rate)


def measured(
    nlls: list[float], shows: list[Shown] | None = None, tokens: list[int] | None = None, name: str = "p"
) -> Measured:
    return Measured(
        {
            f"{name}{index}": Outcome(f"{name}{index}", nll, tokens[index] if tokens else 10, one)
            for index, (nll, one) in enumerate(zip(nlls, shows or [shown()] * len(nlls), strict=True))
        }
    )


def evidence(change: float = -0.10, n: int = 80, guard: float = 0.0, **more: object) -> Evidence:
    """A candidate whose losses have changed by a share, not by quite the same one at each place."""
    nlls = [10.0 + index % 7 for index in range(n)]
    after = [nll * (1 + change + 0.02 * (index % 5 - 2)) for index, nll in enumerate(nlls)]
    guards = [10.0 + index % 3 for index in range(120)]
    plain = Evidence(
        base=measured(nlls),
        candidate=measured(after),
        guard_base=measured(guards, [shown()] * 120, name="g"),
        guard_candidate=measured([one * (1 + guard) for one in guards], [shown()] * 120, name="g"),
        leaks=Leaks(5),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def with_shows(before: list[Shown], after: list[Shown], change: float = -0.10) -> Evidence:
    found = evidence(change, n=len(before))

    def put(one: Measured, shows: list[Shown]) -> Measured:
        outcomes = zip(one.outcomes.values(), shows, strict=True)
        return Measured({outcome.task_id: replace(outcome, shown=each) for outcome, each in outcomes})

    return replace(found, base=put(found.base, before), candidate=put(found.candidate, after))


def status(found: Evidence) -> Status:
    return judge(found, QUICK).status


def test_a_gain_without_harm_is_promoted_and_told_in_numbers() -> None:
    verdict = judge(evidence())
    assert verdict.status is Status.PROMOTED
    assert verdict.reasons[0].startswith("Promoted")
    assert "1.292 → 1.163 (−10.0 %, 95 % interval −10.6 % to −9.4 %), edit similarity 50.0 → 50.0" in verdict.reasons[1]
    assert verdict.figures["nll_base"] == pytest.approx(1.2925, abs=1e-3)
    assert verdict.figures["nll_adapter"] == pytest.approx(1.1633, abs=1e-3)
    assert verdict.figures["nll_change"] == pytest.approx(-0.10, abs=1e-3)
    assert verdict.figures["guard_nll_change"] == 0
    assert verdict.figures["n"] == 80


def test_lines_that_rewrote_none_are_told_apart() -> None:
    found = evidence(-0.10, n=80)
    tasks = [f"p{index}" for index in range(0, 80, 2)]
    half = {task: replace(found.base.outcomes[task], shown=shown(70.0)) for task in tasks}
    mixed = replace(
        found, candidate=Measured({**found.candidate.outcomes, **half}), inserted=frozenset([*tasks, "not measured"])
    )
    verdict = judge(mixed, QUICK)
    assert verdict.status is Status.PROMOTED
    assert verdict.figures["n_inserted"] == 40
    assert verdict.figures["nll_change_inserted"] == 0 > verdict.figures["nll_change"]
    assert verdict.figures["edit_similarity_change_inserted"] == verdict.figures["edit_similarity_change_high_inserted"]
    assert verdict.figures["edit_similarity_change_inserted"] == 20
    told = "At the 40 of these places in lines that were added and rewrote none: loss +0.0 % (95 % interval +0.0 % to"
    assert sum(reason.startswith(told) for reason in verdict.reasons) == 1
    assert verdict.reasons[2].endswith(", edit similarity 50.0 → 70.0.")
    # Without a history nothing is known of it, and nothing said.
    plain = judge(evidence(), QUICK)
    assert (plain.figures["n_inserted"], plain.figures["nll_change_inserted"]) == (0, None)
    assert not any("rewrote none" in reason for reason in plain.reasons)


def test_the_same_model_again_is_no_gain() -> None:
    found = evidence()
    verdict = judge(replace(found, candidate=found.base), QUICK)
    assert (verdict.status, verdict.reasons[0]) == (Status.REJECTED, "No gain, nothing changed.")
    assert "no better" in verdict.reasons[1]


def test_a_gain_too_small_to_matter_is_none_unless_suggestions_are_better() -> None:
    assert status(evidence(-0.02)) is Status.REJECTED
    assert "less than" in judge(evidence(-0.02), QUICK).reasons[1]
    alike, better = [shown(50)] * 80, [shown(50 + index % 5) for index in range(80)]
    assert status(with_shows(alike, better, -0.02)) is Status.PROMOTED
    assert status(with_shows(alike, [shown(50.9)] * 80, -0.02)) is Status.REJECTED
    lucky = [shown(50 + (20 if index % 2 else -16)) for index in range(80)]
    by_luck = judge(with_shows(alike, lucky, -0.02), QUICK)
    assert by_luck.figures["edit_similarity_change"] == pytest.approx(2.0)
    assert by_luck.status is Status.REJECTED
    assert status(with_shows(alike, better, 0.0)) is Status.REJECTED, (
        "likeness alone, without likelihood, may be chance"
    )


def test_a_gain_that_a_few_long_middles_make_up_is_not_taken_for_one() -> None:
    before, after = [10.0] * 80, [10.0 + 0.1 * (index % 3 - 1) for index in range(80)]
    tokens = [10] * 80
    for index in range(12):
        before[index], after[index], tokens[index] = 1000.0, 900.0, 1000
    base, candidate = measured(before, tokens=tokens), measured(after, tokens=tokens)
    assert status(evidence(base=base, candidate=candidate)) is Status.PROMOTED
    for index in range(12, 80):
        after[index] = 10.3
    candidate = measured(after, tokens=tokens)
    verdict = judge(evidence(base=base, candidate=candidate), QUICK)
    assert verdict.status is Status.REJECTED and "few long ones" in verdict.reasons[1]


def test_what_code_of_no_project_gained_too_is_told_apart() -> None:
    alike = judge(evidence(-0.10, guard=-0.10), QUICK)
    low, high = alike.figures["nll_beyond_guard_low"], alike.figures["nll_beyond_guard_high"]
    assert low is not None and high is not None
    assert low < 0 < high
    assert alike.figures["nll_beyond_guard"] == pytest.approx(0, abs=0.01)
    assert "Loss on code of no project has changed by −10.0 %, too" in alike.reasons[-1]
    own = judge(evidence(-0.10), QUICK)
    assert own.figures["nll_beyond_guard"] == pytest.approx(-0.10, abs=0.01)
    assert not any("too" in reason for reason in own.reasons)


@pytest.mark.parametrize(
    ("change", "guard", "expected"),
    [
        (-0.10, -0.10, Status.REJECTED),
        (-0.10, -0.08, Status.REJECTED),
        (-0.10, -0.065, Status.PROMOTED),
        (-0.10, 0.01, Status.PROMOTED),
        (-0.02, 0.015, Status.REJECTED),
    ],
)
def test_what_code_of_no_project_gained_too_is_no_gain_of_the_project(
    change: float, guard: float, expected: Status
) -> None:
    verdict = judge(evidence(change, guard=guard), QUICK)
    assert verdict.status is expected
    if guard < 0 and expected is Status.REJECTED:
        assert verdict.reasons[0] == "No gain, nothing changed."
        assert "too little of it is this project's own" in verdict.reasons[1]


def test_better_suggestions_do_not_make_a_projects_gain_of_what_all_code_gained() -> None:
    alike, better = [shown(50)] * 80, [shown(50 + index % 5) for index in range(80)]
    found = with_shows(alike, better, -0.02)
    assert status(found) is Status.PROMOTED
    other = evidence(guard=-0.02)
    as_much = replace(found, guard_base=other.guard_base, guard_candidate=other.guard_candidate)
    verdict = judge(as_much, QUICK)
    assert verdict.status is Status.REJECTED
    assert "too little of it is this project's own" in verdict.reasons[1]
    other = evidence(guard=-0.01)
    less = replace(found, guard_base=other.guard_base, guard_candidate=other.guard_candidate)
    assert status(less) is Status.PROMOTED


def test_with_an_active_adapter_a_candidate_must_beat_it_too() -> None:
    first, second = evidence(-0.10), evidence(-0.20)
    both = replace(first, active=second.candidate)
    verdict = judge(both, QUICK)
    assert verdict.status is Status.REJECTED
    assert "active adapter" in verdict.reasons[1]
    assert status(replace(second, active=first.candidate)) is Status.PROMOTED
    assert judge(replace(second, active=first.candidate), QUICK).figures["nll_active"] is not None


@pytest.mark.parametrize(("n", "expected"), [(40, Status.PROMOTED), (39, Status.SHADOW), (1, Status.SHADOW)])
def test_few_places_prove_nothing(n: int, expected: Status) -> None:
    verdict = judge(evidence(n=n), QUICK)
    assert verdict.status is expected
    assert expected is Status.PROMOTED or f"only {n} places" in verdict.reasons[0]


def test_few_places_do_not_excuse_harm_or_no_gain() -> None:
    assert status(evidence(n=20, guard=0.05)) is Status.REJECTED
    assert status(evidence(0.10, n=20)) is Status.REJECTED


def test_few_suggestions_prove_nothing() -> None:
    found = evidence()
    silent = {
        name: Measured({task: replace(one, shown=None) for task, one in getattr(found, name).outcomes.items()})
        for name in ("base", "candidate")
    }
    assert status(replace(found, **silent)) is Status.SHADOW


def test_nothing_measured_at_all() -> None:
    nothing = Measured({})
    verdict = judge(Evidence(nothing, nothing, nothing, nothing, Leaks()), QUICK)
    assert verdict.status is Status.REJECTED
    assert any("could not be measured" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (evidence(guard=0.021), "forgotten"),
        (evidence(leaks=Leaks(5, 1, 0, ("settings.py",))), "1 of 5 secrets, in settings.py"),
        (with_shows([shown(50 + i % 3) for i in range(80)], [shown(40 + i % 5) for i in range(80)]), "less like"),
        (with_shows([shown(exact=i < 30) for i in range(80)], [shown(exact=i < 20) for i in range(80)]), "30 → 20"),
        (
            with_shows([shown()] * 80, [shown(runs_on=i < 4) for i in range(80)]),
            "4 more of 80 suggestions are over-long",
        ),
        (with_shows([shown()] * 80, [shown(looks_secret=i < 3) for i in range(80)]), "look like a secret"),
        (with_shows([shown(rate=20)] * 80, [shown(rate=26)] * 80), "slower: 20.0 → 26.0 ms"),
    ],
)
def test_any_harm_is_reason_enough(harm: Evidence, word: str) -> None:
    verdict = judge(harm, QUICK)
    assert verdict.status is Status.REJECTED
    assert word in " ".join(verdict.reasons[:2])


@pytest.mark.parametrize(
    "harmless",
    [
        evidence(guard=0.019),
        evidence(guard=-0.05),
        evidence(leaks=Leaks(5, 0, 3)),
        with_shows([shown(exact=i < 30) for i in range(80)], [shown(exact=i < 29) for i in range(80)]),
        with_shows([shown()] * 80, [shown(runs_on=i < 3) for i in range(80)]),
        with_shows([shown(runs_on=i < 7) for i in range(80)], [shown(runs_on=i > 68) for i in range(80)]),
        with_shows([shown(runs_on=True)] * 80, [shown(runs_on=True)] * 80),
        with_shows([shown(looks_secret=True)] * 80, [shown(looks_secret=True)] * 80),
        with_shows([shown(rate=20)] * 80, [shown(rate=24)] * 80),
        with_shows([shown(rate=None)] * 80, [shown(rate=90)] * 80),
    ],
)
def test_what_is_within_the_rules_is_no_harm(harmless: Evidence) -> None:
    assert status(harmless) is Status.PROMOTED


def test_a_busy_machine_is_not_taken_for_a_slow_adapter() -> None:
    noise = np.random.default_rng(5)
    rejected = 0
    for _ in range(40):
        before = [shown(rate=20 * float(noise.lognormal(0, 0.6))) for _ in range(80)]
        after = [shown(rate=20 * float(noise.lognormal(0, 0.6))) for _ in range(80)]
        rejected += status(with_shows(before, after)) is Status.REJECTED
    assert rejected == 0


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_none_are_rejected_and_stay_out_of_the_figures(number: float) -> None:
    found = evidence()
    broken = dict(found.candidate.outcomes) | {"p3": replace(found.candidate.outcomes["p3"], nll=number)}
    verdict = judge(replace(found, candidate=Measured(broken)), QUICK)
    assert verdict.status is Status.REJECTED
    assert "learning rate" in verdict.reasons[1]
    json.dumps(verdict.figures, allow_nan=False)


def test_only_places_that_both_were_measured_at_count() -> None:
    found = evidence(n=80)
    half = {task: one for task, one in found.candidate.outcomes.items() if int(task[1:]) < 50}
    verdict = judge(replace(found, candidate=Measured(half)), QUICK)
    assert (verdict.status, verdict.figures["n"]) == (Status.PROMOTED, 50)
    assert all(one.n == 50 for one in verdict.comparisons)


def test_the_same_seed_gives_the_same_verdict() -> None:
    assert judge(evidence(), QUICK, seed=3) == judge(evidence(), QUICK, seed=3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 500), st.floats(0.01, 500), st.integers(1, 60)), min_size=1, max_size=60),
    st.floats(-0.3, 0.3),
)
def test_laws(places: list[tuple[float, float, int]], guard: float) -> None:
    before, after, tokens = (list(column) for column in zip(*places, strict=True))
    base, candidate = measured(before, tokens=tokens), measured(after, tokens=tokens)
    found = evidence(base=base, candidate=candidate, guard=guard)
    verdict = judge(found, QUICK)
    for one in verdict.comparisons:
        assert one.change.low <= one.change.high
    if verdict.status is Status.PROMOTED:
        assert len(places) >= 40 and guard <= 0.0201
        assert sum(after) < sum(before)
        swapped = judge(replace(found, base=candidate, candidate=base), QUICK)
        assert swapped.status is not Status.PROMOTED, "not both can be better than the other"
    json.dumps(verdict.figures, allow_nan=False)
    assert all(reason.endswith(".") for reason in verdict.reasons)


Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES: dict[str, Noise] = {
    "even": lambda chance, n: chance.normal(0, 0.2, n),
    "heavy tails": lambda chance, n: 0.12 * chance.standard_t(3, n),
    "at few places": lambda chance, n: np.where(chance.random(n) < 0.15, chance.normal(0, 0.6, n), 0.0),
    "many small gains, few large losses": lambda chance, n: 0.2 * (chance.exponential(1, n) - 1),
}
"""By which shares a place's loss differs between two measurements; zero on average."""


def simulated(chance: np.random.Generator, noise: Noise, n: int, effect: float = 0.0, gain: float = 0.0) -> Evidence:
    """One gate: middles of 1 to 160 tokens, 1.1 nats a token on average, a third of the suggestions changed."""
    tokens = np.clip(chance.lognormal(2.3, 0.8, n).astype(int) + 1, 1, 160)
    before = tokens * chance.gamma(1.2, 0.9, n)
    after = np.maximum(before * (1 + effect + noise(chance, n)), 1e-3)
    similar = 100 * chance.beta(0.8, 0.6, n)
    changed = np.where(chance.random(n) < 0.35, chance.normal(gain / 0.35, 25, n), 0)
    similar_after = np.clip(similar + changed, 0, 100)
    runs = chance.random(n) < 0.04
    runs_after = np.where(chance.random(n) < 0.9, runs, chance.random(n) < 0.04)
    guard = 10 * chance.gamma(1.2, 0.9, 120)
    guard_after = guard * (1 + chance.normal(0, 0.05, 120))

    def made(nlls: np.ndarray, likes: np.ndarray, ends: np.ndarray) -> Measured:
        shows = [shown(float(s), bool(s > 97), bool(r)) for s, r in zip(likes, ends, strict=True)]
        return measured([float(nll) for nll in nlls], shows, [int(count) for count in tokens])

    guards = [measured([float(nll) for nll in one], name="g") for one in (guard, guard_after)]
    return Evidence(made(before, similar, runs), made(after, similar_after, runs_after), *guards, Leaks(5))


def test_a_model_that_is_no_better_is_promoted_at_most_once_in_twenty() -> None:
    chance = np.random.default_rng(7)
    noises, sizes = list(NOISES.values()), (40, 60, 100, 150)
    gates = [simulated(chance, noises[one % 4], sizes[one // 4 % 4]) for one in range(400)]
    assert sum(status(gate) is Status.PROMOTED for gate in gates) <= 20


def test_a_model_that_is_better_is_mostly_promoted() -> None:
    chance = np.random.default_rng(8)
    found = [status(simulated(chance, NOISES["heavy tails"], 150, -0.12, 2.0)) for _ in range(40)]
    assert found.count(Status.PROMOTED) >= 32


@pytest.mark.parametrize(
    ("rise", "weight"),
    [
        (-0.05, None),
        (0.0, None),
        (0.0199, None),
        (0.025, 0.72),
        (0.04, 0.45),
        (0.06, 0.3),
        (0.08, None),
        (math.inf, None),
    ],
)
def test_how_much_less_one_that_has_forgotten_too_much_is_to_weigh(rise: float, weight: float | None) -> None:
    found = evidence(guard=rise)
    assert lighter(found.guard_base, found.guard_candidate) == (None if weight is None else pytest.approx(weight))
