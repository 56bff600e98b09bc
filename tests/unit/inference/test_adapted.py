from __future__ import annotations

import contextlib
import gc
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_adapters import files, write_lora, write_standard
from tiny_models import write_model
from transformers import AutoModelForCausalLM

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Generation, Limits, PromptShape
from intract_lsp.errors import AdapterError, AdapterRoomError
from intract_lsp.inference import torch_loading
from intract_lsp.inference.adapted import has_int8_copy, keep_int8_copies
from intract_lsp.inference.adapted_child import int8_copy_in_child, make_int8_copy
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.engine import AdapterFiles, LoadOrder, ModelCard, ModelFiles
from intract_lsp.inference.jit import Kind, kind_of_cpu
from intract_lsp.inference.merging import merge
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.inference.worker import InferenceWorker
from intract_lsp.models.store import adapted_copies, adapted_copy, quantized_copy, remove, weights_fingerprint
from intract_lsp.paths import Paths

PATIENCE = 60.0

FLOAT = LoadOrder("tiny", "cpu", "float32", 1)
INT8 = LoadOrder("tiny", "cpu", "int8", 1)

needs_int8 = pytest.mark.skipif(kind_of_cpu() is Kind.PLAIN, reason="this CPU has no instructions for int8")

PROMPTS = ["def f(a", "x = 1\ny = ", "class A:\n    def ", "import os\n", "for i in range(", "return "]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, AdapterFiles]:
    place = tmp_path_factory.mktemp("adapters")
    return {
        "one": write_lora(base, place / "one", 1),
        "two": write_lora(base, place / "two", 2),
        "whole": write_standard(base, place / "whole", 3),
    }


def engine_for(base: Path, quantized: Path | None = None) -> ModelEngine:
    return ModelEngine(lambda name, report, token: ModelFiles("tiny", base, "qwen2.5-coder", quantized))


def report(sentence: str, fraction: float | None) -> None:
    pass


def load(engine: ModelEngine, order: LoadOrder = FLOAT) -> ModelCard:
    return engine.load(order, report, CancelToken())


def swap(engine: ModelEngine, adapter: AdapterFiles | None) -> ModelCard:
    return engine.swap(adapter, report, CancelToken())


def limits() -> Limits:
    return Limits(6, 1e12, lambda text: None)


def context(prefix: str) -> CompletionContext:
    return CompletionContext(prefix, ")\n", "python", Extent.BLOCK)


def says(engine: ModelEngine, prefix: str) -> str:
    return engine.generate(context(prefix), PromptShape(), limits(), CancelToken(), lambda text: None).text


def all_it_says(engine: ModelEngine) -> list[str]:
    return [says(engine, prompt) for prompt in PROMPTS]


# --- merging


@pytest.mark.parametrize(
    "options", [{}, {"r": 3, "lora_alpha": 5}, {"use_rslora": True}, {"target_modules": ["q_proj"]}]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_merged_is_what_peft_computes(
    base: Path, tmp_path: Path, options: dict[str, Any], dtype: torch.dtype
) -> None:
    adapter = write_lora(base, tmp_path / "a", 5, **options)
    own = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    plain = {name: weight.clone() for name, weight in own.state_dict().items()}
    merge(own, adapter)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tmp_path / "a")
    changed = 0
    for name, weight in theirs.merge_and_unload().state_dict().items():
        found = own.state_dict()[name]
        changed += not torch.equal(found, plain[name])
        torch.testing.assert_close(found.float(), weight, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)
    assert changed == (2 if "target_modules" in options else 14)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(
    base: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    adapter = write_lora(base, tmp_path / "a", 5, **options)
    with pytest.raises(AdapterError, match=f"a cannot be merged: .*{says}"):
        merge(AutoModelForCausalLM.from_pretrained(base), adapter)


def test_matrices_of_another_model_are_refused(base: Path, tmp_path: Path, adapters: dict[str, AdapterFiles]) -> None:
    copied = shutil.copytree(adapters["one"].directory, tmp_path / "a")
    tensors = load_file(copied / "adapter_model.safetensors")
    for change in (lambda name: name.replace("layers.1", "layers.9"), lambda name: name.replace("q_proj", "no_proj")):
        save_file({change(name): tensor for name, tensor in tensors.items()}, copied / "adapter_model.safetensors")
        with pytest.raises(AdapterError, match="does not fit the model"):
            merge(AutoModelForCausalLM.from_pretrained(base), files(copied, base))


# --- the engine


def test_loaded_or_swapped_to_it_is_the_same_and_the_base_comes_back(
    base: Path, adapters: dict[str, AdapterFiles]
) -> None:
    engine = engine_for(base)
    assert load(engine).adapter == ""
    plain = all_it_says(engine)
    seen = [plain]
    for adapter in adapters.values():
        card = swap(engine, adapter)
        assert (card.adapter, card.precision) == (adapter.id, "float32")
        fresh = engine_for(base)
        assert load(fresh, replace(FLOAT, adapter=adapter)).adapter == adapter.id
        assert all_it_says(engine) == all_it_says(fresh)
        seen.append(all_it_says(engine))
    assert len({tuple(texts) for texts in seen}) == 4
    assert swap(engine, None).adapter == ""
    assert all_it_says(engine) == plain


def spoil(adapter: AdapterFiles, directory: Path, how: str) -> AdapterFiles:
    shutil.copytree(adapter.directory, directory)
    weights = directory / "adapter_model.safetensors"
    if how == "missing":
        shutil.rmtree(directory)
    elif how == "short":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif how == "no config":
        (directory / "adapter_config.json").unlink()
    elif how == "no json":
        (directory / "adapter_config.json").write_text("{")
    elif how == "no lora":
        (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3", "r": 1, "lora_alpha": 1}))
    return replace(adapter, directory=directory, base="0" * 64 if how == "other base" else adapter.base)


@pytest.mark.parametrize("how", ["missing", "short", "no config", "no json", "no lora", "other base"])
def test_one_that_cannot_be_used_leaves_the_old_one_serving(
    base: Path, adapters: dict[str, AdapterFiles], tmp_path: Path, how: str
) -> None:
    engine = engine_for(base)
    load(engine)
    swap(engine, adapters["one"])
    before = all_it_says(engine)
    broken = spoil(adapters["two"], tmp_path / "two", how)
    with pytest.raises(AdapterError, match="two") as caught:
        swap(engine, broken)
    assert "\n" not in str(caught.value)
    if how == "other base":
        assert "trained on tiny (weights 000000000000), not on tiny" in str(caught.value)
    assert all_it_says(engine) == before
    assert swap(engine, None).adapter == ""


def test_want_of_memory_is_told_apart(
    base: Path, adapters: dict[str, AdapterFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(base)
    load(engine)
    plain = all_it_says(engine)
    monkeypatch.setattr(torch_loading, "free_memory", lambda device: 0)
    with pytest.raises(AdapterRoomError, match="beside what serves: tiny needs"):
        swap(engine, adapters["one"])
    assert all_it_says(engine) == plain


def test_after_a_swap_without_room_the_old_model_is_gone_before_a_new_one_is_loaded(
    base: Path, adapters: dict[str, AdapterFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, networks = iter([1 << 50, 0, 1 << 50]), []

    def look(device: torch.device) -> int:
        networks.append(sum(type(each) is LeanDecoder for each in gc.get_objects()))
        return next(room)

    gc.collect()
    monkeypatch.setattr(torch_loading, "free_memory", look)
    worker = InferenceWorker(engine_for(base))
    worker.start()
    try:
        worker.load(FLOAT).result(PATIENCE)
        with contextlib.suppress(AdapterRoomError):
            worker.swap(adapters["one"]).result(PATIENCE)
        worker.load(replace(FLOAT, adapter=adapters["one"])).result(PATIENCE)
    finally:
        assert worker.stop(PATIENCE)
    others = networks[0]
    assert networks == [others, others + 1, others]


def test_a_model_loads_without_an_adapter_that_cannot_be_used_and_says_so(
    base: Path, adapters: dict[str, AdapterFiles], tmp_path: Path
) -> None:
    engine = engine_for(base)
    card = load(engine, replace(FLOAT, adapter=spoil(adapters["two"], tmp_path / "two", "missing")))
    assert card.adapter == ""
    assert "two" in card.notes[-1]
    assert "tiny serves without it." in card.notes[-1]
    plain = engine_for(base)
    load(plain)
    assert all_it_says(engine) == all_it_says(plain)
    assert swap(engine, adapters["one"]).notes == card.notes[:-1], "the note is no longer true"


def test_a_swap_without_a_model(base: Path, adapters: dict[str, AdapterFiles]) -> None:
    with pytest.raises(AdapterError, match="No model is loaded"):
        swap(engine_for(base), adapters["one"])


# --- int8


@pytest.fixture(scope="module")
def int8(base: Path, adapters: dict[str, AdapterFiles], tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The model's files, with int8 copies of it alone and with the adapters ``one`` and ``whole``."""
    copy = tmp_path_factory.mktemp("int8") / "tiny-1234.safetensors"
    load(engine_for(base, copy), INT8)
    found = ModelFiles("tiny", base, "qwen2.5-coder", copy)
    for name in ("one", "whole"):
        make_int8_copy(found, adapters[name], report, CancelToken())
    return found


@pytest.fixture
def mapped_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_loading, "load", lambda *given: pytest.fail("float weights were loaded"))


@needs_int8
def test_in_int8_a_swap_only_maps(
    base: Path, int8: ModelFiles, adapters: dict[str, AdapterFiles], mapped_only: None
) -> None:
    engine = engine_for(base, int8.quantized)
    load(engine, INT8)
    plain = all_it_says(engine)
    seen = [plain]
    for name in ("one", "whole"):
        card = swap(engine, adapters[name])
        assert (card.adapter, card.precision) == (name, "int8")
        fresh = engine_for(base, int8.quantized)
        load(fresh, replace(INT8, adapter=adapters[name]))
        assert all_it_says(engine) == all_it_says(fresh)
        seen.append(all_it_says(engine))
    assert len({tuple(texts) for texts in seen}) == 3
    with pytest.raises(AdapterError, match="two has no int8 copy"):
        swap(engine, adapters["two"])
    assert all_it_says(engine) == seen[-1]
    swap(engine, None)
    assert all_it_says(engine) == plain


@needs_int8
def test_int8_says_what_float_says_of_an_adapter(
    base: Path, int8: ModelFiles, adapters: dict[str, AdapterFiles]
) -> None:
    """The adapter is in the int8 copy: a middle is as likely as in floats, and not as likely as without it."""
    losses = {}
    for name, order, quantized in (("float", FLOAT, None), ("int8", INT8, int8.quantized)):
        engine = engine_for(base, quantized)
        load(engine, replace(order, adapter=adapters["one"]))
        losses[name] = [engine.likelihood(context(prompt), PromptShape(), "ab cd")[0] for prompt in PROMPTS]
    engine = engine_for(base)
    load(engine)
    alone = [engine.likelihood(context(prompt), PromptShape(), "ab cd")[0] for prompt in PROMPTS]
    apart = sum(abs(one - other) for one, other in zip(losses["float"], losses["int8"], strict=True))
    assert apart < sum(abs(one - other) for one, other in zip(losses["float"], alone, strict=True)) / 4


@needs_int8
def test_a_copy_is_made_in_a_child_and_belongs_to_the_adapter_and_the_base(
    int8: ModelFiles, adapters: dict[str, AdapterFiles], tmp_path: Path
) -> None:
    own = replace(int8, quantized=tmp_path / "tiny-1.safetensors")
    assert own.quantized is not None
    assert not has_int8_copy(own, adapters["two"])
    said: list[str] = []
    int8_copy_in_child(own, adapters["two"], lambda sentence, fraction: said.append(sentence), CancelToken())
    assert "Quantising tiny, once" in said
    assert has_int8_copy(own, adapters["two"])
    assert not has_int8_copy(own, replace(adapters["one"], id="two")), "other weights under the same name"
    assert not has_int8_copy(own, None)
    with pytest.raises(AdapterError, match="missing or damaged"):
        int8_copy_in_child(own, replace(adapters["two"], id="gone", directory=tmp_path / "gone"), report, CancelToken())
    cancelled = CancelToken()
    cancelled.cancel()
    with pytest.raises(AdapterError, match="cancelled"):
        int8_copy_in_child(own, adapters["one"], report, cancelled)


def test_copies_that_are_not_worth_keeping_are_removed(tmp_path: Path) -> None:
    copy = tmp_path / "tiny-1.safetensors"
    others = [tmp_path / "tiny-1.5.safetensors", tmp_path / "tiny-12+a.safetensors", copy]
    for path in (*others, *(adapted_copy(copy, name) for name in ("a-1.5", "b", "c"))):
        path.write_bytes(b"1234")
    assert sorted(adapted_copies(copy).values()) == ["a-1.5", "b", "c"]
    assert keep_int8_copies(copy, {"b", "x"}) == 8
    assert set(tmp_path.iterdir()) == {*others, adapted_copy(copy, "b")}


def test_the_copies_go_with_the_model(base: Path, tmp_path: Path) -> None:
    paths = Paths(*(tmp_path / name for name in ("config", "cache", "data", "logs")))
    directory = shutil.copytree(base, paths.models / "tiny")
    copy = quantized_copy(directory, paths)
    copy.parent.mkdir(parents=True)
    for path in (copy, adapted_copy(copy, "a"), copy.with_name("other+a.safetensors")):
        path.write_bytes(b"1234")
    weights = sum(path.stat().st_size for path in directory.iterdir())
    assert remove("tiny", paths) == weights + 8
    assert [path.name for path in copy.parent.iterdir()] == ["other+a.safetensors"]


def test_a_fingerprint_is_of_the_content(base: Path, tmp_path: Path) -> None:
    again = shutil.copytree(base, tmp_path / "again", copy_function=shutil.copyfile)
    assert weights_fingerprint(again) == weights_fingerprint(base)
    weights = again / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert weights_fingerprint(again) != weights_fingerprint(base)


# --- the law


def hammer(
    worker: InferenceWorker, requests: int, swap_to: Callable[[int], Future[ModelCard]], swaps: int
) -> list[tuple[str, Generation]]:
    """Ask from four threads while a fifth swaps; return (prompt, generation) of every request."""
    answers: list[tuple[str, Generation]] = []
    asked = threading.Semaphore(0)

    def ask(name: int) -> None:
        choose = random.Random(name)
        for number in range(requests // 4):
            prompt = choose.choice(PROMPTS)
            key, token = f"{name}-{number}", CancelToken()
            future = worker.submit(key, context(prompt), PromptShape(), limits(), token, lambda text: None)
            asked.release()
            answers.append((prompt, future.result(PATIENCE)))

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for number in range(swaps):
        for _ in range(requests // swaps):
            assert asked.acquire(timeout=PATIENCE)
        swap_to(number).result(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
    return answers


@pytest.fixture
def worker(base: Path) -> Iterator[InferenceWorker]:
    worker = InferenceWorker(engine_for(base))
    worker.start()
    yield worker
    assert worker.stop(PATIENCE)


def test_500_requests_over_20_swaps_are_the_old_or_the_new_ones(
    base: Path, worker: InferenceWorker, adapters: dict[str, AdapterFiles]
) -> None:
    arms: list[AdapterFiles | None] = [adapters["one"], None, adapters["two"]]
    expected: dict[str, dict[str, str]] = {}
    pure = engine_for(base)
    load(pure)
    for arm in arms:
        swap(pure, arm)
        expected[arm.id if arm else ""] = {prompt: says(pure, prompt) for prompt in PROMPTS}
    worker.load(FLOAT).result(PATIENCE)
    began = time.monotonic()
    answers = hammer(worker, 500, lambda number: worker.swap(arms[number % 3]), 20)
    print(f"{time.monotonic() - began:.1f} s")
    assert len(answers) == 500, "one answer a request"
    mixed = [(prompt, one.text) for prompt, one in answers if one.text not in {e[prompt] for e in expected.values()}]
    assert not mixed
    for arm, texts in expected.items():
        assert any(one.text == texts[prompt] for prompt, one in answers), f"{arm} never served"


def test_the_key_names_the_adapter(worker: InferenceWorker, adapters: dict[str, AdapterFiles], tmp_path: Path) -> None:
    worker.load(replace(FLOAT, adapter=adapters["one"])).result(PATIENCE)
    assert worker.model_key == "tiny@float32+one"
    worker.swap(adapters["two"]).result(PATIENCE)
    assert worker.model_key == "tiny@float32+two"
    with pytest.raises(AdapterError):
        worker.swap(spoil(adapters["one"], tmp_path / "one", "short")).result(PATIENCE)
    assert worker.model_key == "tiny@float32+two"
    worker.swap(None).result(PATIENCE)
    assert worker.model_key == "tiny@float32"
