"""Make ``tokenizer.json`` from the vocabulary in a GGUF file.

Only for byte-level BPE (``tokenizer.ggml.model`` = ``gpt2``), the kind of nearly all code models. transformers'
conversion chooses the pre-tokenizer by architecture and so gives SmolLM2 (architecture ``llama``) GPT-2's rule without
the split of digits; it takes 10 s as well. Here the rule follows ``tokenizer.ggml.pre`` as in llama.cpp.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from intract_lsp.errors import ModelError
from intract_lsp.models.gguf_header import GgufHeader

logger = logging.getLogger(__name__)

BPE = "gpt2"
"""Value of ``tokenizer.ggml.model`` for byte-level BPE."""

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
"""Values of ``tokenizer.ggml.token_type`` (ggml-org/llama.cpp, ``llama_token_type``)."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS_AND_BLANKS = (
    _CONTRACTIONS + r"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ONE_DIGIT = {"type": "Split", "pattern": {"Regex": r"\p{N}"}, "behavior": "Isolated", "invert": False}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_GPT2 = [_byte_level(use_regex=True)]
_DIGITS_THEN_GPT2 = [_ONE_DIGIT, *_GPT2]
_QWEN2 = [_split(_WORDS_AND_BLANKS.format(digits=r"\p{N}")), _byte_level(use_regex=False)]
_LLAMA3 = [_split(_WORDS_AND_BLANKS.format(digits=r"\p{N}{1,3}")), _byte_level(use_regex=False)]
_DEEPSEEK_CODER = [
    _split(r"[\r\n]"),
    _split(r"\s?\p{L}+"),
    _split(r"\s?\p{P}+"),
    _split("[一-龥ࠀ-一가-\ud7ff]+"),
    _ONE_DIGIT,
    _byte_level(use_regex=False),
]

PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": _GPT2,
    "mpt": _GPT2,
    "olmo": _GPT2,
    "phi-2": _GPT2,
    "smollm": _DIGITS_THEN_GPT2,
    "starcoder": _DIGITS_THEN_GPT2,
    "refact": _DIGITS_THEN_GPT2,
    "codeshell": _DIGITS_THEN_GPT2,
    "command-r": _DIGITS_THEN_GPT2,
    "qwen2": _QWEN2,
    "stablelm2": _QWEN2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "deepseek-coder": _DEEPSEEK_CODER,
}
"""Steps that cut text into words before BPE, by ``tokenizer.ggml.pre``."""

_WHOLE_WORDS_FIRST = frozenset({"llama-bpe", "llama3"})
"""Vocabularies in which a word that is a token is taken before any merge is tried."""


def write_tokenizer(header: GgufHeader, directory: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for a byte-level BPE vocabulary.

    Raises ``ModelError`` where the header has no usable vocabulary. An unknown ``tokenizer.ggml.pre`` gets GPT-2's
    rule and a warning in the log, as in llama.cpp.
    """
    from tokenizers import Tokenizer

    document = tokenizer_document(header)
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"The vocabulary in the GGUF file cannot be used ({error}): fetch another file.") from error
    tokens = header.texts("tokenizer.ggml.tokens")
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        number = header.number(f"tokenizer.ggml.{key}_token_id")
        if number is not None and number < len(tokens):
            config[role] = tokens[number]
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def tokenizer_document(header: GgufHeader) -> dict[str, Any]:
    """Return the content of ``tokenizer.json``; raises ``ModelError`` where there is no vocabulary."""
    tokens = header.texts("tokenizer.ggml.tokens")
    merges = header.texts("tokenizer.ggml.merges")
    if not tokens or not merges:
        raise ModelError("The GGUF file has no vocabulary with merges: fetch a complete file.")
    kinds = header.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        kinds = [_NORMAL] * len(tokens)
    pre = header.text("tokenizer.ggml.pre")
    steps = PRE_TOKENIZERS.get(pre)
    if steps is None:
        logger.warning("Unknown pre-tokenizer %r: GPT-2's rule is used, which may cut some words differently.", pre)
        steps = _GPT2
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added_token(number, token, special=kind == _CONTROL)
            for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind in (_CONTROL, _USER_DEFINED)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": _post_processor(header, tokens),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre in _WHOLE_WORDS_FIRST,
            # Unused entries only pad the embedding matrix; as text they must not decode to "[PAD12]".
            "vocab": {
                token: number for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != _UNUSED
            },
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def _added_token(number: int, token: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _post_processor(header: GgufHeader, tokens: list[str]) -> dict[str, Any] | None:
    """Put the begin token before a text where the file asks for it."""
    number = header.number("tokenizer.ggml.bos_token_id")
    if header.metadata.get("tokenizer.ggml.add_bos_token") is not True or number is None or number >= len(tokens):
        return None
    begin = tokens[number]
    first = {"SpecialToken": {"id": begin, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {begin: {"id": begin, "ids": [number], "tokens": [begin]}},
    }
