from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import write_model
from transformers import AutoModelForCausalLM

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Limits, PromptBudget, PromptShape
from intract_lsp.completion.prompt import FORMATS, PromptSource, encode_text, render
from intract_lsp.errors import ModelError
from intract_lsp.inference.engine import LoadOrder, ModelFiles
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.inference.tokenizer import load_tokenizer

BUDGET = PromptBudget(200, 60)
SHAPE = PromptShape(BUDGET)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(directory: Path) -> ModelEngine:
    engine = ModelEngine(lambda name, report, token: ModelFiles("tiny", directory, "qwen2.5-coder"))
    engine.load(LoadOrder("tiny", "cpu", "float32", 1), lambda sentence, fraction: None, CancelToken())
    return engine


@pytest.fixture(scope="module")
def network(directory: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def context(prefix: str, suffix: str = ")\n") -> CompletionContext:
    return CompletionContext(prefix, suffix, "python", Extent.BLOCK)


def by_transformers(network: torch.nn.Module, directory: Path, prefix: str, middle: str) -> tuple[float, int]:
    """The same by one pass of transformers' model over prompt and middle."""
    tokenizer = load_tokenizer(directory)
    source = PromptSource(prefix, ")\n")
    prompt = render(FORMATS["qwen2.5-coder"], source, BUDGET, tokenizer, anchored=True)
    forced = encode_text(prompt.heal + middle, tokenizer)
    with torch.inference_mode():
        logits = network(torch.tensor([[*prompt.ids, *forced]])).logits[0, len(prompt.ids) - 1 : -1]
    chosen = torch.log_softmax(logits.double(), -1)[range(len(forced)), forced]
    return -float(chosen.sum()), len(forced)


@pytest.mark.parametrize("prefix", ["def f(", "x = 1\ny = de", "", "größe = '😀", "line\n" * 60])
@pytest.mark.parametrize("middle", ["a, b", "f g():\n    return 1\n" * 12, "x"])
def test_it_is_what_transformers_computes(
    engine: ModelEngine, network: torch.nn.Module, directory: Path, prefix: str, middle: str
) -> None:
    loss, tokens = engine.likelihood(context(prefix), SHAPE, middle)
    expected, count = by_transformers(network, directory, prefix, middle)
    assert tokens == count
    assert loss == pytest.approx(expected, rel=1e-4)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.text("ab(\n ", max_size=30), st.text("ab)\n ", min_size=1, max_size=20)), max_size=4))
def test_what_was_asked_before_changes_nothing(engine: ModelEngine, asked: list[tuple[str, str]]) -> None:
    """Nor does scoring change what is generated next: the KV cache is what the tokens say."""
    engine.forget()
    limits = Limits(6, 1e12, lambda text: None)
    alone = engine.likelihood(context("x = a(b"), SHAPE, "a, b")
    said = engine.generate(context("x = a(b"), SHAPE, limits, CancelToken(), lambda text: None).text
    for prefix, middle in asked:
        engine.likelihood(context(prefix), SHAPE, middle)
    assert engine.likelihood(context("x = a(b"), SHAPE, "a, b") == pytest.approx(alone, rel=1e-5)
    assert engine.generate(context("x = a(b"), SHAPE, limits, CancelToken(), lambda text: None).text == said


def test_what_the_model_says_itself_is_likelier(engine: ModelEngine) -> None:
    limits = Limits(6, 1e12, lambda text: None)
    own = engine.generate(context("def f("), SHAPE, limits, CancelToken(), lambda text: None)
    loss, tokens = engine.likelihood(context("def f("), SHAPE, own.text)
    other, others = engine.likelihood(context("def f("), SHAPE, "zqzq(~")
    assert loss / tokens < other / others


def test_nothing_to_score(engine: ModelEngine) -> None:
    assert engine.likelihood(context("x\n"), SHAPE, "") == (0.0, 0)


def test_a_middle_that_is_longer_than_the_models_context_is_scored_in_part(engine: ModelEngine) -> None:
    loss, tokens = engine.likelihood(context("x = 1\n" * 500), SHAPE, "a b c " * 1000)
    assert 1000 < tokens < 2048
    assert loss > 0


def test_without_a_model(directory: Path) -> None:
    engine = ModelEngine(lambda name, report, token: ModelFiles("tiny", directory))
    with pytest.raises(ModelError, match="No model"):
        engine.likelihood(context("x"), SHAPE, "y")
