from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from intract_lsp.errors import ModelError
from intract_lsp.inference.drafting import Draft, Drafter
from intract_lsp.inference.healing import Spelling, Vocabulary
from intract_lsp.inference.kv_cache import PrefixCache
from intract_lsp.inference.speculation import LONGEST_DRAFT, Speculator, check, greedy_tokens

TEXTS = {0: b"a", 1: b"b", 2: b"ab", 3: b"aba"}
ids = st.lists(st.integers(0, 3), min_size=1, max_size=20)
random_trees = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=LONGEST_DRAFT)


class Table:
    """A network whose next token follows from the last two by a table: deterministic, with repetitions."""

    branching = True

    def __init__(self, seed: int, vocabulary: int = 4) -> None:
        self.table = np.random.default_rng(seed).random((vocabulary, vocabulary, vocabulary), np.float32)
        self.held: list[int] = []
        """Of the one sequence there is."""
        self.steps = 0
        self.longest = 0

    def begin(self) -> Table:
        return self

    def use_threads(self, count: int) -> None: ...

    @property
    def size_bytes(self) -> int:
        return 0

    def copy(self, length: int) -> Table:
        raise AssertionError("nothing here branches off")

    def forward(
        self, sequence: Table, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        self.steps += 1
        start = len(self.held)
        self.held.extend(ids)
        self.longest = max(self.longest, len(self.held))
        before = [start + parent if parent >= 0 else start - 1 for parent in parents or range(-1, len(ids) - 1)]
        rows = [self.table[self.held[place] if place >= 0 else 0, id_] for place, id_ in zip(before, ids, strict=True)]
        return np.stack(rows)[-last:]

    def cut(self, length: int) -> None:
        del self.held[length:]

    def keep(self, start: int, rows: Sequence[int]) -> None:
        self.held[start:] = [self.held[start + row] for row in rows]


def spelled(tokens: Sequence[int]) -> str:
    return b"".join(TEXTS[id_] for id_ in tokens).decode()


def encode(text: str) -> list[int]:
    """The longest tokens, which are not always those that the network chose."""
    ids_of = {each.decode(): id_ for id_, each in TEXTS.items()}
    return [ids_of[found] for found in re.findall("aba|ab|a|b", text)]


class Guesser(Speculator):
    """Drafts trees at random."""

    def __init__(self, seed: int) -> None:
        super().__init__(Drafter(lambda text: [], chr), spelled)
        self._random = random.Random(seed)

    def draft(self, answer: Sequence[int], room: int) -> Draft:
        nodes = range(self._random.randint(0, min(LONGEST_DRAFT, max(0, room))))
        parents = tuple(self._random.randint(-1, node - 1) for node in nodes)
        return Draft(tuple(self._random.randint(0, 3) for _ in nodes), parents)


class Nothing(Speculator):
    def __init__(self) -> None:
        super().__init__(Drafter(lambda text: [], chr), spelled, longest=0)


def drafter_behind(prompt: list[int], heal: str = "", branches: int = 4) -> Drafter:
    drafter = Drafter(encode, lambda id_: TEXTS[id_].decode(), branches)
    drafter.begin(spelled(prompt) + heal, "", heal)
    return drafter


def run(
    network: Table,
    prompt: list[int],
    count: int,
    speculator: Speculator,
    text: str = "",
    draft: Draft | None = None,
    most: int | None = None,
) -> list[int]:
    cache = PrefixCache(network, 0)
    draft = draft or Draft()
    logits = check(cache, prompt, draft)
    spelling = Spelling(Vocabulary(TEXTS), text)
    most = count if most is None else most
    tokens = list(islice(greedy_tokens(cache, prompt, draft, logits, spelling, speculator, most), count))
    assert network.steps <= count, "a step gives a token at least"
    sequence = [*prompt, *tokens]
    # Of the last draft more may be right, and held, than was asked for.
    common = min(len(network.held), len(sequence))
    assert common >= len(sequence) - 1
    assert network.held[:common] == sequence[:common], "the cache holds the sequence"
    assert len(cache) == len(network.held)
    assert cache.reuse([*network.held, 0]) == len(network.held), "and knows which"
    return tokens


def plain(network: Table, prompt: list[int], count: int, text: str = "") -> list[int]:
    left, tokens = text.encode(), list(prompt)
    while len(tokens) < len(prompt) + count:
        logits = network.forward(network, tokens[len(network.held) :])[-1]
        fitting = [id_ for id_, spelled in TEXTS.items() if spelled.startswith(left) or left.startswith(spelled)]
        tokens.append(max(fitting, key=lambda id_: float(logits[id_])))
        left = left[len(TEXTS[tokens[-1]]) :]
    return tokens[len(prompt) :]


@given(
    seed=st.integers(0, 1000),
    prompt=ids,
    count=st.integers(1, 40),
    beyond=st.integers(0, 20),
    text=st.text("ab", max_size=8),
    first=random_trees,
)
def test_the_tokens_are_those_of_plain_decoding(
    seed: int, prompt: list[int], count: int, beyond: int, text: str, first: list[tuple[int, int]]
) -> None:
    parents = tuple(parent % (index + 1) - 1 for index, (_, parent) in enumerate(first))
    draft = Draft(tuple(id_ for id_, _ in first), parents)
    network = Table(seed)
    tokens = run(network, prompt, count, Guesser(seed), text, draft, most=count + beyond)
    assert tokens == plain(Table(seed), prompt, count, text)
    assert spelled(tokens).startswith(text) or text.startswith(spelled(tokens))
    assert network.longest < len(prompt) + max(count + beyond, 1 + len(draft) + 1)


@given(
    seed=st.integers(0, 1000),
    prompt=ids,
    count=st.integers(1, 30),
    answers=st.lists(ids, max_size=3),
    text=st.text("ab", max_size=8),
    branches=st.sampled_from([1, 4]),
)
def test_so_they_are_with_what_the_text_repeats(
    seed: int, prompt: list[int], count: int, answers: list[list[int]], text: str, branches: int
) -> None:
    drafter = drafter_behind(prompt, text, branches)
    for answer in answers:
        drafter.remember(text + spelled(answer))
    speculator = Speculator(drafter, spelled)
    first = speculator.draft((), count - 1)
    assert branches > 1 or first.is_chain
    assert run(Table(seed), prompt, count, speculator, text, first) == plain(Table(seed), prompt, count, text)


def test_a_text_that_repeats_itself_takes_fewer_steps() -> None:
    network = Table(seed=3)
    drafter = Drafter(lambda text: list(map(int, text)), str)
    drafter.begin("0123", "")
    run(network, [0, 1, 2, 3], 60, Speculator(drafter, lambda ids: "".join(map(str, ids))))
    assert network.steps < 20


def test_with_a_longest_draft_of_nothing_each_step_is_one_token() -> None:
    network = Table(seed=3)
    run(network, [0, 1, 0, 1], 30, Nothing())
    assert network.steps == 30


def test_nothing_is_drafted_without_room() -> None:
    speculator = Speculator(drafter_behind([0, 0, 0, 0]), spelled)
    assert [len(speculator.draft((), room)) <= max(0, room) for room in (-5, -1, 0, 1, 2)] == [True] * 5
    assert len(speculator.draft((), 1)) == 1


def test_the_cache_is_whole_wherever_the_reader_stops() -> None:
    network, prompt = Table(seed=3), [0, 1, 2, 3]
    cache = PrefixCache(network, 0)
    logits = check(cache, prompt, Draft())
    spelling = Spelling(Vocabulary(TEXTS), "")
    tokens = greedy_tokens(cache, prompt, Draft(), logits, spelling, Guesser(3), 1000)
    sequence = list(prompt)
    for id_ in islice(tokens, 50):
        sequence.append(id_)
        common = min(len(network.held), len(sequence))
        assert network.held[:common] == sequence[:common]
        assert len(network.held) == len(cache) >= len(sequence) - 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("text", ["", "abab"])
def test_what_is_no_number_is_an_error_once_it_is_chosen_from(value: float, text: str) -> None:
    prompt = [0, 1]
    tokens = plain(Table(seed=5), prompt, 6, text)
    broken = Table(seed=5)
    broken.table[tokens[2], tokens[3], 2 if value > 0 else slice(None)] = value
    if value != value:
        broken.table[tokens[2], tokens[3]] = [0.3, 0.1, value, 0.7]
    cache = PrefixCache(broken, 0)
    logits = check(cache, prompt, Draft())
    found = []
    with pytest.raises(ModelError, match=r"not a number: .*model\.precision"):
        spelling = Spelling(Vocabulary(TEXTS), text)
        for id_ in islice(greedy_tokens(cache, prompt, Draft(), logits, spelling, Guesser(1), len(tokens)), 50):
            found.append(id_)
    assert found == tokens[: len(found)]
    assert len(found) <= 4


def test_what_is_no_number_beside_the_path_is_no_matter() -> None:
    network = Table(seed=5)
    cache = PrefixCache(network, 0)
    prompt = [0, 1]
    right = plain(Table(seed=5), prompt, 2)
    wrong = (right[0] + 1) % 4
    draft = Draft((wrong, right[0]), (-1, -1))
    logits = check(cache, prompt, draft)
    logits[1] = np.nan
    tokens = greedy_tokens(cache, prompt, draft, logits, Spelling(Vocabulary(TEXTS), ""), Nothing(), 2)
    assert list(islice(tokens, 2)) == right
    assert network.held == [*prompt, right[0]]
