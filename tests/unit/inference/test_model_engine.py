from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FIM, TINY, byte_level, write_model
from transformers import AutoModelForCausalLM, GemmaConfig

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.completion.prompt import FORMATS, PromptSource, end_ids, render
from intract_lsp.errors import ModelError
from intract_lsp.inference import loading, model_engine, torch_loading
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.drafting import StepCost
from intract_lsp.inference.engine import LoadOrder, ModelCard, ModelFiles
from intract_lsp.inference.healing import Vocabulary
from intract_lsp.inference.loaded_model import LoadedModel
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.inference.threads import INTERVAL
from intract_lsp.inference.tokenizer import load_tokenizer

BUDGET = PromptBudget(200, 60)
ORDER = LoadOrder("tiny", device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


def engine_for(directory: Path, family: str = "qwen2.5-coder", speculate: bool = True) -> ModelEngine:
    return ModelEngine(lambda name, report, token: ModelFiles(name, directory, family), speculate)


def load(engine: ModelEngine, order: LoadOrder = ORDER) -> ModelCard:
    return engine.load(order, lambda sentence, fraction: None, CancelToken())


@pytest.mark.parametrize(("held", "threads"), [(True, 2), (False, 1)])
def test_no_core_is_left_to_what_is_held_meanwhile(
    directory: Path, monkeypatch: pytest.MonkeyPatch, held: bool, threads: int
) -> None:
    before = torch.get_num_threads()
    beside = [0.0]
    monkeypatch.setattr("intract_lsp.inference.threads.spent_seconds", lambda: time.process_time() + beside[0])
    monkeypatch.setattr("intract_lsp.inference.loaded_model.physical_cores", lambda: 2)
    files = ModelFiles("tiny", directory, "qwen2.5-coder")
    engine = ModelEngine(lambda *asked: files, gives_way=lambda: beside[0] if held else 0.0)
    try:
        load(engine, replace(ORDER, threads=0))
        time.sleep(INTERVAL)
        beside[0] += 100.0  # as of a run that has used all cores until just now
        context = CompletionContext("x = ", "", "python", Extent.LINE)
        limits = Limits(2, 1e12, lambda text: None)
        engine.generate(context, PromptShape(), limits, CancelToken(), lambda text: None)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@dataclass
class Tiny:
    engine: ModelEngine
    card: ModelCard
    network: Any
    """The same weights in transformers' own forward."""
    forwards: list[int]
    """Tokens of each forward pass since the list was cleared."""


@pytest.fixture(scope="module")
def tiny(directory: Path) -> Iterator[Tiny]:
    """A loaded engine whose forward passes are counted."""
    forwards: list[int] = []
    forward = LeanDecoder.forward

    def count(self: LeanDecoder, sequence: Any, ids: Sequence[int], *others: Any, **named: Any) -> Any:
        forwards.append(len(ids))
        return forward(self, sequence, ids, *others, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LeanDecoder, "forward", count)
        engine = engine_for(directory)
        card = load(engine)
        yield Tiny(engine, card, AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32), forwards)


def free_up_to(length: int) -> Callable[[StepCost, int], list[float]]:
    """In the place of ``StepCost.costs``: as if so many drafted tokens cost nothing and more were not possible."""
    return lambda self, longest: [1.0] * (min(length, longest) + 1)


@pytest.fixture(autouse=True)
def drafted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that fixes the most that is drafted, so that passes can be counted; it is 0 at first."""

    def fix(length: int) -> None:
        monkeypatch.setattr(StepCost, "costs", free_up_to(length))

    fix(0)
    return fix


@pytest.fixture(autouse=True)
def cold(tiny: Tiny) -> None:
    tiny.engine.forget()
    tiny.forwards.clear()


def context(prefix: str, suffix: str = "") -> CompletionContext:
    return CompletionContext(prefix, suffix, "python", Extent.BLOCK)


def limits(tokens: int = 8, deadline: float = 1e12, stop: Callable[[str], int | None] = lambda text: None) -> Limits:
    return Limits(tokens, deadline, stop)


def generate(
    engine: ModelEngine,
    prefix: str,
    suffix: str = "",
    *,
    within: Limits | None = None,
    token: CancelToken | None = None,
    on_text: Callable[[str], None] = lambda text: None,
    budget: PromptBudget | None = BUDGET,
    exact: bool = False,
) -> Generation:
    shape = PromptShape(budget, exact)
    return engine.generate(context(prefix, suffix), shape, within or limits(), token or CancelToken(), on_text)


# --- what is decoded


@pytest.mark.parametrize(
    ("prefix", "suffix"), [("def f(", ")\n"), ("x = 1\ny = ", ""), ("größe = '😀", "'\n"), ("line\n" * 60, "end\n")]
)
@pytest.mark.parametrize("draft", [0, 6])
def test_the_tokens_are_those_of_transformers(
    tiny: Tiny, directory: Path, drafted: Callable[[int], None], prefix: str, suffix: str, draft: int
) -> None:
    drafted(draft)
    tokenizer = load_tokenizer(directory)
    fim = FORMATS["qwen2.5-coder"]
    ids = render(fim, PromptSource(prefix, suffix), BUDGET, tokenizer).ids
    ends = end_ids(fim, tokenizer)
    with torch.inference_mode():
        whole = tiny.network.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=40, eos_token_id=sorted(ends), pad_token_id=0
        )
    expected = [id_ for id_ in whole[0, len(ids) :].tolist() if id_ not in ends]
    ours = generate(tiny.engine, prefix, suffix, within=limits(40), exact=True)
    assert list(ours.token_ids) == expected
    assert ours.prompt_tokens == len(ids)
    assert ours.text == tokenizer.decode(expected)


@pytest.mark.parametrize(
    ("prefix", "suffix", "heal"),
    [
        ("x = 1\ndef ", "\n", " "),
        ("x = 1\n    x = re", ")\n", " re"),
        ("def f(größe", "\n", "(größe"),
        ("f(a, '😀", "", " '😀"),
        ("f(a)\n", "\nb", ""),
    ],
)
@pytest.mark.parametrize("draft", [0, 6])
def test_what_was_typed_last_is_spelled_as_the_model_likes(
    tiny: Tiny, directory: Path, drafted: Callable[[int], None], prefix: str, suffix: str, heal: str, draft: int
) -> None:
    drafted(draft)
    tokenizer = load_tokenizer(directory)
    texts = tokenizer.token_bytes()
    prompt = render(FORMATS["qwen2.5-coder"], PromptSource(prefix, suffix), BUDGET, tokenizer, anchored=True)
    assert prompt.heal == heal
    expected: list[int] = []
    left = heal.encode()
    with torch.inference_mode():
        while len(expected) < 20:
            logits = tiny.network(torch.tensor([[*prompt.ids, *expected]])).logits[0, -1]
            fits = [i for i in texts if texts[i].startswith(left) or left.startswith(texts[i])] if left else range(300)
            expected.append(max(fits, key=lambda i: float(logits[i])))
            left = left[len(texts[expected[-1]]) :]
    ours = generate(tiny.engine, prefix, suffix, within=limits(20))
    assert list(ours.token_ids) == expected
    assert heal + ours.text == tokenizer.decode(expected)


def test_a_draft_of_what_was_typed_is_checked_with_the_prompt(tiny: Tiny, drafted: Callable[[int], None]) -> None:
    drafted(5)
    generation = generate(tiny.engine, "x = 1\ny = abcdef")
    assert len(load_ids(tiny, " abcdef")) == 5
    assert tiny.forwards[0] == generation.prompt_tokens + 5
    # Many rows of a prompt cost what they cost, and of one token nothing is drafted.
    for prefix, most in (("line\n" * 10 + "x = 1\ny = abcdef", 8), ("x = 1\ny = abcdef", 1)):
        tiny.engine.forget()
        tiny.forwards.clear()
        generation = generate(tiny.engine, prefix, within=limits(most))
        assert tiny.forwards[0] == generation.prompt_tokens


def load_ids(tiny: Tiny, text: str) -> list[int]:
    assert tiny.engine._loaded is not None
    return tiny.engine._loaded.tokenizer.encode(text)


def test_a_word_that_no_tokens_can_spell_stays_in_the_prompt(directory: Path) -> None:
    engine = engine_for(directory)
    load(engine)
    healed = generate(engine, "x = 1\ny = de")
    assert engine._loaded is not None
    engine._loaded = replace(engine._loaded, vocabulary=Vocabulary({0: b"d"}))
    plain = generate(engine, "x = 1\ny = de")
    assert plain.prompt_tokens == healed.prompt_tokens + len(engine._loaded.tokenizer.encode(" de"))
    assert plain.text == engine._loaded.tokenizer.decode(plain.token_ids)


def test_the_limits_hold_while_a_word_is_spelled(tiny: Tiny) -> None:
    prefix = "x = 1\nabcdef"
    generation = generate(tiny.engine, prefix, within=limits(3))
    assert (generation.text, generation.finish, len(generation.token_ids)) == ("", Finish.LENGTH, 3)
    assert len(tiny.forwards) == 3
    for step in (1, 2):
        tiny.engine.forget()
        tiny.forwards.clear()
        generation = generate(tiny.engine, prefix, token=CancelledAtLook(step))
        assert (generation.text, generation.finish) == ("", Finish.CANCELLED)
        assert len(generation.token_ids) == len(tiny.forwards) == step


REPEATING = "def f(a, b):\n    return a + b\n\n\n" * 8


def test_without_speculation_each_step_is_one_token(
    tiny: Tiny, directory: Path, drafted: Callable[[int], None]
) -> None:
    drafted(8)
    plain = engine_for(directory, speculate=False)
    load(plain)
    tiny.forwards.clear()
    expected = [generate(plain, REPEATING, within=limits(30)).token_ids for _ in range(2)]
    # A prompt of several pieces, and then, but for its last token, of none.
    pieces = len(tiny.forwards) - 60
    assert tiny.forwards[1 + pieces :] == [1] * 59
    tiny.forwards.clear()
    found = [generate(tiny.engine, REPEATING, within=limits(30)).token_ids for _ in range(2)]
    assert found == expected
    # The second time the first answer foretells the whole of it.
    assert len(tiny.forwards) - pieces < 40


def test_a_model_whose_output_is_no_number_fails_each_request(directory: Path) -> None:
    engine = engine_for(directory)
    load(engine)
    expected = generate(engine, "def f(").token_ids
    assert engine._loaded is not None
    norm = engine._loaded.cache._network._decoder._norm.weight  # type: ignore[attr-defined]
    whole = norm.clone()
    with torch.inference_mode():
        norm.fill_(torch.nan)
    for prefix in ("def f(", "x = 1\ny = de"):
        with pytest.raises(ModelError, match=r"not a number: .*\(model\.precision\)\.$"):
            generate(engine, prefix)
        engine.forget()
    with torch.inference_mode():
        norm.copy_(whole)
    assert generate(engine, "def f(").token_ids == expected


def test_the_card(tiny: Tiny, directory: Path) -> None:
    parameters = sum(weight.numel() for weight in tiny.network.parameters())
    budget = PromptBudget(512, 128, 256)
    of_weights = 4 * parameters
    assert tiny.card == ModelCard(
        "tiny", "qwen2.5-coder", "cpu", "float32", parameters, 1, budget, weight_bytes=of_weights
    )


def test_the_text_grows_step_by_step(tiny: Tiny) -> None:
    texts: list[str] = []
    generation = generate(tiny.engine, "def f(", on_text=texts.append, within=limits(12))
    assert generation.finish is Finish.LENGTH
    assert len(generation.token_ids) == len(texts) == 12
    assert texts[-1] == generation.text
    assert tiny.forwards == [generation.prompt_tokens, *[1] * 11], "nothing is computed behind the last token"


def test_a_stop_rule_cuts_the_text(tiny: Tiny) -> None:
    whole = generate(tiny.engine, "def f(", within=limits(12)).text
    tiny.engine.forget()
    tiny.forwards.clear()
    generation = generate(tiny.engine, "def f(", within=limits(12, stop=lambda text: 2 if len(text) >= 4 else None))
    assert generation.finish is Finish.STOP
    assert generation.text == whole[:2]
    assert len(tiny.forwards) == len(generation.token_ids)


def test_every_end_token_ends(tiny: Tiny, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(directory)
    for end in FIM:
        tokens = iter([*tokenizer.encode("ab"), tokenizer.token_id(end) or -1, 1, 1, 1])
        monkeypatch.setattr(model_engine, "greedy_tokens", lambda *given, left=tokens: left)
        generation = generate(tiny.engine, "x\n")
        assert (generation.text, generation.finish) == ("ab", Finish.END), end
        assert len(list(tokens)) == 3, "nothing is asked for behind the end"
        tiny.engine.forget()


def test_end_tokens_of_the_configuration(tmp_path: Path) -> None:
    directory = write_model(tmp_path)
    engine = engine_for(directory)
    load(engine)
    first = generate(engine, "def f(").token_ids[0]
    config = (directory / "config.json").read_text()
    assert '"eos_token_id": null' in config
    for configured in (str(first), f"[7, {first}]"):
        (directory / "config.json").write_text(config.replace('"eos_token_id": null', f'"eos_token_id": {configured}'))
        load(engine)
        generation = generate(engine, "def f(")
        assert (generation.finish, generation.token_ids) == (Finish.END, ())


# --- when it ends early


@pytest.mark.parametrize("step", [1, 3])
def test_a_cancel_stops_before_the_next_step(tiny: Tiny, step: int) -> None:
    token = CancelToken()
    texts: list[str] = []

    def on_text(text: str) -> None:
        texts.append(text)
        if len(texts) == step:
            token.cancel()

    generation = generate(tiny.engine, "def f(", token=token, on_text=on_text)
    assert generation.finish is Finish.CANCELLED
    assert len(generation.token_ids) == step
    assert len(tiny.forwards) == step


class CancelledAtLook(CancelToken):
    """Cancelled from the nth time on that somebody looks."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self.looks_left = look

    @property
    def cancelled(self) -> bool:
        self.looks_left -= 1
        return self.looks_left < 0


def test_a_cancel_stops_the_prefill_and_what_is_computed_stays(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_engine, "PREFILL_STEP", 10)
    prefix = "abcdefghij" * 5
    generation = generate(tiny.engine, prefix, token=CancelledAtLook(2))
    assert (generation.finish, generation.text, generation.token_ids) == (Finish.CANCELLED, "", ())
    assert tiny.forwards == [10, 10]
    after = generate(tiny.engine, prefix)
    assert after.reused_tokens == 20
    tiny.engine.forget()
    assert after.token_ids == generate(tiny.engine, prefix).token_ids


def test_a_deadline_that_has_passed(tiny: Tiny) -> None:
    generation = generate(tiny.engine, "def f(", within=limits(deadline=time.monotonic() - 1))
    assert (generation.finish, generation.text) == (Finish.DEADLINE, "")
    assert not tiny.forwards


def test_the_deadline_is_read_at_each_step(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(model_engine, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def on_text(text: str) -> None:
        clock.now += 1.0

    generation = generate(tiny.engine, "def f(", within=limits(deadline=3.0), on_text=on_text)
    assert generation.finish is Finish.DEADLINE
    assert len(generation.token_ids) == len(tiny.forwards) == 3


# --- keys and values


def test_only_what_is_new_is_computed(tiny: Tiny) -> None:
    behind = "\nmore\n" * 5
    generate(tiny.engine, "x = 1\ndef f(a", behind)
    # Of the same word nothing is new but the last position's logits; another word brings the one before it.
    for prefix, new in (("x = 1\ndef f(ab", 1), ("x = 1\ndef f(ab, c", 4)):
        tiny.forwards.clear()
        generation = generate(tiny.engine, prefix, behind, within=limits(1))
        assert tiny.forwards == [new]
        assert generation.reused_tokens == generation.prompt_tokens - new
    # On the next line the text is split elsewhere, so that the suffix has to be computed again.
    tiny.forwards.clear()
    generate(tiny.engine, "x = 1\ndef f(ab, c\n    d", behind, within=limits(1))
    assert tiny.forwards[0] > len(behind)


def test_an_exact_prompt_is_computed_anew(tiny: Tiny) -> None:
    for _ in range(2):
        generation = generate(tiny.engine, "x = 1\ndef f(a", exact=True, within=limits(1))
        assert generation.reused_tokens == 0
        assert tiny.forwards.pop() == generation.prompt_tokens
    tiny.engine.forget()
    blank = "x = 1\n    "
    assert generate(tiny.engine, blank, exact=True).token_ids == generate(tiny.engine, blank).token_ids


texts = st.text(alphabet="ab (\n😀", max_size=25)
edits = st.tuples(
    st.integers(0, 60),  # where, from the end
    st.integers(0, 6),  # how many characters go
    texts,  # what comes
    st.none() | st.integers(0, 4),  # cancelled at this look, or not
    st.booleans(),  # prepared, and not asked for
)


@settings(max_examples=200)
@given(start=texts, behind=texts, script=st.lists(edits, min_size=1, max_size=4), draft=st.sampled_from([0, 3]))
def test_reused_keys_and_values_give_the_tokens_of_a_cold_run(
    tiny: Tiny, start: str, behind: str, script: list[tuple[int, int, str, int | None, bool]], draft: int
) -> None:
    text = f"def start():\n{start}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_engine, "PREFILL_STEP", 16)
        patch.setattr(StepCost, "costs", free_up_to(draft))
        warm = []
        tiny.engine.forget()
        for where, gone, new, look, ahead in script:
            at = max(1, len(text) - where)
            text = text[:at] + new + text[at + gone :]
            token = CancelToken() if look is None else CancelledAtLook(look)
            if ahead:
                prepare(tiny.engine, text, behind, token)
                continue
            generation = generate(tiny.engine, text, behind, within=limits(3), token=token)
            if look is None:
                warm.append((text, generation.token_ids))
        for asked, ids in warm:
            tiny.engine.forget()
            cold = generate(tiny.engine, asked, behind, within=limits(3))
            assert cold.reused_tokens == 0
            assert ids == cold.token_ids


# --- ahead of requests


def prepare(engine: ModelEngine, prefix: str, suffix: str = "", token: CancelToken | None = None) -> bool:
    return engine.prepare(context(prefix, suffix), PromptShape(BUDGET), token or CancelToken())


def test_what_is_prepared_is_reused(tiny: Tiny) -> None:
    behind = "\nmore\n" * 5
    expected = generate(tiny.engine, "x = 1\ndef f(a", behind)
    tiny.engine.forget()
    tiny.forwards.clear()
    assert prepare(tiny.engine, "x = 1\ndef f(a", behind)
    assert sum(tiny.forwards) == expected.prompt_tokens - 1
    assert max(tiny.forwards) == model_engine.AHEAD_STEP
    tiny.forwards.clear()
    assert prepare(tiny.engine, "x = 1\ndef f(a", behind), "all of it is there"
    assert not tiny.forwards
    generation = generate(tiny.engine, "x = 1\ndef f(a", behind)
    assert generation.reused_tokens == generation.prompt_tokens - 1
    assert generation.token_ids == expected.token_ids


def test_the_line_that_is_typed_costs_no_more_for_a_preparation(tiny: Tiny) -> None:
    line, behind = "x = 1\ny = 2\nz = f(a", "\nmore\n"
    generate(tiny.engine, line, behind)
    assert prepare(tiny.engine, f"{line})\n", behind)
    assert prepare(tiny.engine, f"{line}, b)\n", behind)
    tiny.forwards.clear()
    generation = generate(tiny.engine, f"{line}b", behind, within=limits(1))
    assert tiny.forwards == [1]
    assert generation.reused_tokens == generation.prompt_tokens - 1
    following = generate(tiny.engine, f"{line}, b)\n", behind, within=limits(1))
    assert following.reused_tokens == following.prompt_tokens - 1


def test_a_preparation_ends_at_the_next_piece_and_what_is_computed_stays(tiny: Tiny) -> None:
    prefix = "abcdefghij\n" * 5
    assert not prepare(tiny.engine, prefix, token=CancelledAtLook(2))
    assert tiny.forwards == [model_engine.AHEAD_STEP] * 2
    after = generate(tiny.engine, prefix)
    assert after.reused_tokens == 2 * model_engine.AHEAD_STEP
    tiny.engine.forget()
    assert after.token_ids == generate(tiny.engine, prefix).token_ids


def test_what_cannot_be_prepared(tiny: Tiny, directory: Path) -> None:
    assert not tiny.engine.prepare(context("def f("), PromptShape(BUDGET, exact=True), CancelToken())
    assert not tiny.forwards
    assert not prepare(engine_for(directory), "def f(")


def test_a_preparation_that_has_no_room_is_left(tiny: Tiny) -> None:
    assert tiny.engine._loaded is not None
    generate(tiny.engine, "def f(")
    cache = tiny.engine._loaded.cache
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_capacity", 2 * cache.size_bytes - 1)
        tiny.forwards.clear()
        assert not prepare(tiny.engine, "something_else = 1\n")
        assert not tiny.forwards


# --- loading


def test_loading_reports_its_steps(directory: Path) -> None:
    steps: list[str] = []
    engine_for(directory).load(ORDER, lambda sentence, fraction: steps.append(sentence), CancelToken())
    assert steps == ["Starting torch", "Loading tiny", "Warming up"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_number_formats(directory: Path, precision: str) -> None:
    engine = engine_for(directory)
    card = load(engine, LoadOrder("tiny", "cpu", precision, 1))
    assert card.precision == precision
    assert card.weight_bytes == 2 * card.parameters
    assert len(generate(engine, "def f(").token_ids) == 8


def test_without_sentinels_it_completes_left_to_right(tmp_path: Path) -> None:
    engine = engine_for(write_model(tmp_path, byte_level(["<|endoftext|>"])))
    card = load(engine)
    assert card.fim_format == "none"
    assert len(card.notes) == 1
    assert "left to right" in card.notes[0]
    assert generate(engine, "abc", "hidden").prompt_tokens == 3


def test_too_little_memory_is_refused_before_loading(
    directory: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 << 20))
    monkeypatch.setattr(torch_loading, "_load_model", lambda *given: pytest.fail("loaded all the same"))
    with pytest.raises(ModelError, match=r"tiny needs 400 MiB on the cpu and 100 MiB are free: .*\.$"):
        load(engine_for(directory))


def fails(directory: Path) -> str:
    engine = engine_for(directory)
    with pytest.raises(ModelError) as caught:
        load(engine)
    with pytest.raises(ModelError, match="No model is loaded"):
        generate(engine, "def f(")
    assert "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_broken_models_are_one_sentence(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    weights, config = directory / "model.safetensors", directory / "config.json"
    whole, settings_text = weights.read_bytes(), config.read_text()
    for broken in (whole[:-100], whole[:50], b"", b"\xff" * 100):
        weights.write_bytes(broken)
        assert "is damaged" in fails(directory)
    weights.write_bytes(whole)
    for broken_config in ("", "{}", '{"model_type": "unheard-of"}', settings_text.replace("32,", "48,", 1)):
        config.write_text(broken_config)
        assert "cannot be loaded" in fails(directory)
    config.write_text(settings_text)
    (directory / "tokenizer.json").write_text("{")
    assert "tokenizer" in fails(directory)
    byte_level().save(str(directory / "tokenizer.json"))
    weights.unlink()
    assert "holds no safetensors weights" in fails(directory)


def test_what_is_forgotten_is_not_drafted(directory: Path, drafted: Callable[[int], None]) -> None:
    drafted(8)
    engine = engine_for(directory)
    load(engine)
    loaded = engine._loaded
    assert loaded is not None
    generate(engine, "def f(a):\n    return")
    assert loaded.drafter._answers
    engine.forget()
    assert not loaded.drafter._answers
    assert loaded.cache.size_bytes == loaded.network.begin().size_bytes


def test_int8_weights_are_kept_for_the_next_start(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "int8" / "tiny.safetensors"
    order = replace(ORDER, precision="int8")

    def start(place: Path | None = copy) -> tuple[Generation, list[str]]:
        steps: list[str] = []
        engine = ModelEngine(lambda name, report, token: ModelFiles(name, directory, "qwen2.5-coder", place))
        card = engine.load(order, lambda sentence, fraction: steps.append(sentence), CancelToken())
        assert card.precision == "int8"
        is_mapped = place is not None and place.is_file()
        assert (card.weight_bytes == 0) == is_mapped, "what is mapped can be taken back anyway"
        return generate(engine, "def f(a, b):\n    ret", "\n\nprint(1)\n"), steps

    first, steps = start()
    assert "Quantising tiny, once" in steps
    unkept, _ = start(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_loading, "_load_model", lambda *given: pytest.fail("the float weights were loaded"))
        second, steps = start()
    assert not any("Quantising" in step for step in steps)
    assert first.token_ids == second.token_ids == unkept.token_ids
    copy.write_bytes(copy.read_bytes()[:-9])
    third, steps = start()
    assert "Quantising tiny, once" in steps
    assert third.token_ids == first.token_ids
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert start(in_the_way / "copy")[0].token_ids == first.token_ids


def test_an_architecture_without_a_fast_path_says_so(tmp_path: Path, drafted: Callable[[int], None]) -> None:
    config = GemmaConfig(**TINY, head_dim=8)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_level().save(str(tmp_path / "tokenizer.json"))
    engine = engine_for(tmp_path)
    card = load(engine, replace(ORDER, precision="int8"))
    assert card.precision in {"float32", "bfloat16"}
    assert any("no fast path for gemma models" in note for note in card.notes)
    assert len(generate(engine, "def f(").token_ids) == 8
    prefixes = ("def f(", "x = 1\ndef f(a, b):\n    re")
    expected = [generate(engine, prefix, within=limits(20)).token_ids for prefix in prefixes]
    assert max(map(len, expected)) == 20
    drafted(8)
    for _ in range(2):
        assert [generate(engine, prefix, within=limits(20)).token_ids for prefix in prefixes] == expected


def test_a_failed_load_leaves_no_model(tmp_path: Path, directory: Path) -> None:
    places = iter([directory, tmp_path])
    engine = ModelEngine(lambda name, report, token: ModelFiles(name, next(places), "qwen2.5-coder"))
    load(engine)
    generate(engine, "def f(")
    with pytest.raises(ModelError):
        load(engine)
    with pytest.raises(ModelError, match="No model is loaded"):
        generate(engine, "def f(")


def test_a_warm_up_that_fails_leaves_no_model(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(directory)
    with monkeypatch.context() as patch:
        patch.setattr(LoadedModel, "warm_up", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load(engine)
    with pytest.raises(ModelError, match="No model is loaded"):
        generate(engine, "def f(")


def test_unload_frees_the_weights(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[weakref.ref[Any]] = []
    real = loading.load_network

    def remembered(*given: Any) -> Any:
        found = real(*given)
        networks.append(weakref.ref(found.network))
        return found

    monkeypatch.setattr(loading, "load_network", remembered)
    engine = engine_for(directory)
    load(engine)
    generate(engine, "def f(")
    engine.unload()
    engine.unload()
    gc.collect()
    assert networks[0]() is None
    with pytest.raises(ModelError, match="No model is loaded"):
        generate(engine, "def f(")
    load(engine)
    load(engine)
    gc.collect()
    assert [network() is None for network in networks] == [True, True, False]


def test_a_prompt_never_exceeds_what_the_model_takes(tmp_path: Path) -> None:
    directory = write_model(tmp_path)
    config = directory / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "max_position_embeddings": 96}))
    engine = engine_for(directory)
    load(engine)
    source = context("some text\n" * 60 + "typed, " * 5, "\nand more text" * 60)
    given = engine.generate(
        source, PromptShape(PromptBudget(20_000, 5_000)), limits(8), CancelToken(), lambda text: None
    )
    assert 48 <= given.prompt_tokens <= 96 - 8


@pytest.mark.parametrize("draft", [0, 8])
def test_an_answer_never_exceeds_what_the_model_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drafted: Callable[[int], None], draft: int
) -> None:
    drafted(draft)
    directory = write_model(tmp_path)
    config = directory / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 48}))
    engine = engine_for(directory)
    load(engine)
    longest = 0
    forward = LeanDecoder.forward

    def measured(self: LeanDecoder, sequence: Any, *given: Any) -> Any:
        nonlocal longest
        logits = forward(self, sequence, *given)
        longest = max(longest, sequence.length)
        return logits

    monkeypatch.setattr(LeanDecoder, "forward", measured)
    for prefix in ("ab\n", "ababab\n", "ab" * 8 + "\nab"):
        for _ in range(2):
            given = generate(engine, prefix, within=limits(500), budget=PromptBudget(20, 5))
            assert given.finish is Finish.LENGTH
            assert given.prompt_tokens + len(given.token_ids) == 48
    assert 40 < longest <= 48


def test_a_budget_of_zero_is_the_devices_own(tiny: Tiny) -> None:
    source = context("some text\n" * 400, "\nand more text" * 400)
    own = tiny.engine.generate(source, PromptShape(), limits(2), CancelToken(), lambda text: None)
    given = PromptShape(PromptBudget(tiny.card.budget.prefix, 0))
    half = tiny.engine.generate(source, given, limits(2), CancelToken(), print)
    assert half.prompt_tokens == own.prompt_tokens


def test_a_cancelled_load_leaves_no_model(directory: Path) -> None:
    token = CancelToken()
    token.cancel()
    engine = engine_for(directory)
    with pytest.raises(ModelError, match="cancelled"):
        engine.load(ORDER, lambda sentence, fraction: None, token)
    with pytest.raises(ModelError, match="No model"):
        engine.generate(context("x"), PromptShape(), limits(), CancelToken(), print)
