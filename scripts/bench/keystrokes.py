"""Keystrokes: what a person types to write an item's line, what each cost, and what they add up to. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from intract_lsp.evaluation.items import Item

Figures = dict[str, Any]
"""Names and numbers of a bench's last line; ``None`` where there was nothing to measure."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_ENTER = re.compile(r"(?:\r\n|\r|\n)[ \t]*")
_INDENT = re.compile(r"[ \t]*")

_GATES = frozenset({"disabled", "language-off", "unknown-document", "outside-document", "binary", "secret-file"})
_PLACE_GATES = frozenset({"no-text", "mid-word", "mid-line", "popup-mismatch"})
_FAILURES = frozenset(
    {"no-model", "loading", "model-failed", "engine-error", "deadline", "superseded", "stale", "cancelled"}
)


@dataclass(frozen=True, slots=True)
class TypedLine:
    """A document at the moment when an item's line is still to be typed."""

    item: Item
    before: str
    """Up to the start of the cursor's line."""
    keys: tuple[str, ...]
    """What each key inserts: the line's indentation at once, as editors put it, then a character each, then the line's
    end with the next line's indentation where the author went on."""
    truth: str
    """All that the author wrote from the line's start on: the line, and the block where the item has one."""

    @property
    def line_number(self) -> int:
        """The typed line's number in the document, from 0, as LSP counts lines."""
        return len(_LINE_END.findall(self.before))


def typed_line(item: Item, most_keys: int | None = None) -> TypedLine:
    """Return an item's line as ``most_keys`` keys at most (all of them for ``None``)."""
    start = max(item.prefix.rfind("\n"), item.prefix.rfind("\r")) + 1
    line = item.prefix[start:] + item.truth_line
    indent = _INDENT.match(line)
    assert indent is not None, "the pattern matches the empty text"
    keys = [indent.group()] if indent.group() else []
    keys += line[indent.end() :]
    enter = _ENTER.match(item.truth_block[len(item.truth_line) :])
    if enter is not None:
        keys.append(enter.group())
    truth = item.prefix[start:] + item.truth_block
    return TypedLine(item, item.prefix[:start], tuple(keys[:most_keys]), truth)


class Answered(Enum):
    """What it took to answer a keystroke."""

    MODEL = "model"
    """A generation was started for it."""
    CACHE = "cache"
    """A suggestion that was there already, or the knowledge that nothing is left to suggest."""
    IN_FLIGHT = "in-flight"
    """A generation that an earlier keystroke had started."""
    GATE = "gate"
    """Refused by its place or its document before anything was looked up."""


def how_answered(why: Mapping[str, Any]) -> Answered:
    """Tell from the answer of ``intract.why``. Raises ``ValueError`` where the server could not do its work."""
    source, reason = why["source"], why["reason"]
    if reason in _FAILURES:
        raise ValueError(f"The server answered a keystroke with {reason}: {why['message']}")
    if source is not None:
        return Answered(source)
    if reason in _GATES | _PLACE_GATES:
        return Answered.GATE
    return Answered.MODEL if why["promptTokens"] else Answered.CACHE


@dataclass(frozen=True, slots=True)
class RivalTime:
    """What llama.cpp took for the same keystroke, in milliseconds."""

    total_ms: float
    first_token_ms: float
    shown: bool


@dataclass(frozen=True, slots=True)
class Keystroke:
    """One key of one line, and what its suggestion cost."""

    line: int
    key: int
    typed: str
    """What stands on the line, the key included."""
    answered: Answered
    shown: bool
    latency_ms: float
    """From sending the edit to having the answer, at the client."""
    decode_ms: float
    decoded: int
    """Tokens that the model made for it."""
    used: int
    """Those of them whose text the author wrote there: in proportion to the characters, as tokens are not sent."""
    retrieve_ms: float = 0.0
    """Looking for pieces of other files; 0 where the line's were at hand."""
    rival: RivalTime | None = None

    @property
    def first_token_ms(self) -> float:
        """The latency without the decoding: the first token comes out of the prefill."""
        return self.latency_ms - self.decode_ms


def used_tokens(decoded: int, suggestion: str, rest: str) -> int:
    """Return how many of ``decoded`` tokens spell the beginning that ``suggestion`` and ``rest`` share."""
    suggestion, rest = (text.replace("\r\n", "\n") for text in (suggestion, rest))
    same = next((i for i, (a, b) in enumerate(zip(suggestion, rest, strict=False)) if a != b), None)
    characters = min(len(suggestion), len(rest)) if same is None else same
    return round(decoded * characters / len(suggestion)) if suggestion else 0


def first_calls(strokes: Sequence[Keystroke]) -> list[Keystroke]:
    """Return each line's first keystroke that reached the model: no KV cache fits it."""
    first: dict[int, Keystroke] = {}
    for stroke in strokes:
        if stroke.answered is Answered.MODEL:
            first.setdefault(stroke.line, stroke)
    return list(first.values())


def warm_calls(strokes: Sequence[Keystroke]) -> list[Keystroke]:
    """Return the keystrokes that reached the model behind another of their line, and showed something in every arm."""
    first = {(stroke.line, stroke.key) for stroke in first_calls(strokes)}
    return [
        stroke
        for stroke in strokes
        if stroke.answered is Answered.MODEL and (stroke.line, stroke.key) not in first and shown_by_all(stroke)
    ]


def shown_by_all(stroke: Keystroke) -> bool:
    """Whether every arm that was asked had something to suggest."""
    return stroke.shown and (stroke.rival is None or stroke.rival.shown)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which ``share`` (0..1) of the values lie, between neighbours in proportion."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def ratio(ours: float | None, rival: float | None) -> float | None:
    """Return ours over the rival's, ``None`` where either is missing or nothing."""
    return ours / rival if ours is not None and rival else None


def summarise(strokes: Sequence[Keystroke]) -> Figures:
    """Sum up a replay: times in ms, shares in percent, ratios ours over llama.cpp's (below 1: ours is faster)."""
    warm, first = warm_calls(strokes), [stroke for stroke in first_calls(strokes) if shown_by_all(stroke)]
    figures: Figures = {"n": len(warm), "lines": len({stroke.line for stroke in strokes}), "keystrokes": len(strokes)}
    figures |= _compared("p50", [s.latency_ms for s in warm], _rivals(warm), 0.5)
    figures |= _compared("p95", [s.latency_ms for s in warm], _rivals(warm), 0.95)
    first_tokens = [s.rival.first_token_ms for s in warm if s.rival is not None]
    figures |= _compared("first_token_p50", [s.first_token_ms for s in warm], first_tokens, 0.5)
    figures["first_suggestion_n"] = len(first)
    figures |= _compared("first_suggestion_p50", [s.latency_ms for s in first], _rivals(first), 0.5)
    every = [stroke.latency_ms for stroke in strokes]
    figures["all_keystrokes_p50_ms"] = percentile(every, 0.5)
    figures["all_keystrokes_p95_ms"] = percentile(every, 0.95)
    return figures | _shares(strokes) | _waste(strokes)


def _rivals(strokes: Sequence[Keystroke]) -> list[float]:
    return [stroke.rival.total_ms for stroke in strokes if stroke.rival is not None]


def _compared(name: str, ours: Sequence[float], rivals: Sequence[float], share: float) -> Figures:
    """Return ``NAME_ms``, ``llama_NAME_ms`` and the ratio, which is named ``ratio_p50`` or ``WHAT_ratio_p50``."""
    what, _, level = name.rpartition("_")
    own, rival = percentile(ours, share), percentile(rivals, share)
    title = f"{what}_ratio_{level}" if what else f"ratio_{level}"
    return {f"{name}_ms": own, f"llama_{name}_ms": rival, title: ratio(own, rival)}


def _shares(strokes: Sequence[Keystroke]) -> Figures:
    """Return who answered. Refusals are no answers: ``answered_without_model`` is a share of the keystrokes without."""
    count = {way: sum(stroke.answered is way for stroke in strokes) for way in Answered}
    asked = len(strokes) - count[Answered.GATE]
    without = count[Answered.CACHE] + count[Answered.IN_FLIGHT]
    return {
        "answered_without_model": _percent(without, asked),
        "answered_from_cache": _percent(count[Answered.CACHE], asked),
        "answered_in_flight": _percent(count[Answered.IN_FLIGHT], asked),
        "refused_by_gate": _percent(count[Answered.GATE], len(strokes)),
        "shown": _percent(sum(stroke.shown for stroke in strokes), len(strokes)),
    }


def _waste(strokes: Sequence[Keystroke]) -> Figures:
    decoded, used = (sum(values) for values in ([s.decoded for s in strokes], [s.used for s in strokes]))
    return {
        "decoded_tokens": decoded,
        "wasted_tokens": decoded - used,
        "wasted_share": _percent(decoded - used, decoded),
    }


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def over_quiet(quiet: Sequence[Keystroke], busy: Sequence[Keystroke]) -> Figures:
    """Compare two replays of the same lines over the keystrokes that are warm calls in both."""
    quietly = {(stroke.line, stroke.key): stroke for stroke in warm_calls(quiet)}
    pairs = [(quietly[s.line, s.key], s) for s in warm_calls(busy) if (s.line, s.key) in quietly]
    before, beside = [a for a, _ in pairs], [b for _, b in pairs]
    figures: Figures = {"n": len(pairs)}
    for arm, times in (("", [s.latency_ms for s in before]), ("llama_", _rivals(before))):
        loaded = _rivals(beside) if arm else [s.latency_ms for s in beside]
        for level, share in (("p50", 0.5), ("p95", 0.95)):
            own, slowed = percentile(times, share), percentile(loaded, share)
            figures[f"{arm}quiet_{level}_ms"] = own
            figures[f"{arm}busy_{level}_ms"] = slowed
            figures[f"{arm}{level}_over_quiet"] = ratio(slowed, own)
    return figures
