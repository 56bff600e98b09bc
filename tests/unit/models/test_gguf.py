from __future__ import annotations

import json
import logging
from pathlib import Path

import psutil
import pytest
from model_files import SPECIAL, write_gguf
from tokenizers import Tokenizer

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models import convert
from intract_lsp.models.gguf_header import read_gguf_header
from intract_lsp.models.gguf_tokenizer import write_tokenizer
from intract_lsp.models.progress import PullCancelled


def tokenizer(file: Path, directory: Path) -> Tokenizer:
    write_tokenizer(read_gguf_header(file), directory)
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def test_header(tmp_path: Path) -> None:
    header = read_gguf_header(write_gguf(tmp_path / "m.gguf"))
    assert header.architecture == "llama"
    assert header.number("llama.block_count") == 1
    assert header.texts("tokenizer.ggml.tokens")[:4] == SPECIAL
    assert header.metadata["tokenizer.ggml.add_bos_token"] is False
    assert header.parameters == 2 * 107 * 32 + 3 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "m.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in [*range(400), *range(400, len(whole), 997), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"cut short|no GGUF file"):
            read_gguf_header(cut)


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    whole = bytearray(write_gguf(tmp_path / "m.gguf").read_bytes())
    for position in range(4, 200):
        spoilt = bytearray(whole)
        spoilt[position] = 0xFF
        file = tmp_path / "spoilt.gguf"
        file.write_bytes(spoilt)
        try:
            read_gguf_header(file)  # a changed name or value may pass; nothing but a ModelError may be raised
        except ModelError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("pre", "text", "tokens"),
    [
        ("smollm", "def 12 x", ["def", "Ġ", "1", "2", "Ġx"]),
        ("gpt-2", "def 12 x", ["def", "Ġ", "12", "Ġx"]),
        ("qwen2", "def12\n\n", ["def", "1", "2", "Ċ", "Ċ"]),
        ("deepseek-coder", "def12\n\n", ["def", "1", "2", "Ċ", "Ċ"]),
        ("llama-bpe", "12", ["12"]),
    ],
)
def test_text_is_cut_by_the_files_own_rule(tmp_path: Path, pre: str, text: str, tokens: list[str]) -> None:
    loaded = tokenizer(write_gguf(tmp_path / "m.gguf", pre=pre), tmp_path)
    assert loaded.encode(text).tokens == tokens
    assert loaded.decode(loaded.encode(text).ids) == text


def test_control_tokens_are_one_id_and_padding_is_no_token(tmp_path: Path) -> None:
    loaded = tokenizer(write_gguf(tmp_path / "m.gguf"), tmp_path)
    assert [loaded.encode(token).ids for token in SPECIAL] == [[0], [1], [2], [3]]
    assert loaded.token_to_id("[PAD]") is None
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "<|end|>"


def test_the_begin_token_is_put_first_where_the_file_asks(tmp_path: Path) -> None:
    loaded = tokenizer(write_gguf(tmp_path / "m.gguf", begin=True), tmp_path)
    assert loaded.encode("def").tokens == ["<|end|>", "def"]
    assert loaded.encode("def", add_special_tokens=False).tokens == ["def"]


def test_an_unknown_rule_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer(write_gguf(tmp_path / "m.gguf", pre="novel"), tmp_path)
    assert "'novel'" in caplog.text


def ignore(sentence: str, fraction: float | None) -> None:
    pass


@pytest.mark.parametrize("tied", [False, True])
def test_a_conversion_has_the_files_weights_and_loads(tmp_path: Path, tied: bool) -> None:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    file = write_gguf(tmp_path / "m.gguf", tied=tied)
    output = tmp_path / "out"
    output.mkdir()
    fractions: list[float] = []
    convert.convert_gguf(file, output, lambda _, fraction: fractions.append(fraction or 0.0), CancelToken())
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    model = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32)
    wanted = {tensor.name: torch.tensor(tensor.data) for tensor in GGUFReader(str(file)).tensors}
    embedding = wanted["token_embd.weight"]
    torch.testing.assert_close(model.model.embed_tokens.weight, embedding, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(model.lm_head.weight, wanted.get("output.weight", embedding), atol=1e-3, rtol=1e-3)
    down = wanted["blk.0.ffn_down.weight"]
    torch.testing.assert_close(model.model.layers[0].mlp.down_proj.weight, down, atol=1e-3, rtol=1e-3)
    assert json.loads((output / "config.json").read_text())["dtype"] == "float16"


def write_adapter(directory: Path, width: int) -> tuple[object, object]:
    """Write a low-rank adapter (rank 2, alpha 4) of the tiny model's first down projection; return its matrices."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    a, b = torch.randn(2, width) * 0.1, torch.randn(32, 2) * 0.1
    layer = "base_model.model.model.layers.0.mlp.down_proj"
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["down_proj"]}
    directory.mkdir()
    save_file({f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return a, b


def test_an_adapter_is_merged_into_what_is_written(tmp_path: Path) -> None:
    import torch
    from gguf import GGUFReader
    from safetensors.torch import load_file

    file = write_gguf(tmp_path / "m.gguf")
    a, b = write_adapter(tmp_path / "adapter", 64)
    output = tmp_path / "out"
    output.mkdir()
    convert.convert_gguf(file, output, ignore, CancelToken(), tmp_path / "adapter")
    names = {tensor.name: torch.tensor(tensor.data) for tensor in GGUFReader(str(file)).tensors}
    written = load_file(output / "model.safetensors")
    assert not [name for name in written if "lora" in name or "base_layer" in name]
    down = written["model.layers.0.mlp.down_proj.weight"].float()
    torch.testing.assert_close(down, names["blk.0.ffn_down.weight"] + 2 * b @ a, atol=2e-3, rtol=2e-3)
    up = written["model.layers.0.mlp.up_proj.weight"].float()
    torch.testing.assert_close(up, names["blk.0.ffn_up.weight"], atol=1e-3, rtol=1e-3)


def test_an_adapter_of_another_size_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", 48)
    with pytest.raises(ModelError, match="does not fit the model"):
        convert.convert_gguf(write_gguf(tmp_path / "m.gguf"), tmp_path, ignore, CancelToken(), tmp_path / "adapter")
    assert not (tmp_path / "model.safetensors").exists()


def test_a_large_model_is_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    from intract_lsp.models.files import check_directory

    monkeypatch.setattr(convert, "SHARD_BYTES", 8192)
    convert.convert_gguf(write_gguf(tmp_path / "m.gguf"), tmp_path, ignore, CancelToken())
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    check_directory(tmp_path)
    AutoModelForCausalLM.from_pretrained(tmp_path)


def test_refusals_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="architecture 'novel'"):
        convert.convert_gguf(write_gguf(tmp_path / "n.gguf", architecture="novel"), tmp_path, ignore, CancelToken())
    file = write_gguf(tmp_path / "m.gguf")
    token = CancelToken()
    token.cancel()
    with pytest.raises(PullCancelled):
        convert.convert_gguf(file, tmp_path, ignore, token)
    little = psutil.virtual_memory()._replace(available=100 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(ModelError, match=r"MiB of memory and 100 MiB are free"):
        convert.convert_gguf(file, tmp_path, ignore, CancelToken())
    assert not (tmp_path / "model.safetensors").exists()
