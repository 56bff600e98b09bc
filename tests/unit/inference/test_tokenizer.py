from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import FIM, byte_level, sentence_piece
from tokenizers import AddedToken, Tokenizer

from intract_lsp.completion.prompt import FORMATS, encode_text
from intract_lsp.errors import ModelError
from intract_lsp.inference.tokenizer import TextTokenizer, load_tokenizer

KINDS = ("byte-level", "prepend", "first", "always")


def saved(tokenizer: Tokenizer, directory: Path) -> TextTokenizer:
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return load_tokenizer(directory)


def make(kind: str) -> Tokenizer:
    return byte_level() if kind == "byte-level" else sentence_piece(kind)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextTokenizer]:
    return {kind: saved(make(kind), tmp_path_factory.mktemp(kind)) for kind in KINDS}


def test_the_fixtures_do_add_a_dummy_space() -> None:
    """Else the tests below would show nothing."""
    for kind in KINDS[1:]:
        assert make(kind).encode("a", add_special_tokens=False).tokens == ["▁", "a"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["a", " a", "  a", "a b", "\n    return x", "", " ", "def f():\n", "größe = '😀'"])
def test_pieces_are_encoded_as_they_are(loaded: dict[str, TextTokenizer], kind: str, text: str) -> None:
    tokenizer = loaded[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert [*ids, *tokenizer.encode("\n" + text)] == [*ids, *tokenizer.encode("\n"), *ids]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=30).filter(lambda text: "\N{REPLACEMENT CHARACTER}" not in text and "▁" not in text))
def test_decoding_token_by_token(loaded: dict[str, TextTokenizer], kind: str, text: str) -> None:
    """What is shown only ever grows, and half a character is not shown."""
    tokenizer = loaded[kind]
    ids = encode_text(text, tokenizer)
    shown = ""
    for end in range(len(ids) + 1):
        now = tokenizer.decode(ids[:end])
        assert "\N{REPLACEMENT CHARACTER}" not in now
        assert now.startswith(shown)
        shown = now
    assert shown == text


@pytest.mark.parametrize("kind", KINDS)
def test_token_bytes(loaded: dict[str, TextTokenizer], kind: str) -> None:
    tokenizer = loaded[kind]
    texts = tokenizer.token_bytes()
    assert {bytes([byte]) for byte in range(256)} <= set(texts.values())
    for control in tokenizer.control_tokens:
        assert tokenizer.token_id(control) not in texts
    # What a control token is spelled like may be spelled, by other tokens.
    for text in ("def f():\n\t  return 'größe 😀'", "<0x41>", " <|fim_middle|>", "</s>"):
        assert b"".join(texts[id_] for id_ in encode_text(text, tokenizer)) == text.encode()


@pytest.mark.parametrize("kind", KINDS)
def test_added_tokens_have_the_bytes_that_they_decode_to(tmp_path: Path, kind: str) -> None:
    tokenizer = make(kind)
    words = ["<table>", "\n\n", "\u2581\u2581\u2581", "a b\t", "\u0120x\u00c3\u00a9"]
    tokenizer.add_tokens([AddedToken(word, special=False) for word in words])
    loaded = saved(tokenizer, tmp_path)
    texts = loaded.token_bytes()
    for word in words:
        id_ = loaded.token_id(word)
        assert id_ is not None
        assert texts[id_].decode() == loaded.decode([id_])


@pytest.mark.parametrize("kind", KINDS)
def test_an_emoji_comes_whole(loaded: dict[str, TextTokenizer], kind: str) -> None:
    ids = loaded[kind].encode("😀")
    assert len(ids) == 4
    assert [loaded[kind].decode(ids[:end]) for end in range(5)] == ["", "", "", "", "😀"]


@pytest.mark.parametrize("special", [True, False])
def test_control_tokens_however_they_are_marked(tmp_path: Path, special: bool) -> None:
    tokenizer = byte_level(special=special)
    tokenizer.add_tokens([AddedToken("<table>", special=False), AddedToken("\t\t", special=False)])
    loaded = saved(tokenizer, tmp_path)
    assert loaded.control_tokens == set(FIM)
    assert loaded.token_id("<|fim_prefix|>") is not None
    assert loaded.token_id("<|fim_hole|>") is None


@pytest.mark.parametrize("family", [name for name in FORMATS if name != "none"])
def test_every_format_s_tokens_count_as_control_tokens(tmp_path: Path, family: str) -> None:
    fim = FORMATS[family]
    tokens = {token for token in (*fim.sentinels, *fim.ends, fim.begin, fim.file) if token}
    assert saved(byte_level(sorted(tokens), special=False), tmp_path).control_tokens == tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["a<|fim_middle|>b", "a ▁<PRE> </s>", "<s><s>", "x = '<|endoftext|>'", "a <PRE>b"])
def test_spelled_control_tokens_stay_text(loaded: dict[str, TextTokenizer], kind: str, text: str) -> None:
    tokenizer = loaded[kind]
    control = {tokenizer.token_id(token) for token in tokenizer.control_tokens}
    ids = encode_text(text, tokenizer)
    assert not control & set(ids)
    assert tokenizer.decode(ids) == (text if kind == "byte-level" else text.replace("▁", " "))


def test_the_older_form_is_converted(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert load_tokenizer(tmp_path).decode(load_tokenizer(tmp_path).encode("def f")) == "def f"


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"model": {"type": "Strange"}}'])
def test_a_broken_tokenizer_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).endswith("pull the model again.")
    assert "\n" not in str(caught.value)
