"""What counts as a suggestion that was seen, accepted, kept."""

from __future__ import annotations

import pytest

from intract_lsp.completion.request import CompletionResult, RejectReason, Source, Suggestion
from intract_lsp.training.offers import KEPT_SECONDS, SEEN_SECONDS, Offers

A, B = "file:///a.py", "file:///b.py"
LONG = SEEN_SECONDS + 0.1


def shown(id_: str, text: str, source: Source = Source.MODEL, model: str = "m") -> CompletionResult:
    return CompletionResult(Suggestion(id_, text, 0, source), None, model=model)


def none(reason: RejectReason) -> CompletionResult:
    return CompletionResult(None, reason)


def test_what_is_typed_past_at_once_was_not_seen() -> None:
    offers = Offers("m")
    offers.answered(A, shown("1", "return x"), 0.0)
    offers.answered(A, shown("2", "raise"), 0.2)
    assert offers.seen == 0
    offers.answered(A, shown("3", "pass"), 0.2 + LONG)
    assert (offers.seen, offers.kept) == (1, 0)


def test_a_suggestion_that_is_typed_through_is_one() -> None:
    offers = Offers("m")
    offers.answered(A, shown("1", "return x"), 0.0)
    for number, at in ((1, 0.4), (2, 0.8), (3, 1.2)):
        offers.answered(A, shown(f"c{number}", "return x"[number:], Source.CACHE), at)
    offers.accepted("c2", 1.3)
    offers.answered(A, none(RejectReason.AFTER_ACCEPT), 1.4)
    assert (offers.seen, offers.settled) == (0, False)
    offers.settle(100.0, lambda uri: None)
    assert (offers.seen, offers.kept, offers.settled) == (1, 1, True)


def test_an_answer_that_was_overtaken_ends_nothing() -> None:
    offers = Offers("m")
    offers.answered(A, shown("1", "x"), 0.0)
    offers.answered(A, none(RejectReason.SUPERSEDED), 0.1)
    offers.answered(A, none(RejectReason.MID_WORD), LONG)
    assert offers.seen == 1


def test_each_document_has_its_own() -> None:
    offers = Offers("m")
    offers.answered(A, shown("1", "x"), 0.0)
    offers.answered(B, shown("2", "y"), 0.1)
    offers.accepted("1", 0.2)
    offers.accepted("unknown", 0.2)
    offers.settle(100.0, lambda uri: None)
    assert (offers.seen, offers.kept) == (1, 1)


def test_what_another_version_wrote_does_not_count() -> None:
    offers = Offers("m")
    offers.answered(A, shown("1", "x", model="m+a"), 0.0)
    offers.accepted("1", 0.1)
    offers.answered(A, shown("2", "y"), 5.0)
    assert offers.seen == 0


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("def f():\n        return total\n        log(total)\n", 1),
        ("def f():\n  return total\n", 1),
        ("def f():\n    raise\n    log(1)", 0),
        (None, 1),
    ],
)
def test_what_is_left_after_half_a_minute_was_kept(text: str | None, kept: int) -> None:
    offers = Offers("m")
    offers.answered(A, shown("1", "return total\n    log(total)"), 0.0)
    offers.accepted("1", 1.0)
    offers.settle(KEPT_SECONDS, lambda uri: text)
    assert (offers.seen, offers.kept, offers.settled) == (0, 0, False)
    offers.settle(KEPT_SECONDS + 1.0, lambda uri: text)
    assert (offers.seen, offers.kept, offers.settled) == (1, kept, True)
