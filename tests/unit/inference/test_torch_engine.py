from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FIM, byte_level, write_model
from transformers import AutoModelForCausalLM

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget
from intract_lsp.completion.prompt import FORMATS, PromptSource, end_ids, render
from intract_lsp.errors import ModelError
from intract_lsp.inference import torch_engine
from intract_lsp.inference.engine import LoadOrder, ModelCard
from intract_lsp.inference.speculation import Pace
from intract_lsp.inference.tokenizer import load_tokenizer
from intract_lsp.inference.torch_engine import ModelFiles, TorchEngine

BUDGET = PromptBudget(200, 60)
ORDER = LoadOrder("tiny", device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


def engine_for(directory: Path, family: str = "qwen2.5-coder") -> TorchEngine:
    return TorchEngine(lambda name, report, token: ModelFiles(name, directory, family))


def load(engine: TorchEngine, order: LoadOrder = ORDER) -> ModelCard:
    return engine.load(order, lambda sentence, fraction: None, CancelToken())


@dataclass
class Tiny:
    engine: TorchEngine
    card: ModelCard
    network: Any
    """The same weights in transformers' own forward."""
    forwards: list[int]
    """Tokens of each forward pass since the list was cleared."""


@pytest.fixture(scope="module")
def tiny(directory: Path) -> Tiny:
    """A loaded engine whose forward passes are counted."""
    forwards: list[int] = []
    real = torch_engine._network

    def counted(*given: Any) -> Any:
        network = real(*given)
        forward = network.forward

        def count(ids: Sequence[int], last: int = 1) -> Any:
            forwards.append(len(ids))
            return forward(ids, last)

        network.forward = count
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_engine, "_network", counted)
        engine = engine_for(directory)
        card = load(engine)
    return Tiny(engine, card, AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32), forwards)


@pytest.fixture(autouse=True)
def drafted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that fixes the length of drafts, so that passes can be counted; it is 0 at first."""

    def fix(length: int) -> None:
        monkeypatch.setattr(Pace, "length", property(lambda self: length))

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
    engine: TorchEngine,
    prefix: str,
    suffix: str = "",
    *,
    within: Limits | None = None,
    token: CancelToken | None = None,
    on_text: Callable[[str], None] = lambda text: None,
    budget: PromptBudget | None = BUDGET,
) -> Generation:
    return engine.generate(context(prefix, suffix), budget, within or limits(), token or CancelToken(), on_text)


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
    ours = generate(tiny.engine, prefix, suffix, within=limits(40))
    assert list(ours.token_ids) == expected
    assert ours.prompt_tokens == len(ids)
    assert ours.text == tokenizer.decode(expected)


def test_the_card(tiny: Tiny, directory: Path) -> None:
    parameters = sum(weight.numel() for weight in tiny.network.parameters())
    assert tiny.card == ModelCard("tiny", "qwen2.5-coder", "cpu", "float32", parameters, 1, PromptBudget(512, 128))


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
        monkeypatch.setattr(torch_engine, "greedy_tokens", lambda *given, left=tokens: left)
        generation = generate(tiny.engine, "x")
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
    monkeypatch.setattr(torch_engine, "PREFILL_STEP", 10)
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
    monkeypatch.setattr(torch_engine, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def on_text(text: str) -> None:
        clock.now += 1.0

    generation = generate(tiny.engine, "def f(", within=limits(deadline=3.0), on_text=on_text)
    assert generation.finish is Finish.DEADLINE
    assert len(generation.token_ids) == len(tiny.forwards) == 3


# --- keys and values


def test_only_what_is_new_is_computed(tiny: Tiny) -> None:
    generate(tiny.engine, "def f(a")
    tiny.forwards.clear()
    generation = generate(tiny.engine, "def f(ab", within=limits(1))
    # The prefix sentinel and what was there stay; the new letter, the suffix and the middle sentinel are computed.
    assert tiny.forwards == [3]
    assert generation.reused_tokens == generation.prompt_tokens - 3


texts = st.text(alphabet="ab (\n😀", max_size=25)
edits = st.tuples(
    st.integers(0, 60),  # where, from the end
    st.integers(0, 6),  # how many characters go
    texts,  # what comes
    st.none() | st.integers(0, 4),  # cancelled at this look, or not
)


@settings(max_examples=200)
@given(start=texts, behind=texts, script=st.lists(edits, min_size=1, max_size=4))
def test_reused_keys_and_values_give_the_tokens_of_a_cold_run(
    tiny: Tiny, start: str, behind: str, script: list[tuple[int, int, str, int | None]]
) -> None:
    text = f"def start():\n{start}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_engine, "PREFILL_STEP", 16)
        warm = []
        tiny.engine.forget()
        for where, gone, new, look in script:
            at = max(1, len(text) - where)
            text = text[:at] + new + text[at + gone :]
            token = CancelToken() if look is None else CancelledAtLook(look)
            generation = generate(tiny.engine, text, behind, within=limits(3), token=token)
            if look is None:
                warm.append((text, generation.token_ids))
        for asked, ids in warm:
            tiny.engine.forget()
            cold = generate(tiny.engine, asked, behind, within=limits(3))
            assert cold.reused_tokens == 0
            assert ids == cold.token_ids


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
    monkeypatch.setattr(torch_engine, "_load_model", lambda *given: pytest.fail("loaded all the same"))
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
    weights.unlink()
    assert "holds no safetensors weights" in fails(directory)
    assert "holds no safetensors weights" in fails(tmp_path / "empty")


def test_a_failed_load_leaves_no_model(tmp_path: Path, directory: Path) -> None:
    places = iter([directory, tmp_path])
    engine = TorchEngine(lambda name, report, token: ModelFiles(name, next(places), "qwen2.5-coder"))
    load(engine)
    generate(engine, "def f(")
    with pytest.raises(ModelError):
        load(engine)
    with pytest.raises(ModelError, match="No model is loaded"):
        generate(engine, "def f(")


def test_a_warm_up_that_fails_leaves_no_model(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(directory)
    with monkeypatch.context() as patch:
        patch.setattr(TorchEngine, "_step", lambda self, loaded, ids: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load(engine)
    with pytest.raises(ModelError, match="No model is loaded"):
        generate(engine, "def f(")


def test_unload_frees_the_weights(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[weakref.ref[Any]] = []
    real = torch_engine._network

    def remembered(*given: Any) -> Any:
        network = real(*given)
        networks.append(weakref.ref(network))
        return network

    monkeypatch.setattr(torch_engine, "_network", remembered)
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
    source = context("some text\n" * 60, "\nand more text" * 60)
    given = engine.generate(source, PromptBudget(20_000, 5_000), limits(8), CancelToken(), lambda text: None)
    assert 48 <= given.prompt_tokens <= 96 - 8


def test_a_budget_of_zero_is_the_devices_own(tiny: Tiny) -> None:
    source = context("some text\n" * 400, "\nand more text" * 400)
    own = tiny.engine.generate(source, None, limits(2), CancelToken(), lambda text: None)
    half = tiny.engine.generate(source, PromptBudget(tiny.card.budget.prefix, 0), limits(2), CancelToken(), print)
    assert half.prompt_tokens == own.prompt_tokens


def test_a_cancelled_load_leaves_no_model(directory: Path) -> None:
    token = CancelToken()
    token.cancel()
    engine = engine_for(directory)
    with pytest.raises(ModelError, match="cancelled"):
        engine.load(ORDER, lambda sentence, fraction: None, token)
    with pytest.raises(ModelError, match="No model"):
        engine.generate(context("x"), None, limits(), CancelToken(), print)
