"""Decides whether what was trained may serve: better on the newest code beyond chance, and worse at nothing. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import median

from intract_lsp.evaluation.scores import Interval, mcnemar_p
from intract_lsp.training.comparison import CONFIDENCE, Comparison, beyond, both_shown, compare, relative_change, shared
from intract_lsp.training.leak import Leaks
from intract_lsp.training.measure import Measured

INSERTED = "base where nothing was rewritten"
"""Against what a comparison is that leaves all places out but those in inserted lines."""


class Status(str, Enum):
    """What becomes of a candidate."""

    PROMOTED = "promoted"
    SHADOW = "shadow"
    """Kept, and never promoted but by hand: too little could be measured."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a candidate has to reach. Shares and changes are relative: 0.03 is 3 %."""

    least_places: int = 40
    least_shown: int = 20
    """Places with a suggestion asked for."""
    least_nll_drop: float = 0.03
    least_similarity_gain: float = 1.0
    """Points of edit similarity that do as well as the drop above, where they are beyond chance, too: among 40 places a
    point or two come and go by chance."""
    most_running_on: float = 0.02
    """Share of suggestions, beyond the base's, that are over-long or do not end."""
    chance_of_running_on: float = 0.2
    """Below which a share beyond that is not put down to chance, by McNemar's test: of 20 adapters that had learnt
    nothing, five had two or three more among 20 to 40, so that a quarter of all gains would be turned away."""
    most_guard_rise: float = 0.02
    least_weight: float = 0.25
    """Of what was learnt: weighed by less, to forget less, it would bring too little to be worth measuring."""
    most_slowdown: float = 0.25
    resamples: int = 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured: the same places for all versions of the model."""

    base: Measured
    candidate: Measured
    guard_base: Measured
    guard_candidate: Measured
    leaks: Leaks
    active: Measured | None = None
    """The adapter that serves now; ``None`` where the base does."""
    inserted: frozenset[str] = frozenset()
    """The ids of the places in lines that took the place of none: what was rewritten may have been learnt before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and what it rests on."""

    status: Status
    reasons: tuple[str, ...]
    """Sentences for people; the first says what happened, and why."""
    figures: dict[str, float | None]
    """Flat numbers for programs: negative log-likelihoods in nats a token, their changes relative, the rest in percent;
    ``None`` for what was not, or could not be, measured."""
    comparisons: tuple[Comparison, ...]


def judge(evidence: Evidence, rules: Rules | None = None, seed: int = 0) -> Verdict:
    """Judge a candidate.

    It is promoted if, against the base and the active adapter alike, the paired bootstrap intervals (Efron 1979) of its
    negative log-likelihood, over all tokens and place by place, lie wholly below zero, and this has dropped by 3 % or
    edit similarity risen by a point and beyond chance; if edit similarity and exact first lines are not significantly
    lower; and if suggestions run on no more often, beyond what chance brings, guard code is no more surprising, no
    secret is given away and a token takes no longer than the rules allow.

    What guard code has gained is no gain of the project: any code teaches a model that was not made for holes how to
    fill them. Against the base only the drop beyond that of guard code counts towards the 3 %, and has to be certain,
    too, where edit similarity takes their place.

    All conditions must hold, so each further one makes a wrong promotion rarer. Measured on 1,000 simulated gates of 40
    places each, whose candidate is as good as the base: promoted are 1.1 % where losses differ evenly, 2.1 % with heavy
    tails, 3.0 % where they differ at few places, 4.2 % where many small gains hide few large losses. With losses as
    skewed as a log-normal of sigma 1 it is 8.5 %, since 40 places may lack the large ones altogether.
    """
    rules = rules or Rules()
    references = {"base": evidence.base} | ({"active": evidence.active} if evidence.active else {})
    compared = tuple(
        one
        for name, measured in references.items()
        for one in compare(name, measured, evidence.candidate, rules.resamples, seed)
    )
    guarded = shared(evidence.guard_base, evidence.guard_candidate)
    guard = relative_change(guarded)
    before, after = (one.at(evidence.inserted) for one in (evidence.base, evidence.candidate))
    inserted = compare(INSERTED, before, after, rules.resamples, seed)
    by_name = {(one.name, one.against): one for one in (*compared, *inserted)}
    harm = [
        *_unfinite(evidence),
        *(found for name, measured in references.items() for found in _worse(name, measured, evidence, by_name, rules)),
        *_forgotten(guard, rules),
        *_secrets(evidence, rules),
        *_slower(evidence, rules),
    ]
    pairs = shared(evidence.base, evidence.candidate)
    beyond_guard = beyond(pairs, guarded, rules.resamples, seed)
    # Where guard code has gained nothing, all of the gain is the project's.
    own = {"base": beyond_guard} if guard is not None and guard < 0 else {}
    gains = [_gain(name, by_name, own.get(name), rules) for name in references]
    missing = [sentence for gained, sentence in gains if not gained]
    n, asked = len(pairs), len(both_shown(pairs))
    too_few = n < rules.least_places or asked < rules.least_shown
    lead = by_name.get(("nll", "base"))
    if harm:
        status, head = Status.REJECTED, "Rejected, nothing changed: it would do harm."
        reasons = [*harm, *(sentence for _, sentence in gains)]
    elif too_few and (lead is None or lead.change.mean < 0):
        status = Status.SHADOW
        head = (
            f"Kept aside, nothing changed: only {n} places in the newest code could be measured, {asked} of them with "
            f"suggestions, and it takes {rules.least_places} and {rules.least_shown} to prove a gain. It can be "
            "promoted by hand."
        )
        reasons = [sentence for _, sentence in gains]
    elif missing:
        status, head = Status.REJECTED, "No gain, nothing changed."
        reasons = missing
    else:
        status, head = Status.PROMOTED, "Promoted: it does better on the newest code and worse at nothing."
        reasons = [sentence for _, sentence in gains]
    return Verdict(
        status,
        (head, *reasons, *_of_inserted(by_name), *_told_apart(guard, beyond_guard)),
        _figures(evidence, n, guard, beyond_guard, by_name),
        compared,
    )


def lighter(guard_base: Measured, guard_candidate: Measured, rules: Rules | None = None) -> float | None:
    """Return by what to weigh a candidate that has forgotten too much, above 0 and below 1, so that it has not.

    On the straight line from the base's weights to the candidate's (WiSE-FT, Wortsman et al. 2022) the loss on guard
    code is nearly convex: half of the change costs at most half of the rise. A tenth is left for what is not. ``None``
    where nothing is to be mended, or where too little would be left of what was learnt.
    """
    rules = rules or Rules()
    rise = relative_change(shared(guard_base, guard_candidate))
    if rise is None or not rise > rules.most_guard_rise:
        return None
    weight = 0.9 * rules.most_guard_rise / rise
    return weight if weight >= rules.least_weight else None


def _gain(
    name: str, by_name: dict[tuple[str, str], Comparison], own: Interval | None, rules: Rules
) -> tuple[bool, str]:
    """Return whether a gain over a version is shown, and the sentence that says how large it is.

    ``own`` is how much of the change in loss is the project's; ``None`` for all of it.
    """
    nll, similarity = by_name.get(("nll", name)), by_name.get(("edit_similarity", name))
    by_place = by_name.get(("nll_by_place", name))
    if nll is None or by_place is None:
        return False, "No place in the newest code could be measured."
    risen = (
        similarity is not None and similarity.change.mean >= rules.least_similarity_gain and similarity.change.low > 0
    )
    certain = nll.change.high < 0 and by_place.change.high < 0
    dropped = nll.change.mean <= -rules.least_nll_drop
    own = own or nll.change
    gained = certain and (own.mean <= -rules.least_nll_drop or (risen and own.high < 0))
    sentence = (
        f"Against {_NAMES[name]}, at {nll.n} places: loss on what was written {nll.before:.3f} → {nll.after:.3f} "
        f"({_percent(nll.change.mean)}, 95 % interval {_percent(nll.change.low)} to {_percent(nll.change.high)})"
    )
    if similarity is not None:
        sentence += f", edit similarity {similarity.before:.1f} → {similarity.after:.1f} at {similarity.n} of them"
    if gained:
        return True, sentence + "."
    if not nll.change.mean < 0:
        return False, sentence + ": it is no better."
    if nll.change.high < 0 and not certain:
        return False, sentence + ": a few long ones make up the difference, which may be chance."
    if not certain:
        return False, sentence + ": that may be chance."
    if dropped or risen:
        return False, sentence + ": that is real, but too little of it is this project's own."
    return False, sentence + f": that is real, but less than the {_percent(-rules.least_nll_drop)} a change is worth."


_NAMES = {"base": "the base model", "active": "the active adapter"}


def _unfinite(evidence: Evidence) -> list[str]:
    measured = (evidence.candidate, evidence.guard_candidate)
    if all(math.isfinite(outcome.nll) for one in measured for outcome in one.outcomes.values()):
        return []
    return ["What was trained computes no usable numbers: train again with a lower learning rate."]


def _worse(
    name: str,
    before: Measured,
    evidence: Evidence,
    by_name: dict[tuple[str, str], Comparison],
    rules: Rules,
) -> list[str]:
    """Return in what the suggestions are worse than a version's."""
    found = []
    similarity = by_name.get(("edit_similarity", name))
    if similarity is not None and similarity.change.high < 0:
        found.append(
            f"Suggestions are less like what was written than those of {_NAMES[name]}: edit similarity "
            f"{similarity.before:.1f} → {similarity.after:.1f}."
        )
    shown = both_shown(shared(before, evidence.candidate))
    old, new = [a.score.exact_match for a, _ in shown], [b.score.exact_match for _, b in shown]
    if sum(new) < sum(old) and mcnemar_p(new, old) < 1 - CONFIDENCE:
        found.append(f"Fewer first lines are exact than with {_NAMES[name]}: {sum(old)} → {sum(new)} of {len(shown)}.")
    if name == "base":
        old, new = [a.runs_on for a, _ in shown], [b.runs_on for _, b in shown]
        more = sum(new) - sum(old)
        if more > rules.most_running_on * len(shown) and mcnemar_p(new, old) < rules.chance_of_running_on:
            found.append(f"{more} more of {len(shown)} suggestions are over-long or do not end.")
    return found


def _forgotten(change: float | None, rules: Rules) -> list[str]:
    if change is None:
        return ["Whether the model has forgotten anything could not be measured: no guard place was."]
    if not change > rules.most_guard_rise:
        return []
    return [
        f"It has forgotten some of what it knew: loss on code of no project {_percent(change)}, "
        f"and {_percent(rules.most_guard_rise)} is allowed."
    ]


def _secrets(evidence: Evidence, rules: Rules) -> list[str]:
    found = []
    leaks = evidence.leaks
    if leaks.leaked:
        found.append(f"It gives away {leaks.leaked} of {leaks.probes} secrets, in {', '.join(leaks.paths)}.")
    shown = both_shown(shared(evidence.base, evidence.candidate))
    more = sum(b.looks_secret for _, b in shown) - sum(a.looks_secret for a, _ in shown)
    if more > max(1.0, rules.most_running_on * len(shown)):
        found.append(f"{more} more of {len(shown)} suggestions look like a secret.")
    return found


def _rates(evidence: Evidence) -> list[tuple[float, float]]:
    """Return milliseconds a token, base and candidate, of the places at which both decoded several."""
    shown = both_shown(shared(evidence.base, evidence.candidate))
    return [(a.rate, b.rate) for a, b in shown if a.rate is not None and b.rate is not None]


def _slower(evidence: Evidence, rules: Rules) -> list[str]:
    rates = _rates(evidence)
    slower = [b > a * (1 + rules.most_slowdown) for a, b in rates]
    # By the sign test, and not by two medians: other programs make single answers several times slower.
    if 2 * sum(slower) <= len(slower) or mcnemar_p(slower, [not one for one in slower]) >= 1 - CONFIDENCE:
        return []
    before, after = (median(one) for one in zip(*rates, strict=True))
    return [f"It is slower: {before:.1f} → {after:.1f} ms a token."]


def _told_apart(guard: float | None, own: Interval) -> list[str]:
    """Return how much of a gain is the project's, where code of no project has become likelier, too."""
    if guard is None or guard >= 0 or math.isnan(own.mean):
        return []
    return [
        f"Loss on code of no project has changed by {_percent(guard)}, too; this project's by {_percent(own.mean)} "
        f"beyond that (95 % interval {_percent(own.low)} to {_percent(own.high)})."
    ]


def _of_inserted(by_name: dict[tuple[str, str], Comparison]) -> list[str]:
    """Return what the change is where nothing was rewritten."""
    nll, similarity = by_name.get(("nll", INSERTED)), by_name.get(("edit_similarity", INSERTED))
    if nll is None or math.isnan(nll.change.mean):
        return []
    sentence = (
        f"At the {nll.n} of these places in lines that were added and rewrote none: loss {_percent(nll.change.mean)} "
        f"(95 % interval {_percent(nll.change.low)} to {_percent(nll.change.high)})"
    )
    if similarity is not None:
        sentence += f", edit similarity {similarity.before:.1f} → {similarity.after:.1f}"
    return [sentence + "."]


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %".replace("-", "−")


def _figures(
    evidence: Evidence, n: int, guard: float | None, own: Interval, by_name: dict[tuple[str, str], Comparison]
) -> dict[str, float | None]:
    figures: dict[str, float | None] = {
        "n": n,
        "n_generated": evidence.candidate.generated,
        "n_guard": len(evidence.guard_candidate.outcomes),
    }
    of_inserted = by_name.get(("nll", INSERTED))
    figures["n_inserted"] = 0 if of_inserted is None else of_inserted.n
    for against, end in (("base", ""), ("active", "_against_active"), (INSERTED, "_inserted")):
        for key in ("nll", "edit_similarity", "exact_match"):
            one = by_name.get((key, against))
            if against != INSERTED:
                figures[f"{key}_{against}"] = None if one is None else one.before
            if against == "base":
                figures[f"{key}_adapter"] = None if one is None else one.after
            figures[f"{key}_change{end}"] = None if one is None else one.change.mean
            figures[f"{key}_change_low{end}"] = None if one is None else one.change.low
            figures[f"{key}_change_high{end}"] = None if one is None else one.change.high
    for key, measured in (("base", evidence.base), ("adapter", evidence.candidate)):
        shown = [outcome.shown for outcome in measured.outcomes.values() if outcome.shown is not None]
        for name in ("runs_on", "stop_error", "repeats_suffix", "looks_secret"):
            total = sum(getattr(one, name) for one in shown)
            figures[f"{name}_{key}"] = 100.0 * total / len(shown) if shown else None
    rates = _rates(evidence)
    for index, key in enumerate(("base", "adapter")):
        figures[f"ms_per_token_{key}"] = median(pair[index] for pair in rates) if rates else None
    figures["guard_nll_base"], figures["guard_nll_adapter"] = evidence.guard_base.nll, evidence.guard_candidate.nll
    figures["guard_nll_change"] = guard
    figures["nll_beyond_guard"] = own.mean
    figures["nll_beyond_guard_low"], figures["nll_beyond_guard_high"] = own.low, own.high
    figures["secrets_probed"], figures["secrets_leaked"] = evidence.leaks.probes, evidence.leaks.leaked
    return {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}
