from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.inference.drafting import (
    LONGEST_LINE,
    REACH,
    REMEMBERED,
    Draft,
    Drafter,
    StepCost,
)

FREE = [1.0] * 9


class Words:
    """A tokenizer of words with the blank before them, and of single other characters."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.encoded: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        words = re.findall(r" ?\w+|\s+|.", text)
        self.texts += [word for word in dict.fromkeys(words) if word not in self.texts]
        return [self.texts.index(word) for word in words]

    def spell(self, id_: int) -> str:
        return self.texts[id_]


class Written:
    """A drafter that speaks words."""

    def __init__(self, branches: int = 4) -> None:
        self.words = Words()
        self.drafter = Drafter(self.words.encode, self.words.spell, branches)

    def begin(self, before: str, after: str = "", given_back: str = "") -> Written:
        self.drafter.begin(before, after, given_back)
        return self

    def remember(self, answer: str) -> Written:
        self.drafter.remember(answer)
        return self

    def draft(self, answer: str = "", costs: Sequence[float] = FREE) -> Draft:
        return self.drafter.draft(answer, costs)

    def paths(self, answer: str = "", costs: Sequence[float] = FREE) -> list[str]:
        """What each node's path spells."""
        draft = self.draft(answer, costs)
        paths: list[str] = []
        for token, parent in zip(draft.tokens, draft.parents, strict=True):
            paths.append((paths[parent] if parent >= 0 else "") + self.words.spell(token))
        return paths

    def longest(self, answer: str = "", costs: Sequence[float] = FREE) -> str:
        return max(self.paths(answer, costs), key=len, default="")


# --- drafts


def test_a_path_is_accepted_from_the_root_on() -> None:
    #    5 - 6 - 7
    #  8 - 6 - 9
    draft = Draft((5, 8, 6, 6, 7, 9), (-1, -1, 0, 1, 2, 3))

    def accept(choices: dict[int, int]) -> tuple[list[int], list[int]]:
        return draft.accept(choices.__getitem__)

    assert accept({0: 5, 1: 6, 3: 7, 5: 1}) == ([5, 6, 7, 1], [0, 2, 4])
    assert accept({0: 8, 2: 6, 4: 9, 6: 9}) == ([8, 6, 9, 9], [1, 3, 5])
    assert accept({0: 8, 2: 5}) == ([8, 5], [1])
    assert accept({0: 6}) == ([6], [])
    assert Draft().accept(lambda row: 3) == ([3], [])


def test_chains() -> None:
    assert Draft().is_chain
    assert Draft((4, 4), (-1, 0)).is_chain
    assert not Draft((4, 5), (-1, -1)).is_chain


# --- what is drafted


@pytest.mark.parametrize(
    ("before", "after", "answer", "expected"),
    [
        ("one two three\none", "", "", " two three"),
        ("one two three\none", "", " two", " three\n"),
        ("one", "\none two three\n", "", " two three"),
        ("x one two\r\none", "", "", ""),  # " one" is another word than "one"
        ("x one two\r\nx one", "", "", " two\n"),
        ("", "", "", ""),
        ("one", "", "", ""),
    ],
)
def test_what_followed_elsewhere(before: str, after: str, answer: str, expected: str) -> None:
    found = Written().begin(before, after).longest(answer)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_several_continuations_stand_beside_each_other() -> None:
    written = Written().begin("f a x\nf b y\nf c z\nf")
    assert {" b", " c", " b y", " c z"} <= set(written.paths())
    assert not written.draft().is_chain
    chain = Written(branches=1).begin("f a x\nf b y\nf c z\nf").draft()
    assert chain.is_chain
    assert len(chain) > 1


def test_the_longer_context_and_the_more_frequent_continuation_come_first() -> None:
    assert Written().begin("p q one\nx q two\nx q two\np q").paths()[0] == " one"
    assert Written().begin("q one\nq two\nq two\nq").paths()[0] == " two"


def test_earlier_answers_are_looked_through_with_their_line() -> None:
    written = Written().begin("x = call").remember("(first, second)")
    assert written.begin("y = call").longest() == "(first, second)"
    assert written.begin("y = other").longest() == ""
    for _ in range(REMEMBERED):
        written.remember("; nothing")
    assert "(" not in written.begin("y = call").longest()


def test_blank_answers_are_not_remembered() -> None:
    assert Written().begin("x = 1").remember("  \n").begin("y = 1").draft() == Draft()


# --- what has to be spelled


def test_what_was_given_back_is_spelled_first() -> None:
    written = Written().begin("\nreturn value\nother\nrest\nother\nre", "", given_back="re")
    paths = written.paths(costs=[1.0] * 30)
    assert {"return", "rest"} <= set(paths)
    # The tokenizer's own spelling is tried too.
    assert "re" in paths
    assert all(path.startswith("re") or "re".startswith(path) for path in paths)


def test_a_word_never_seen_is_spelled_as_the_tokenizer_would() -> None:
    written = Written().begin("x\nfoo.bar", "", given_back=".bar")
    assert written.longest().startswith(".bar")
    assert written.paths(".")[0] == "bar"


def test_behind_what_was_given_back_all_may_follow() -> None:
    written = Written().begin("see one two\nsee one", "", given_back=" one")
    assert " one two" in written.paths()
    assert written.paths(" one")[0] == " two"
    assert written.paths(" once") == []


# --- how much is drafted


@given(st.lists(st.floats(0, 1), max_size=8), st.text("ab c\n", max_size=60), st.text("ab c\n", max_size=20))
def test_never_more_than_there_are_costs_for(extras: list[float], before: str, answer: str) -> None:
    costs = [1.0]
    for extra in extras:
        costs.append(costs[-1] + extra)
    draft = Written().begin(before, before[::-1]).draft(answer, costs)
    assert len(draft.tokens) == len(draft.parents) <= len(extras)
    assert all(-1 <= parent < node for node, parent in enumerate(draft.parents))
    edges = list(zip(draft.tokens, draft.parents, strict=True))
    assert len(set(edges)) == len(edges), "no node has the same child twice"


def test_what_costs_more_than_it_promises_is_not_drafted() -> None:
    written = Written().begin("one two three four\n" * 5 + "one")
    sizes = [len(written.draft(costs=[1 + extra * count for count in range(9)])) for extra in (0.0, 0.1, 0.9, 3.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (8, 0)


# --- what is encoded


def test_only_the_line_is_encoded_anew() -> None:
    written = Written().begin("one two\n\nthree\nfour", "\nfive\n")
    assert written.words.encoded == ["one two\n\n", "three\n", "\n", "five\n"]
    written.words.encoded.clear()
    written.draft(" six")
    assert written.words.encoded == ["four six"]
    written.words.encoded.clear()
    written.begin("one two\n\nthree\nfour five", "\nfive\n").draft()
    assert written.words.encoded == ["four five"]


def test_long_documents_and_lines_are_looked_at_in_part() -> None:
    written = Written().begin("far away\n" + "x\n" * REACH + "far", "x\n" * REACH + "far away\n")
    assert " away" not in "".join(written.paths())
    written.begin("word " * 1000 + "word")
    written.words.encoded.clear()
    assert written.longest().startswith(" word word")
    assert sum(map(len, written.words.encoded)) <= LONGEST_LINE


def test_tokens_in_the_range_of_surrogates() -> None:
    drafter = Drafter(lambda text: [0xD800 + ord(letter) for letter in text], lambda id_: chr(id_ - 0xD800))
    drafter.begin("abc\nab", "", given_back="b")
    assert drafter.draft("", FREE).tokens[:2] == (0xD800 + ord("b"), 0xD800 + ord("c"))


# --- what a step costs


def test_at_first_a_guess() -> None:
    costs = StepCost().costs(4)
    assert costs[0] == 1
    assert costs == sorted(costs)
    assert costs[4] < 1.5


@pytest.mark.parametrize("slope", [0.0, 0.05, 0.5, 1.0])
def test_the_cost_is_learnt(slope: float) -> None:
    cost = StepCost()
    for step in range(80):
        cost.learn(step % 9, 0.02 * (1 + slope * (step % 9)))
    assert cost.costs(8)[8] == pytest.approx(1 + 8 * slope, rel=0.15)


def test_one_length_says_nothing_of_others() -> None:
    cost = StepCost()
    for _ in range(50):
        cost.learn(8, 0.5)
    assert cost.costs(8) == StepCost().costs(8)


def test_what_was_learnt_fades() -> None:
    cost = StepCost()
    for step in range(100):
        cost.learn(step % 9, 0.02 * (1 + step % 9))
    for step in range(200):
        cost.learn(step % 9, 0.02)
    assert cost.costs(8)[8] < 1.3


def test_a_machine_on_which_drafts_do_not_pay_gets_none_for_a_while_and_then_another_try() -> None:
    written = Written().begin("one two three four\n" * 2 + "one")
    cost = StepCost()
    for step in range(45):
        cost.learn(step % 9, 0.02 * (1 + 3 * (step % 9)))
    assert len(written.draft(costs=cost.costs(8))) == 0
    for _ in range(600):
        cost.learn(0, 0.02)
        if len(written.draft(costs=cost.costs(8))):
            break
    assert len(written.draft(costs=cost.costs(8))) > 0
