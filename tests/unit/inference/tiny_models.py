"""Random models and tokenizers small enough to be made on the fly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|endoftext|>", "<|im_end|>"]
VOCABULARY = 300
TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""Sizes of a configuration."""


def byte_level(control: list[str] = FIM, special: bool = True) -> Tokenizer:
    """A token a byte, and a few merges; as in GPT-2, Qwen and StarCoder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("d", "e"), ("de", "f"), ("Ġ", "Ġ"), ("r", "e")]
    vocabulary = {token: index for index, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in control])
    return tokenizer


def sentence_piece(scheme: str) -> Tokenizer:
    """Spaces as ``▁`` and bytes for what is unknown; the dummy space comes from a normaliser or a pre-tokenizer."""
    letters = [*map(chr, range(33, 127)), "\n", "▁", "▁▁"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "▁")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tail = [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if scheme == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), *tail])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), *tail])
    special = ["<s>", "</s>", "<unk>", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def write_model(directory: Path, tokenizer: Tokenizer | None = None, seed: int = 0) -> Path:
    """Write a random two-layer Qwen2, which says only ASCII, with config, safetensors and a tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        **TINY,
        max_position_embeddings=2048,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    tokenizer = tokenizer or byte_level()
    network = Qwen2ForCausalLM(config).eval()
    ascii_ids = [
        id_ for token, id_ in tokenizer.get_vocab().items() if len(token) == 1 and (token < "~" or token == "Ġ")
    ]
    spoken = torch.zeros(VOCABULARY, 1).index_fill_(0, torch.tensor(ascii_ids), 1.0)
    with torch.no_grad():
        network.lm_head.weight *= spoken
    network.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory
