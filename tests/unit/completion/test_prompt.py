from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intract_lsp.completion.anchor import last_word
from intract_lsp.completion.generation import PromptBudget
from intract_lsp.completion.prompt import (
    FORMATS,
    LEFT_TO_RIGHT,
    Chunk,
    FimFormat,
    Order,
    Prompt,
    PromptSource,
    encode_text,
    end_ids,
    neutral_pieces,
    render,
    resolve_format,
    typed_room,
)

TEXT = 1000
"""Ids from here on are characters, those below are control tokens."""


class Characters:
    """A token a character, and control tokens found wherever they are spelled, as real tokenizers do."""

    def __init__(self, control: Iterable[str]) -> None:
        self.names = sorted({token for token in control if token})
        self.control_tokens = frozenset(self.names)
        self._pattern = re.compile("|".join([*map(re.escape, sorted(self.names, key=len, reverse=True)), "(?s:.)"]))

    def encode(self, text: str) -> list[int]:
        text.encode("utf-8")  # a lone surrogate is an error, as it is for every real tokenizer
        found = self._pattern.findall(text)
        return [self.names.index(piece) if piece in self.control_tokens else TEXT + ord(piece) for piece in found]

    def token_id(self, token: str) -> int | None:
        if token in self.control_tokens:
            return self.names.index(token)
        return TEXT + ord(token) if len(token) == 1 else None

    def draw(self, ids: Iterable[int]) -> str:
        return "".join(f"⟦{self.names[id_]}⟧" if id_ < TEXT else chr(id_ - TEXT) for id_ in ids)

    def text(self, ids: Iterable[int]) -> str:
        return "".join(chr(id_ - TEXT) for id_ in ids if id_ >= TEXT)

    def controls(self, ids: Iterable[int]) -> list[str]:
        return [self.names[id_] for id_ in ids if id_ < TEXT]


def tokens_of(fim: FimFormat) -> list[str]:
    tokens = (*fim.sentinels, *fim.ends, fim.begin, fim.file)
    return [token for token in tokens if token]


def tokenizer_of(fim: FimFormat) -> Characters:
    return Characters(tokens_of(fim))


EVERY_TOKEN = sorted({token for fim in FORMATS.values() for token in tokens_of(fim)})
AMPLE = PromptBudget(1000, 1000, 1000)
FILE = PromptSource("a = 1\nb", "\nc")
WITH_CHUNKS = PromptSource("a = 1\nb", "\nc", "//", (Chunk("x.py", "X\n\n"), Chunk("y.py", "Y")))

FILE_LEVEL = {
    "qwen2.5-coder": "⟦<|fim_prefix|>⟧a = 1\nb⟦<|fim_suffix|>⟧\nc⟦<|fim_middle|>⟧",
    "deepseek-coder": "⟦<｜begin▁of▁sentence｜>⟧⟦<｜fim▁begin｜>⟧a = 1\nb⟦<｜fim▁hole｜>⟧\nc⟦<｜fim▁end｜>⟧",
    "starcoder2": "⟦<fim_prefix>⟧a = 1\nb⟦<fim_suffix>⟧\nc⟦<fim_middle>⟧",
    "codellama": "⟦<s>⟧⟦▁<PRE>⟧a = 1\nb⟦▁<SUF>⟧\nc⟦▁<MID>⟧",
    "codegemma": "⟦<bos>⟧⟦<|fim_prefix|>⟧a = 1\nb⟦<|fim_suffix|>⟧\nc⟦<|fim_middle|>⟧",
    "codestral": "⟦<s>⟧⟦[SUFFIX]⟧\nc⟦[PREFIX]⟧a = 1\nb",
    "granite": "⟦<fim_prefix>⟧a = 1\nb⟦<fim_suffix>⟧\nc⟦<fim_middle>⟧",
    "none": "a = 1\nb",
}

COMMENTED = "// x.py\nX\n\n// y.py\nY\n\n"


@pytest.mark.parametrize("family", FORMATS)
def test_file_level(family: str) -> None:
    tokenizer = tokenizer_of(FORMATS[family])
    prompt = render(FORMATS[family], FILE, AMPLE, tokenizer)
    assert tokenizer.draw(prompt.ids) == FILE_LEVEL[family]
    assert prompt.prefix == FILE.prefix
    assert prompt.suffix == ("" if family == "none" else FILE.suffix)


@pytest.mark.parametrize("family", FORMATS)
@pytest.mark.parametrize("anchored", [False, True])
def test_pieces_of_other_files_stand_before_the_prefix(family: str, anchored: bool) -> None:
    tokenizer = tokenizer_of(FORMATS[family])
    plain = render(FORMATS[family], FILE, AMPLE, tokenizer, anchored=anchored)
    prompt = render(FORMATS[family], WITH_CHUNKS, AMPLE, tokenizer, anchored=anchored)
    assert tokenizer.draw(prompt.ids) == tokenizer.draw(plain.ids).replace("a = 1\n", f"{COMMENTED}a = 1\n")
    assert (prompt.prefix, prompt.suffix) == (plain.prefix, plain.suffix)


@given(room=st.integers(0, 60), lengths=st.lists(st.integers(0, 30), max_size=5))
def test_pieces_are_shown_whole_or_not_at_all(room: int, lengths: list[int]) -> None:
    fim = FORMATS["qwen2.5-coder"]
    tokenizer = tokenizer_of(fim)
    chunks = tuple(Chunk(f"{number}.py", "x" * length) for number, length in enumerate(lengths))
    plain = render(fim, FILE, PromptBudget(50, 50, room), tokenizer)
    prompt = render(fim, replace(FILE, chunks=chunks), PromptBudget(50, 50, room), tokenizer)
    drawn = tokenizer.draw(prompt.ids)
    assert len(prompt.ids) - len(plain.ids) <= room
    left = room
    for chunk in chunks:
        shown = f"# {chunk.path}\n{chunk.text}".rstrip() + "\n\n"
        fits = len(f"# {chunk.path}\n{chunk.text}\n\n") <= left
        assert (f"# {chunk.path}\n" in drawn) is fits
        assert not fits or shown in drawn
        left -= len(f"# {chunk.path}\n{chunk.text}\n\n") if fits else 0


@pytest.mark.parametrize("family", FORMATS)
def test_end_ids(family: str) -> None:
    fim = FORMATS[family]
    tokenizer = Characters([*tokens_of(fim), "<unrelated>"])
    assert {tokenizer.names[id_] for id_ in end_ids(fim, tokenizer)} == set(tokens_of(fim))


def test_end_ids_leave_out_what_the_vocabulary_lacks() -> None:
    assert end_ids(FORMATS["granite"], Characters(["<fim_prefix>"])) == {0}


# Granite and StarCoder2 spell alike; without the catalogue's word for it, either will do.
@pytest.mark.parametrize("family", [name for name in FORMATS if name not in ("none", "granite")])
def test_families_are_recognised_by_their_tokens(family: str) -> None:
    assert resolve_format("", tokenizer_of(FORMATS[family])) == (FORMATS[family], "")


@pytest.mark.parametrize("family", [name for name in FORMATS if name != "none"])
def test_a_missing_sentinel_means_left_to_right_and_a_note(family: str) -> None:
    fim = FORMATS[family]
    assert resolve_format(family, tokenizer_of(fim)) == (fim, "")
    for missing in fim.sentinels:
        tokenizer = Characters(token for token in tokens_of(fim) if token != missing)
        chosen, note = resolve_format(family, tokenizer)
        assert chosen is LEFT_TO_RIGHT
        assert missing in note
        assert family in note
        assert "left to right" in note


def test_a_family_without_infilling_gets_no_note() -> None:
    assert resolve_format("none", Characters([])) == (LEFT_TO_RIGHT, "")


def test_a_vocabulary_without_any_sentinel_gets_a_note() -> None:
    chosen, note = resolve_format("", Characters(["<|endoftext|>"]))
    assert chosen is LEFT_TO_RIGHT
    assert "left to right" in note


# --- text that spells control tokens

user_text = st.lists(
    st.one_of(
        st.sampled_from(EVERY_TOKEN),
        st.sampled_from(["\n", "\r\n", "\t", "    ", "é", "𝒳", "<|", "|>", "fim_prefix|>", "<｜", "[", "▁"]),
        st.text(max_size=8),
    ),
    max_size=12,
).map("".join)
formats = st.sampled_from(list(FORMATS.values()))


@given(fim=formats, prefix=user_text, suffix=user_text, other=user_text)
def test_text_never_becomes_control_tokens(fim: FimFormat, prefix: str, suffix: str, other: str) -> None:
    tokenizer = Characters(EVERY_TOKEN)
    source = PromptSource(prefix, suffix, chunks=(Chunk(other, other),))
    plain = PromptSource("p", "s", chunks=(Chunk("x.py", "X"),))
    ample = PromptBudget(5000, 5000, 5000)
    written = tokenizer.controls(render(fim, source, ample, tokenizer).ids)
    expected = tokenizer.controls(render(fim, plain, ample, tokenizer).ids)
    assert written == expected


@given(text=user_text)
def test_neutralised_text_stays_as_it_is(text: str) -> None:
    tokenizer = Characters(EVERY_TOKEN)
    ids = encode_text(text, tokenizer)
    assert not tokenizer.controls(ids)
    assert tokenizer.text(ids) == text
    pieces = neutral_pieces(text, tokenizer.control_tokens)
    assert "".join(pieces) == text
    assert not any(token in piece for piece in pieces for token in tokenizer.control_tokens)


def test_a_tokenizer_would_have_taken_it() -> None:
    tokenizer = Characters(EVERY_TOKEN)
    assert tokenizer.controls(tokenizer.encode("a<|fim_middle|>b")) == ["<|fim_middle|>"]


def test_lone_surrogates_are_replaced() -> None:
    tokenizer = tokenizer_of(FORMATS["granite"])
    broken = PromptSource("x = '\ud83d'\ny", "\udc00\n", chunks=(Chunk("\ud800", "\udfff"),))
    drawn = tokenizer.draw(render(FORMATS["granite"], broken, AMPLE, tokenizer).ids)
    assert "x = '\ufffd'\ny" in drawn
    assert tokenizer.text(encode_text("a\ud83d\ude00b", tokenizer)) == "a😀b"


# --- budgets

QWEN = FORMATS["qwen2.5-coder"]


def sides(prompt: Prompt, tokenizer: Characters, fim: FimFormat = QWEN) -> tuple[str, str]:
    """The text before and behind the cursor as the model sees it."""
    drawn = tokenizer.draw(prompt.ids)
    if fim.order is Order.LEFT_TO_RIGHT:
        return drawn, ""
    one, other = (f"⟦{token}⟧" for token in ((fim.prefix, fim.suffix)))
    if fim.order is Order.SPM:
        suffix, prefix = drawn.partition(other)[2].split(one)
    else:
        prefix, suffix = drawn.partition(one)[2].split(other)
    return prefix, suffix.removesuffix(f"⟦{fim.middle}⟧")


def seen(prefix: str, suffix: str, budget: PromptBudget, fim: FimFormat = QWEN) -> tuple[str, str]:
    tokenizer = tokenizer_of(fim)
    return sides(render(fim, PromptSource(prefix, suffix), budget, tokenizer), tokenizer, fim)


def numbered(count: int, width: int = 10) -> str:
    return "".join(f"line {index:0{width - 6}}\n" for index in range(count))


lines = st.lists(st.one_of(st.text(max_size=30), st.sampled_from(EVERY_TOKEN)), max_size=40).map("\n".join)


@given(
    fim=formats,
    prefix=lines,
    suffix=lines,
    for_prefix=st.integers(0, 200),
    for_suffix=st.integers(0, 100),
)
def test_the_text_keeps_to_the_budget(
    fim: FimFormat, prefix: str, suffix: str, for_prefix: int, for_suffix: int
) -> None:
    tokenizer = Characters(tokens_of(fim))
    prompt = render(fim, PromptSource(prefix, suffix), PromptBudget(for_prefix, for_suffix), tokenizer)
    assert sum(id_ >= TEXT for id_ in prompt.ids) <= for_prefix + for_suffix
    assert prefix.replace("\r\n", "\n").endswith(prompt.prefix)
    assert suffix.replace("\r\n", "\n").startswith(prompt.suffix)


class Blanks(Characters):
    """Also takes a run of spaces as one token, as real tokenizers do: such a token has many characters."""

    def encode(self, text: str) -> list[int]:
        return super().encode(re.sub(" +", " ", text))


def test_long_runs_of_blanks_keep_to_the_budget_too() -> None:
    tokenizer = Blanks(tokens_of(QWEN))
    prefix = "a" * 220 + " " * 80 + "\n" + " " * 79
    prompt = render(QWEN, PromptSource(prefix, "b" * 50), PromptBudget(10, 10), tokenizer)
    assert sum(id_ >= TEXT for id_ in prompt.ids) == 20


def test_what_the_suffix_leaves_goes_to_the_prefix() -> None:
    prefix, suffix = seen(numbered(30), "\n12345678\n", PromptBudget(100, 100))
    assert suffix == "\n12345678\n"
    assert 150 <= len(prefix) <= 190


def test_what_the_prefix_leaves_goes_to_the_suffix() -> None:
    prefix, suffix = seen("x = 1\ny = ", "\n" + numbered(30), PromptBudget(100, 100))
    assert prefix == "x = 1\ny = "
    assert 180 <= len(suffix) <= 190


def test_each_side_has_its_own_share_where_both_are_long() -> None:
    prefix, suffix = seen(numbered(50) + "end", "\n" + numbered(50), PromptBudget(120, 60))
    assert 80 <= len(prefix) <= 120
    assert 51 <= len(suffix) <= 60


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_both_sides_are_cut_at_line_ends(end: str) -> None:
    text = numbered(60).replace("\n", end)
    prefix, suffix = seen(text + "here", end + text, PromptBudget(203, 101))
    assert prefix.startswith("line 0")
    assert prefix.endswith("here")
    shown = end.replace("\r\n", "\n")
    assert suffix.startswith(f"{shown}line 0000{shown}")
    assert suffix.endswith(shown)


def test_a_cut_line_has_no_more_than_the_budget() -> None:
    prefix, suffix = seen("x" * 50 + "y" * 20, "z" * 100, PromptBudget(20, 10))
    assert prefix == "y" * 20
    assert suffix == "z" * 10


def test_a_long_line_above_is_left_out() -> None:
    prefix, _ = seen("x" * 500 + "\nshort\nend", "", PromptBudget(100, 0))
    assert prefix == "short\nend"


@pytest.mark.parametrize("family", FORMATS)
def test_empty_sides(family: str) -> None:
    assert seen("", "", PromptBudget(10, 10), FORMATS[family]) == ("", "")
    assert seen("ab", "", PromptBudget(10, 10), FORMATS[family]) == ("ab", "")
    assert seen("ab", "cd", PromptBudget(0, 0), FORMATS[family]) == ("", "")


def test_left_to_right_has_the_whole_budget() -> None:
    prefix, _ = seen(numbered(50), "\nbehind", PromptBudget(100, 100), LEFT_TO_RIGHT)
    assert 150 <= len(prefix) <= 200


@pytest.mark.parametrize("budget", [200, 400, 1000])
def test_the_window_stays_while_lines_are_typed(budget: int) -> None:
    starts = []
    typed = numbered(200)
    for index in range(16):
        for character in f"more {index:04}\n":
            typed += character
            starts.append(len(typed) - len(seen(typed, "", PromptBudget(budget, 0))[0]))
    assert starts == sorted(starts)
    assert len(set(starts)) <= 1 + 16 // (budget // 10 // 8)


def test_training_renders_what_serving_renders() -> None:
    """The same text and budget give the same ids, whatever was rendered before."""
    tokenizer = tokenizer_of(QWEN)
    source = PromptSource(numbered(40) + "x", numbered(10))
    budget = PromptBudget(120, 40)
    first = render(QWEN, source, budget, tokenizer)
    render(QWEN, WITH_CHUNKS, budget, tokenizer)
    assert render(QWEN, source, budget, tokenizer_of(QWEN)) == first


# --- anchored at the cursor's line

PSM = [name for name in FORMATS if FORMATS[name].order is Order.PSM]


@pytest.mark.parametrize("family", FORMATS)
def test_the_text_is_split_where_the_cursor_s_line_begins(family: str) -> None:
    fim = FORMATS[family]
    tokenizer = tokenizer_of(fim)
    source = PromptSource("a = 1\n    b = foo(c", ")\nd")
    exact = render(fim, source, AMPLE, tokenizer)
    prompt = render(fim, source, AMPLE, tokenizer, anchored=True)
    assert prompt.prefix == source.prefix
    if family in PSM:
        assert sides(prompt, tokenizer, fim)[0] == "a = 1\n    "
        assert tokenizer.draw(prompt.ids).endswith(f")\nd⟦{fim.middle}⟧b = foo")
        assert prompt.heal == "(c"
    else:
        assert prompt == exact


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("blank", ["", "    ", "\t"])
def test_on_a_blank_line_the_anchor_is_the_cursor(end: str, blank: str) -> None:
    tokenizer = tokenizer_of(QWEN)
    source = PromptSource(f"a = 1{end}{blank}", f"{end}b")
    prompt = render(QWEN, source, AMPLE, tokenizer, anchored=True)
    assert prompt == render(QWEN, source, AMPLE, tokenizer)


@given(before=lines, typed=user_text, behind=lines, for_prefix=st.integers(0, 300), for_suffix=st.integers(0, 100))
@example(before="", typed="</s>", behind="", for_prefix=0, for_suffix=4)  # all that is typed is healed
def test_a_keystroke_changes_only_the_end(
    before: str, typed: str, behind: str, for_prefix: int, for_suffix: int
) -> None:
    tokenizer = tokenizer_of(QWEN)
    budget = PromptBudget(for_prefix, for_suffix)
    line = re.split(r"[\r\n]", typed)[0].lstrip()
    middle = tokenizer.token_id(QWEN.middle)
    starts = set()
    for length in range(len(line) + 1):
        source = PromptSource(f"{before}\n  {line[:length]}", behind)
        prompt = render(QWEN, source, budget, tokenizer, anchored=True)
        assert source.prefix.replace("\r\n", "\n").endswith(prompt.prefix)
        assert sum(id_ >= TEXT for id_ in prompt.ids) <= for_prefix + for_suffix + typed_room(budget)
        place = prompt.ids.index(middle) + 1
        if length <= typed_room(budget):
            starts.add(prompt.ids[:place])
            assert tokenizer.draw(prompt.ids[place:]) + prompt.heal == line[:length]
        elif len(prompt.ids) == place and not prompt.heal:
            assert prompt == render(QWEN, source, budget, tokenizer)
    assert len(starts) == 1


def test_a_line_that_is_too_long_is_split_at_the_cursor() -> None:
    tokenizer = tokenizer_of(QWEN)
    budget = PromptBudget(40, 40)
    for words, anchored in ((7, True), (8, False), (700, False)):
        source = PromptSource("a\n" + "b, " * words, "c")
        prompt = render(QWEN, source, budget, tokenizer, anchored=True)
        assert (prompt != render(QWEN, source, budget, tokenizer)) is anchored


def test_broken_characters_on_the_line_are_replaced() -> None:
    tokenizer = tokenizer_of(QWEN)
    for typed, heal in (("x = \ud83d\ude00", " 😀"), ("x = a\ud83d", "\ufffd")):
        assert render(QWEN, PromptSource(typed, ""), AMPLE, tokenizer, anchored=True).heal == heal


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", ""),
        ("retu", "retu"),
        ("    retu", " retu"),
        ("foo(", "("),
        ("foo(ba", "(ba"),
        ("x = ", " "),
        ("x =  ", "  "),
        ("x =  y", " y"),
        ("self._conf", "conf"),
        ("self.", "."),
        ("a_b", "_b"),
        ("f(x) ==", " =="),
        ("x[12", "2"),
        ("it's", "'s"),
        ("größe", "größe"),
        ("# " + "-" * 50, ""),
        ("aGVsbG" * 9, ""),
    ],
)
def test_the_last_word(text: str, word: str) -> None:
    assert last_word(text) == word


@given(text=st.text(max_size=30))
def test_the_last_word_is_the_text_s_end(text: str) -> None:
    word = last_word(text)
    assert text.endswith(word)
    assert bool(word) is bool(text)
