"""Sums up the outcomes of an evaluation: means and medians overall and by group, as JSON and as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from intract_lsp.completion.request import CompletionResult, RejectReason
from intract_lsp.evaluation.items import Item
from intract_lsp.evaluation.run import Outcome

_GROUPS: dict[str, Callable[[Item], str]] = {
    "set": lambda item: item.set,
    "language": lambda item: item.language_id,
    "trigger": lambda item: item.trigger or "unknown",
    "crossfile": lambda item: _three_way(item.crossfile),
    "pure_insertion": lambda item: _three_way(item.pure_insertion),
}


def _three_way(flag: bool | None) -> str:
    return "unknown" if flag is None else "yes" if flag else "no"


@dataclass(frozen=True, slots=True)
class Group:
    """Mean scores of some of the items. ``exact_match`` and the other shares are percentages."""

    n: int
    exact_match: float
    edit_similarity: float
    saved_characters: float
    shown: float
    precision: float | None
    """Percentage of the shown suggestions that match exactly; ``None`` where none was shown."""
    over_long: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one run."""

    overall: Group
    cold_ms_p50: float | None
    """Median over the requests on which the engine did not fail; ``None`` where it failed on all of them."""
    warm_ms_p50: float | None
    tokens_per_second: float | None
    """Tokens for each second of decoding, over the cold answers and without each one's first token, which the prefill
    gives; ``None`` where nothing was decoded."""
    model: str
    device: str
    seconds: float
    reject_reasons: dict[str, int]
    """Why cold requests showed nothing, the most frequent first."""
    engine_errors: int
    """Requests, cold or warm, on which the engine failed: figures with any are not to be trusted."""
    groups: dict[str, dict[str, Group]]
    """By property (``set``, ``language``, ``trigger``, ``crossfile``, ``pure_insertion``), then by its value."""

    def to_json(self) -> dict[str, Any]:
        """Return one flat JSON object with the nested groups last; figures rounded to a thousandth."""
        tree = asdict(self)
        overall, groups = tree.pop("overall"), tree.pop("groups")
        rounded: dict[str, Any] = _rounded({**overall, **tree, "groups": groups})
        return rounded


def summarise(outcomes: Sequence[Outcome], *, device: str, seconds: float) -> Summary:
    """Sum up a run's outcomes, at least one; ``seconds`` is how long the run took."""
    if not outcomes:
        raise ValueError("a summary needs at least one outcome")
    timings = [outcome.result.timings for outcome in outcomes]
    decode = sum(timing.decode for timing in timings) / 1000
    decoded = sum(max(0, timing.generated_tokens - 1) for timing in timings)
    reasons: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.result.reject_reason is not None:
            reason = outcome.result.reject_reason.value
            reasons[reason] = reasons.get(reason, 0) + 1
    return Summary(
        overall=_group(outcomes),
        cold_ms_p50=_median(outcome.cold_ms for outcome in outcomes if not _failed(outcome.result)),
        warm_ms_p50=_median(outcome.warm_ms for outcome in outcomes if not _failed(outcome.warm)),
        tokens_per_second=decoded / decode if decode else None,
        model=next((outcome.result.model for outcome in outcomes if outcome.result.model), ""),
        device=device,
        seconds=seconds,
        reject_reasons=dict(sorted(reasons.items(), key=lambda pair: -pair[1])),
        engine_errors=sum(_failed(outcome.result) + _failed(outcome.warm) for outcome in outcomes),
        groups={name: _grouped(outcomes, key) for name, key in _GROUPS.items()},
    )


def _failed(result: CompletionResult) -> bool:
    return result.reject_reason is RejectReason.ENGINE_ERROR


def _median(values: Iterable[float]) -> float | None:
    kept = list(values)
    return median(kept) if kept else None


def _grouped(outcomes: Sequence[Outcome], key: Callable[[Item], str]) -> dict[str, Group]:
    members: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        members.setdefault(key(outcome.item), []).append(outcome)
    return {value: _group(members[value]) for value in sorted(members)}


def _group(outcomes: Sequence[Outcome]) -> Group:
    scores = [outcome.score for outcome in outcomes]
    shown = [one.exact_match for one in scores if one.shown]
    return Group(
        n=len(scores),
        exact_match=_percent(one.exact_match for one in scores),
        edit_similarity=_mean(one.edit_similarity for one in scores),
        saved_characters=_percent(one.saved_characters for one in scores),
        shown=_percent(one.shown for one in scores),
        precision=_percent(shown) if shown else None,
        over_long=_percent(one.over_long for one in scores),
    )


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return sum(kept) / len(kept)


def _percent(values: Iterable[float]) -> float:
    return 100 * _mean(values)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value


def format_summary(summary: Summary) -> str:
    """Return a compact table for people: a row overall, then one for each group where a property has several values."""
    head = ("items", "n", "exact %", "similar %", "saved %", "shown %", "precise %", "over-long %")
    rows = [head, _cells("all", summary.overall)]
    for name, values in summary.groups.items():
        if len(values) > 1:
            rows.extend(_cells(f"{name} {value}", group) for value, group in values.items())
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    if summary.reject_reasons:
        lines.append("nothing shown: " + ", ".join(f"{name} {count}" for name, count in summary.reject_reasons.items()))
    if summary.engine_errors:
        lines.append(f"The model failed on {summary.engine_errors} requests: do not trust these figures; see the log.")
    lines.append(
        f"cold {_number(summary.cold_ms_p50, ' ms')}, warm {_number(summary.warm_ms_p50, ' ms')} (medians), "
        f"{_number(summary.tokens_per_second, ' tokens/s')}, {summary.seconds:.0f} s "
        f"on {summary.device or 'no device'} with {summary.model or 'no model'}"
    )
    return "\n".join(lines)


def _cells(name: str, group: Group) -> tuple[str, ...]:
    return (
        name,
        str(group.n),
        _number(group.exact_match),
        _number(group.edit_similarity),
        _number(group.saved_characters),
        _number(group.shown),
        _number(group.precision),
        _number(group.over_long),
    )


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.1f}{unit}"
