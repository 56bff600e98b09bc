"""What a draft model drafts, and when it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from intract_lsp.completion.generation import CancelToken
from intract_lsp.inference.draft_model import DraftModel, draft_name
from intract_lsp.inference.drafting import Draft, Drafter
from intract_lsp.inference.engine import ModelFiles
from intract_lsp.inference.speculation import ANOTHER_TRIAL, TRIALS, Speculator
from intract_lsp.models.catalog import CATALOG

VOCABULARY = 6
FREE = [1.0] * 9
"""Costs of a large model whose drafted tokens cost nothing."""

tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=6)
prompts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8)


class History:
    """A network whose next token follows from the whole sequence, and that knows what it is asked to compute."""

    branching = True

    def __init__(self, seed: int, sharpness: float = 8.0) -> None:
        self.seed = seed
        self.sharpness = sharpness
        self.passes: list[int] = []

    def begin(self) -> Held:
        return Held([])

    def use_threads(self, count: int) -> None: ...

    def forward(
        self, sequence: Held, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        assert parents is None
        self.passes.append(len(ids))
        rows = []
        for id_ in ids:
            sequence.ids.append(id_)
            rows.append(self.logits(sequence.ids))
        return np.stack(rows)[-last:]

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        mixed = self.seed
        for id_ in ids:
            mixed = (mixed * 31 + id_ + 1) % 1_000_003
        return np.random.default_rng(mixed).random(VOCABULARY, np.float32) * np.float32(self.sharpness)

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        found = list(ids)
        for _ in range(count):
            found.append(int(self.logits(found).argmax()))
        return found[len(ids) :]


class Held:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    size_bytes = 0

    def cut(self, length: int) -> None:
        del self.ids[length:]

    def keep(self, start: int, rows: Sequence[int]) -> None:
        raise AssertionError("a draft model makes no trees")

    def copy(self, length: int) -> Held:
        return Held(self.ids[:length])


def model_over(network: Any, context_length: int = 100, vocabulary: int = VOCABULARY) -> DraftModel:
    return DraftModel(network, 1 << 20, context_length, vocabulary)


@given(
    seed=st.integers(0, 99),
    prompt=prompts,
    answers=st.lists(st.tuples(tokens, st.integers(0, 8)), max_size=5),
    again=prompts,
)
def test_drafts_are_the_models_own_tokens_whatever_became_of_the_last_draft(
    seed: int, prompt: list[int], answers: list[tuple[list[int], int]], again: list[int]
) -> None:
    """Of each draft some tokens come true, and others follow."""
    network = History(seed)
    model = model_over(network)
    for each in (prompt, again, prompt):
        model.begin(each, CancelToken())
        answer: list[int] = []
        for others, longest in answers:
            draft = model.draft(answer, FREE[: longest + 1], 0.0) if longest else Draft()
            assert draft.is_chain
            assert len(draft) == longest, "where nothing costs anything all of it is drafted"
            assert list(draft.tokens) == network.greedy([*each, *answer], longest)
            answer += [*draft.tokens[: len(others) // 2], *others]


def test_only_what_is_new_is_computed() -> None:
    network = History(1)
    model = model_over(network)
    model.begin([1, 2, 3, 4], CancelToken())
    first = model.draft([], FREE[:4], 0.0)
    assert network.passes == [4, 1, 1]
    model.draft([*first.tokens, 5], FREE[:3], 0.0)
    assert network.passes[3:] == [2, 1], "the last drafted token and the one behind it"
    model.begin([1, 2, 3, 5], CancelToken())
    model.draft([], FREE[:2], 0.0)
    assert network.passes[5:] == [1]
    model.forget()
    model.draft([], FREE[:2], 0.0)
    assert network.passes[6:] == [4]


def test_cancelled_within_a_pass() -> None:
    token = CancelToken()

    class Cancelled(History):
        def forward(self, *arguments: Any, **named: Any) -> NDArray[np.float32]:
            if len(self.passes) == 2:
                token.cancel()
            return super().forward(*arguments, **named)

    network = Cancelled(1)
    model = model_over(network)
    model.begin([1, 2], token)
    draft = model.draft([], FREE, 0.0)
    assert (len(network.passes), len(draft)) == (3, 3)
    assert model.draft(list(draft.tokens), FREE, 0.0) == Draft(), "and no prompt is computed any more"
    assert len(network.passes) == 3
    model.begin([1, 2], CancelToken())
    assert list(model.draft(list(draft.tokens), FREE[:3], 0.0).tokens) == network.greedy([1, 2, *draft.tokens], 2)


def test_a_draft_ends_where_more_of_it_would_give_less() -> None:
    unsure = model_over(History(1, sharpness=0.5))
    unsure.begin([1, 2], CancelToken())
    assert len(unsure.draft([], [1 + 0.3 * n for n in range(9)], 0.3)) <= 1
    sure = model_over(History(1, sharpness=80))
    sure.begin([1, 2], CancelToken())
    assert len(sure.draft([], [1 + 0.03 * n for n in range(9)], 0.05)) >= 5


def test_beyond_its_context_it_drafts_nothing() -> None:
    network = History(1)
    model = model_over(network, context_length=12)
    model.begin([1, 2, 3], CancelToken())
    assert model.draft([0], FREE, 0.0)
    assert model.draft([0, 0], FREE, 0.0) == Draft()


def test_tokens_that_only_its_own_embedding_has_are_not_drafted() -> None:
    network = History(3)
    whole = network.greedy([1], 8)
    most = max(whole)
    model = model_over(network, vocabulary=most)
    model.begin([1], CancelToken())
    assert list(model.draft([], FREE, 0.0).tokens) == whole[: whole.index(most)]


class Scripted:
    """In the place of a draft model: drafts the same each time."""

    pass_seconds = 0.001

    def __init__(self) -> None:
        self.drafts = 0

    def begin(self, prompt: Sequence[int], token: CancelToken) -> None: ...

    def draft(self, answer: Sequence[int], costs: Sequence[float], pass_cost: float) -> Draft:
        self.drafts += 1
        return Draft((7, 7), (-1, 0), 2.9)


@pytest.mark.parametrize("right", [True, False])
def test_it_drafts_as_long_as_that_pays(monkeypatch: pytest.MonkeyPatch, right: bool) -> None:
    clock = [0.0]
    monkeypatch.setattr("intract_lsp.inference.speculation.time.perf_counter", lambda: clock[0])
    model: Any = Scripted()
    draft = model.draft

    def slow(*arguments: Any) -> Draft:
        clock[0] += 0.5
        return draft(*arguments)

    model.draft = slow
    speculator = Speculator(Drafter(lambda text: [], chr), lambda ids: "", 8, model)
    speculator.begin((1, 2), "", CancelToken())
    steps = 3 * ANOTHER_TRIAL
    for step in range(steps):
        found = speculator.draft([1] * step, 8)
        speculator.learn(len(found), 1.0, 3 if right and found else 1)
    if right:
        assert model.drafts == steps
    else:
        assert TRIALS < model.drafts < TRIALS + 6
        assert model.drafts > TRIALS + 1, "and it is tried again later"


def test_without_memory_there_is_no_draft_model_any_more(caplog: pytest.LogCaptureFixture) -> None:
    class Full(Scripted):
        def draft(self, *arguments: Any) -> Draft:
            self.drafts += 1
            raise MemoryError

    model: Any = Full()
    speculator = Speculator(Drafter(lambda text: [], chr), lambda ids: "", 8, model)
    speculator.begin((1, 2), "", CancelToken())
    assert [speculator.draft([1], 8) for _ in range(3)] == [Draft()] * 3
    assert model.drafts == 1
    assert "no draft model from now on" in caplog.text


def test_what_is_given_back_is_not_its_affair() -> None:
    model: Any = Scripted()
    speculator = Speculator(Drafter(lambda text: [], chr), lambda ids: "x" * len(ids), 8, model)
    speculator.begin((1, 2), "xx", CancelToken())
    assert not speculator.draft([1], 8)
    assert speculator.draft([1, 1], 8)


@pytest.mark.parametrize(
    ("asked", "family", "parameters", "name"),
    [
        ("", "qwen2.5-coder", 7_615_616_512, ""),
        ("smollm2-135m", "qwen2.5-coder", 1_000, "smollm2-135m"),
        ("auto", "qwen2.5-coder", 7_615_616_512, "qwen2.5-coder-0.5b"),
        ("auto", "qwen2.5-coder", 3_085_938_688, "qwen2.5-coder-0.5b"),
        ("auto", "qwen2.5-coder", 1_543_714_304, ""),
        ("auto", "starcoder2", 3_030_371_328, ""),
        ("auto", "none", 9_000_000_000, ""),
        ("auto", "", 9_000_000_000, ""),
    ],
)
def test_which_model_drafts(asked: str, family: str, parameters: int, name: str) -> None:
    assert draft_name(asked, ModelFiles("main", Path(), family), parameters, CATALOG) == name
