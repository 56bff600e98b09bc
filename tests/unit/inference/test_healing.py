from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import byte_level, sentence_piece

from intract_lsp.inference.healing import Spelling, Vocabulary
from intract_lsp.inference.tokenizer import TextTokenizer

few_bytes = st.sampled_from([0, 97, 98, 0xC3, 0xA9, 0xFE, 0xFF])
byte_texts = st.lists(few_bytes, max_size=5).map(bytes)
vocabularies = st.dictionaries(st.integers(0, 50), byte_texts, max_size=30)


@given(tokens=vocabularies, text=byte_texts.filter(bool))
def test_allowed_are_those_that_spell_the_text_or_its_beginning(tokens: dict[int, bytes], text: bytes) -> None:
    expected = sorted(id_ for id_, spelled in tokens.items() if spelled and _fits(spelled, text))
    assert sorted(Vocabulary(tokens).allowed(text).tolist()) == expected


def _fits(spelled: bytes, text: bytes) -> bool:
    return spelled.startswith(text) or text.startswith(spelled)


@given(extra=vocabularies, text=st.text("ab é😀", max_size=6), seed=st.integers(0, 99))
def test_with_every_byte_any_text_is_spelled(extra: dict[int, bytes], text: str, seed: int) -> None:
    tokens = {100 + byte: bytes([byte]) for byte in range(256)} | extra
    vocabulary = Vocabulary(tokens)
    assert vocabulary.spells(text.encode())
    generator = np.random.default_rng(seed)
    spelling, spelled = Spelling(vocabulary, text), b""
    while not spelling.done:
        logits = generator.random(356, np.float32)
        expected = {id_ for id_, each in tokens.items() if each and _fits(each, text.encode()[len(spelled) :])}
        id_ = spelling.choose(logits)
        assert id_ == max(expected, key=lambda each: float(logits[each]))
        spelled += tokens[id_]
    assert spelled.startswith(text.encode())


def test_afterwards_every_token_may_follow() -> None:
    spelling = Spelling(Vocabulary({0: b"x", 1: b"xy", 2: b"z"}), "x")
    likely = np.array([1.0, 2.0, 3.0], np.float32)
    assert [spelling.choose(likely), spelling.choose(likely)] == [1, 2]
    assert Spelling(Vocabulary({}), "").done


@pytest.mark.parametrize(("text", "spelled"), [("ab", True), ("", True), ("abc", False), ("é", False)])
def test_a_byte_without_a_token_cannot_be_spelled(text: str, spelled: bool) -> None:
    assert Vocabulary({0: b"a", 1: b"b", 2: b"abc"}).spells(text.encode()) is spelled


TOKENIZERS = [TextTokenizer(byte_level()), TextTokenizer(sentence_piece("never"))]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["byte-level", "sentence-piece"])
@given(text=st.text("de f(\t\u00e9\U0001f600<0x41>", min_size=1, max_size=8), seed=st.integers(0, 99))
def test_what_is_spelled_decodes_to_the_text(tokenizer: TextTokenizer, text: str, seed: int) -> None:
    vocabulary = Vocabulary(tokenizer.token_bytes())
    spelling, ids = Spelling(vocabulary, text), list[int]()
    generator = np.random.default_rng(seed)
    while not spelling.done:
        ids.append(spelling.choose(generator.random(400, np.float32)))
        assert text.startswith(tokenizer.decode(ids)) or tokenizer.decode(ids).startswith(text)
    assert tokenizer.decode(ids).startswith(text)
