"""Excerpts of the document itself, beyond what the prompt shows."""

from __future__ import annotations

import secrets

from intract_lsp.index.own_document import FARTHEST, SHOWN_ABOVE, SHOWN_BELOW, elsewhere
from intract_lsp.index.query import CursorLines
from intract_lsp.index.ranking import Candidate, Source

FILLER = [f"unrelated_{number} = measure({number})" for number in range(FARTHEST + 200)]
LIKE = [
    "def refund(order, customer):",
    "    basket = open_basket(order)",
    "    for item in basket.items:",
    "        basket.add_tax(item, customer.region)",
    "    return basket.settle_total(customer)",
]
TYPED = ["def order_total(order, customer):", *LIKE[1:3]]


def found(above: list[str], below: list[str] | None = None) -> list[Candidate]:
    return list(elsewhere("shop.py", above, below or [], CursorLines(above)))


def test_what_is_like_the_lines_above_is_found_far_above_and_below() -> None:
    above = [*FILLER[:40], *LIKE, *FILLER[:SHOWN_ABOVE], *TYPED]
    below = [*FILLER[:SHOWN_BELOW], *FILLER[:7], *LIKE, *FILLER[:9]]
    one, other = found(above, below)
    assert "settle_total" in one.text
    assert "settle_total" in other.text
    assert above[one.start_line : one.start_line + one.text.count("\n") + 1] == one.text.split("\n")
    document = [*above, "the cursor's line", *below]
    assert document[other.start_line : other.start_line + other.text.count("\n") + 1] == other.text.split("\n")
    assert {one.source, other.source} == {Source.DOCUMENT}
    assert one.path == "shop.py"


def test_what_the_prompt_shows_is_not_found() -> None:
    assert found([*FILLER[:40], *LIKE, *FILLER[: SHOWN_ABOVE - len(LIKE) - len(TYPED)], *TYPED]) == []
    assert found([*FILLER[:90], *TYPED], [*LIKE, *FILLER[:SHOWN_BELOW]]) == []


def test_what_is_too_far_away_is_not_looked_at() -> None:
    assert found([*LIKE, *FILLER[:FARTHEST], *TYPED]) == []


def test_nothing_is_found_where_nothing_is_alike() -> None:
    assert found([*FILLER[:300], *TYPED]) == []


def test_an_excerpt_is_found_across_the_border_of_two_blocks() -> None:
    for shift in range(40):
        assert any("settle_total" in one.text for one in found([*FILLER[:shift], *LIKE, *FILLER[:70], *TYPED])), shift


def test_lines_with_a_secret_are_left_out() -> None:
    token = f'    key = "ghp_{secrets.token_hex(18)}"'
    above = [*FILLER[:40], *LIKE[:4], token, LIKE[4], *FILLER[:SHOWN_ABOVE], *TYPED]
    assert not any("ghp_" in one.text for one in found(above))


def test_an_empty_document_has_nothing() -> None:
    assert found([]) == []
