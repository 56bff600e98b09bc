"""A tokenizer loaded from a model directory: text to ids and back, exactly, without anything added or stripped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from intract_lsp.errors import ModelError

_CONTROL = re.compile(
    r"[|｜]|^<fim_|^</?s>$|^▁<|^<(?:repo_name|file_sep|reponame|filename|bos|eos|pad|unk|(?:start|end)_of_turn)>$|^\[[A-Z_]+\]$"
)
"""Spellings of control tokens. Some models mark them as ordinary added tokens (Qwen), others have ordinary words among
the added tokens (Gemma's HTML tags), so neither flag is enough alone."""

_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")

_HALF = "\N{REPLACEMENT CHARACTER}"
"""What decoders put for bytes that are no whole character."""


class TextTokenizer:
    """Wraps a ``tokenizers`` tokenizer for prompts and for decoding token by token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        self.control_tokens = frozenset(
            token.content for token in added if token.special or _CONTROL.search(token.content)
        )
        self._anchor = self.encode("x")
        self._anchor_length = len(self._tokenizer.decode(self._anchor, skip_special_tokens=False))

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` alone."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def token_id(self, token: str) -> int | None:
        """Return the id of one token of the vocabulary, or ``None``."""
        id_: int | None = self._tokenizer.token_to_id(token)
        return id_

    def token_bytes(self) -> dict[int, bytes]:
        """Return the bytes that each token stands for, control tokens left out.

        Knows the two ways in which vocabularies spell bytes: a character for each (GPT-2's byte-level BPE), or plain
        text with ``▁`` for a space and ``<0xFF>`` for a byte (SentencePiece).
        """
        spell = _byte_level_speller() if _is_byte_level(self._tokenizer) else _sentence_piece_bytes
        control = {self.token_id(token) for token in self.control_tokens}
        vocabulary = self._tokenizer.get_vocab()
        return {id_: spell(token) for token, id_ in vocabulary.items() if id_ not in control}

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text that ``ids`` add to a text before them; a character not yet complete is left out.

        Decoding behind an anchor keeps a leading space, which some decoders drop at a text's start.
        """
        text = self._decoded(ids)
        if not text.endswith(_HALF):
            return text
        # Decoders with byte fallback give up the whole run of bytes before an incomplete character, not it alone.
        texts = [text, *(self._decoded(ids[: len(ids) - missing]) for missing in range(1, min(4, len(ids) + 1)))]
        return max((each.rstrip(_HALF) for each in texts), key=len)

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode([*self._anchor, *ids], skip_special_tokens=False)
        return text[self._anchor_length :]


def load_tokenizer(directory: Path) -> TextTokenizer:
    """Load the tokenizer of a model directory.

    Reads ``tokenizer.json``; where there is only an older form, transformers converts it. Raises ``ModelError``.
    """
    path = directory / "tokenizer.json"
    try:
        if path.is_file():
            return TextTokenizer(Tokenizer.from_str(_without_dummy_space(path.read_text(encoding="utf-8"))))
        from transformers import AutoTokenizer

        converted = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        return TextTokenizer(Tokenizer.from_str(_without_dummy_space(converted.backend_tokenizer.to_str())))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"The tokenizer in {directory} cannot be read ({reason}); pull the model again.") from error


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    if tokenizer.decoder is None:
        return False
    decoder = json.loads(tokenizer.decoder.__getstate__())
    return any(part.get("type") == "ByteLevel" for part in _parts(decoder, "decoders"))


def _byte_level_speller() -> Callable[[str], bytes]:
    """Return the bytes that a token of a byte-level vocabulary stands for.

    Printable characters of Latin-1 stand for themselves, the characters from 256 on for the other bytes in their order
    (Radford et al. 2019). A token with any other character, which someone added, stands for its own text.
    """
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(themselves))
    bytes_of = {byte: byte for byte in themselves} | {256 + number: byte for number, byte in enumerate(others)}
    alphabet = frozenset(map(chr, bytes_of))
    return lambda token: token.translate(bytes_of).encode("latin-1") if alphabet.issuperset(token) else token.encode()


def _sentence_piece_bytes(token: str) -> bytes:
    if len(token) == 6 and (byte := _BYTE_TOKEN.fullmatch(token)) is not None:
        return bytes([int(byte[1], 16)])
    return token.replace("▁", " ").encode()


def _without_dummy_space(source: str) -> str:
    """Remove the space that SentencePiece tokenizers put before a text and strip again when decoding.

    A prompt is encoded in pieces between sentinels: a space before each piece would be text the user did not write.
    """
    if not any(f'"{part}"' in source for part in ("Prepend", "Strip", "Metaspace")):
        return source  # most have nothing of the kind, and parsing a large vocabulary takes a while
    tree: dict[str, Any] = json.loads(source)
    tree["normalizer"] = _drop(tree.get("normalizer"), "normalizers", lambda part: part.get("type") == "Prepend")
    tree["decoder"] = _drop(
        tree.get("decoder"), "decoders", lambda part: part.get("type") == "Strip" and part.get("start", 0) > 0
    )
    for part in _parts(tree.get("pre_tokenizer"), "pretokenizers"):
        if part.get("type") == "Metaspace":
            part["prepend_scheme"] = "never"
            part.pop("add_prefix_space", None)
    return json.dumps(tree, ensure_ascii=False)


def _parts(node: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(node, dict):
        return []
    return list(node.get(key, [])) if node.get("type") == "Sequence" else [node]


def _drop(node: Any, key: str, unwanted: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node.get("type") == "Sequence":
        return {**node, key: [part for part in node.get(key, []) if not unwanted(part)]}
    return None if unwanted(node) else node
