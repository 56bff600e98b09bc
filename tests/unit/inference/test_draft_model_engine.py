"""Whole engines with a draft model: the answers are those of plain decoding, with fewer passes of the large model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FIM, byte_level, write_model

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptShape
from intract_lsp.errors import ModelError
from intract_lsp.inference import speculation
from intract_lsp.inference.draft_model import DraftModel
from intract_lsp.inference.drafting import StepCost
from intract_lsp.inference.engine import LoadOrder, ModelCard, ModelFiles
from intract_lsp.inference.model_engine import ModelEngine

ORDER = LoadOrder("main", device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    other = byte_level([*FIM[:2], "<|another|>", *FIM[2:]])
    return {
        "main": write_model(tmp_path_factory.mktemp("main")),
        "twin": write_model(tmp_path_factory.mktemp("twin")),
        "small": write_model(tmp_path_factory.mktemp("small"), seed=1),
        "other": write_model(tmp_path_factory.mktemp("other"), tokenizer=other),
        "missing": tmp_path_factory.mktemp("missing"),
    }


@pytest.fixture(autouse=True)
def drafts_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepCost, "costs", lambda self, longest: [1.0] * (longest + 1))
    monkeypatch.setattr(
        DraftModel, "pass_seconds", property(lambda self: 0.0, lambda self, seconds: None), raising=False
    )
    monkeypatch.setattr("intract_lsp.inference.speculation._ModelRate.pays", lambda self, otherwise: True)


def engine_with(directories: dict[str, Path], draft: str, precision: str = "float32") -> tuple[ModelEngine, ModelCard]:
    engine = ModelEngine(lambda name, report, token: ModelFiles(name, directories[name], "qwen2.5-coder"))
    card = engine.load(replace(ORDER, draft=draft, precision=precision), lambda sentence, fraction: None, CancelToken())
    return engine, card


@pytest.fixture(scope="module")
def plain(directories: dict[str, Path]) -> ModelEngine:
    engine = ModelEngine(lambda name, report, token: ModelFiles(name, directories[name], "qwen2.5-coder"), False)
    engine.load(ORDER, lambda sentence, fraction: None, CancelToken())
    return engine


@pytest.fixture(scope="module")
def with_small(directories: dict[str, Path]) -> ModelEngine:
    engine, card = engine_with(directories, "small")
    assert (card.draft, card.notes) == ("small", ())
    return engine


def generate(
    engine: ModelEngine,
    prefix: str,
    suffix: str = "",
    count: int = 12,
    token: CancelToken | None = None,
    on_text: Callable[[str], None] = lambda text: None,
) -> Generation:
    context = CompletionContext(prefix, suffix, "python", Extent.BLOCK)
    return engine.generate(
        context, PromptShape(), Limits(count, 1e12, lambda text: None), token or CancelToken(), on_text
    )


texts = st.text("abdef (=)\n ", max_size=40)


@settings(max_examples=40)
@given(st.lists(st.tuples(texts, texts, st.integers(1, 30)), min_size=1, max_size=4))
def test_the_answers_are_those_of_plain_decoding(
    plain: ModelEngine, with_small: ModelEngine, requests: list[tuple[str, str, int]]
) -> None:
    for prefix, suffix, count in requests:
        found, expected = (generate(engine, prefix, suffix, count) for engine in (with_small, plain))
        assert (found.token_ids, found.text, found.finish) == (expected.token_ids, expected.text, expected.finish)


def test_a_model_that_agrees_saves_passes(directories: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    check = speculation.check

    def count(cache: Any, ids: Any, draft: Any) -> Any:
        steps.append(len(draft))
        return check(cache, ids, draft)

    monkeypatch.setattr(speculation, "check", count)
    found = []
    for draft in ("", "twin"):
        # A draft model has the format that is fastest; in the same one the twin agrees with the main model.
        engine, card = engine_with(directories, draft, "auto")
        assert card.draft == draft
        steps.clear()
        found.append((generate(engine, "zq = \n", count=40).token_ids, len(steps)))
    (alone, passes), (helped, fewer) = found
    assert helped == alone
    assert len(alone) == 40
    assert fewer * 3 < passes


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_cancelling_ends_within_a_step(with_small: ModelEngine, plain: ModelEngine, stop_after: int) -> None:
    token = CancelToken()
    seen: list[str] = []

    def on_text(text: str) -> None:
        seen.append(text)
        if len(seen) == stop_after:
            token.cancel()

    cancelled = generate(with_small, "def f(", count=40, token=token, on_text=on_text)
    assert cancelled.finish is Finish.CANCELLED
    assert len(cancelled.token_ids) == stop_after
    whole = generate(with_small, "def f(", count=40)
    assert whole.token_ids == generate(plain, "def f(", count=40).token_ids


def test_another_vocabulary_is_refused_with_a_note(directories: dict[str, Path], plain: ModelEngine) -> None:
    engine, card = engine_with(directories, "other")
    assert card.draft == ""
    assert card.notes == (
        "No draft model is used: other has another vocabulary than main: set model.draft to a relative of it.",
    )
    assert generate(engine, "def f(").token_ids == generate(plain, "def f(").token_ids


def test_a_draft_model_that_cannot_be_loaded_leaves_the_model_serving(directories: dict[str, Path]) -> None:
    engine, card = engine_with(directories, "missing")
    assert card.notes[0].startswith("No draft model is used: The tokenizer in ")
    assert generate(engine, "def f(").token_ids


def test_a_cancelled_load_is_cancelled(directories: dict[str, Path]) -> None:
    token = CancelToken()

    def resolve(name: str, report: Any, token: CancelToken) -> ModelFiles:
        if name == "small":
            token.cancel()
            raise ModelError("Fetching small was cancelled.")
        return ModelFiles(name, directories[name], "qwen2.5-coder")

    with pytest.raises(ModelError, match="cancelled"):
        ModelEngine(resolve).load(replace(ORDER, draft="small"), lambda sentence, fraction: None, token)


def test_the_vocabularies_of_other_files_are_compared_by_content(directories: dict[str, Path], tmp_path: Path) -> None:
    copy = write_model(tmp_path, seed=3)
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    _, card = engine_with({**directories, "copy": copy}, "copy")
    assert card.draft == "copy"
