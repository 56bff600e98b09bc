from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_models import VOCABULARY, run_spec, write_qwen

from intract_lsp.errors import TrainingError
from intract_lsp.training.ladder import Rung, is_out_of_memory
from intract_lsp.training.memory import (
    Decision,
    MemoryPlan,
    Sizes,
    copying_bytes,
    needed_bytes,
    plan,
    products_a_token,
    read_sizes,
    served_bytes,
)
from intract_lsp.training.spec import LoraSpec, Method, RunSpec

GIB = 2**30
HALF_BILLION = Sizes(630_000_000, 151_936, 24, 896, 4864, tied=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("tiny"))


def decide(spec: RunSpec, **amounts: int) -> MemoryPlan:
    return plan(spec, **({"serving": 0, "free": 64 * GIB, "disk_free": 64 * GIB} | amounts))


def test_sizes_are_read_from_the_files(tiny: Path) -> None:
    sizes = read_sizes(tiny)
    assert (sizes.vocabulary, sizes.layers, sizes.width, sizes.feed_forward) == (VOCABULARY, 2, 32, 48)
    attention = 32 * 32 * 2 + 16 * 32 * 2 + 32 + 16 * 2
    layer = attention + 3 * 32 * 48 + 2 * 32
    assert sizes.parameters == 2 * layer + 2 * VOCABULARY * 32 + 32
    assert not sizes.tied


def test_the_decision_follows_the_numbers(tiny: Path) -> None:
    spec = run_spec(tiny)
    needed = decide(spec).needed
    assert decide(spec).decision is Decision.COEXIST
    least = int(needed / 0.9) + 10
    assert decide(spec, free=least).decision is Decision.COEXIST
    short = decide(spec, free=least - GIB // 2, serving=GIB)
    assert short.decision is Decision.PAUSE_SERVING
    assert "completions pause" in short.sentence
    refused = decide(spec, free=least - GIB // 2, serving=GIB // 4)
    assert refused.decision is Decision.REFUSE
    assert f"{needed / GIB:.1f} GiB of memory" in refused.sentence
    assert "gradient_checkpointing" in refused.sentence
    full = decide(spec, disk_free=1000)
    assert full.decision is Decision.REFUSE
    assert "of disk" in full.sentence


def test_what_is_free_is_measured(tiny: Path) -> None:
    measured = plan(run_spec(tiny), serving=0)
    assert measured.free > 0
    assert measured.disk_free > 0


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        # Peak resident memory of real runs of a 0.5B model on a CPU; see scripts/bench/training.py.
        ({}, 2.5, 5.0),
        ({"method": Method.STANDARD}, 10.0, 14.0),
        ({"method": Method.QLORA, "gradient_checkpointing": True}, 1.5, 3.0),
    ],
)
def test_needs_of_a_real_size(tiny: Path, changes: dict[str, Any], least: float, most: float) -> None:
    spec = run_spec(tiny, context_length=512, r=8, **changes)
    assert least < needed_bytes(spec, HALF_BILLION, 2) / GIB < most


def test_more_needs_more(tiny: Path) -> None:
    spec = run_spec(tiny, context_length=512)
    needed = needed_bytes(spec, HALF_BILLION, 2)
    longer = replace(spec, trainer=replace(spec.trainer, context_length=4096))
    checkpointed = replace(spec, trainer=replace(spec.trainer, gradient_checkpointing=True))
    assert needed_bytes(longer, HALF_BILLION, 2) > needed > needed_bytes(checkpointed, HALF_BILLION, 2)
    assert needed_bytes(spec, HALF_BILLION, 4) > needed


def test_weights_that_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="are needed; pull"):
        read_sizes(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match="pull the model again"):
        read_sizes(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"vocab_size": 9, "num_hidden_layers": 1, "hidden_size": 2, "intermediate_size": 3}'
    )
    with pytest.raises(TrainingError, match="no safetensors"):
        read_sizes(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(TrainingError, match="pull the model again"):
        read_sizes(tmp_path)


def test_the_ladder_goes_down_to_its_end() -> None:
    rung = Rung(1024, 512, checkpointing=False)
    seen = []
    while (lower := rung.lower()) is not None:
        rung, sentence = lower
        seen.append((rung.micro_tokens, rung.context_length, rung.checkpointing))
        assert sentence.startswith("Memory is short: ")
    assert seen == [(512, 512, False), (512, 512, True), (256, 256, True), (128, 128, True), (64, 64, True)]


def test_errors_that_say_that_memory_is_out() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_planning_needs_no_torch() -> None:
    code = "import sys, intract_lsp.training.memory; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_products_are_those_of_the_passes_that_a_method_takes() -> None:
    sizes = Sizes(1_000_000, 1000, 2, 100, 200, tied=True)
    linears, head, sides = 900_000, 100_000, 2 * (8 * 100 + 3 * 300)
    assert (sizes.linears, sizes.embeddings, sizes.sides) == (linears, head, sides)
    spec = run_spec(Path("nowhere"))
    assert products_a_token(spec, sizes) == 2 * (linears + head) + 3 * 4 * sides
    again = replace(spec, trainer=replace(spec.trainer, gradient_checkpointing=True))
    assert products_a_token(again, sizes) == products_a_token(spec, sizes) + linears
    standard = replace(spec, trainer=replace(spec.trainer, method=Method.STANDARD))
    assert products_a_token(standard, sizes) == 3 * (linears + head)


@pytest.mark.parametrize("method", [Method.LORA, Method.STANDARD])
def test_how_fast_this_machine_trains(tiny: Path, method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from intract_lsp.training.room import tokens_a_second

    spec = run_spec(tiny, method=method)
    larger = replace(spec, trainer=replace(spec.trainer, lora=LoraSpec(r=4000, alpha=8000)))
    assert tokens_a_second(spec) > 0
    if method is Method.LORA:
        assert tokens_a_second(larger) < tokens_a_second(spec)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="GPU"):
        tokens_a_second(replace(spec, trainer=replace(spec.trainer, device="cuda")))


@pytest.mark.parametrize(
    ("device", "precision", "bytes_a_weight", "at_least"),
    [
        ("cpu", "auto", 1.3, 1.3),
        ("cpu", "float32", 4, 4),
        ("cuda", "auto", 2, None),
        ("cuda", "nf4", None, None),
        ("cuda", "float16", 2, 2),
    ],
)
def test_what_a_version_takes_while_it_is_measured(
    device: str, precision: str, bytes_a_weight: float | None, at_least: float | None
) -> None:
    """``None`` is nf4, which leaves the embeddings in 16 bits."""
    spec = run_spec(Path("nowhere"), device=device)
    spec = replace(spec, precision=precision)
    beside = 600 * 2**20
    in_four_bits = int(0.6 * HALF_BILLION.linears + 2 * HALF_BILLION.embeddings)
    for least, expected in ((False, bytes_a_weight), (True, at_least)):
        weights = in_four_bits if expected is None else int(630_000_000 * expected)
        assert served_bytes(spec, HALF_BILLION, at_least=least) == weights + beside


def test_a_run_needs_what_its_measuring_needs(tiny: Path) -> None:
    spec = replace(run_spec(tiny), precision="float32")
    with_head = read_sizes(tiny)
    assert decide(spec).needed == max(needed_bytes(spec, with_head, 2), served_bytes(spec, with_head))


def test_a_run_needs_what_its_int8_copy_is_made_from(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    billions = Sizes(1_540_000_000, 151_936, 28, 1536, 8960, tied=True)
    monkeypatch.setattr("intract_lsp.training.memory.read_sizes", lambda directory: billions)
    spec = run_spec(tiny)
    copying = int(1_540_000_000 * 5.3) + 700 * 2**20
    assert copying_bytes(spec, billions) == copying > needed_bytes(spec, billions, 2)
    assert decide(spec).needed == copying
    for other in (replace(spec, precision="bfloat16"), run_spec(tiny, device="cuda")):
        assert copying_bytes(other, billions) == 0
        assert decide(other).needed < copying


@pytest.mark.parametrize(("versions", "fit"), [(1, True), (2, True), (3, False)])
def test_versions_fit_together_by_what_is_free(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, versions: int, fit: bool
) -> None:
    from intract_lsp.training import room

    spec = run_spec(tiny)
    one = served_bytes(spec, read_sizes(tiny))
    monkeypatch.setattr(room, "available_memory", lambda: int(2.5 * one / 0.9))
    assert room.fit_together(spec, versions) is fit
