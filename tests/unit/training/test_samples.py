from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_models import write_qwen
from training_projects import QWEN, byte_tokenizer, module, renderer

from intract_lsp.completion.generation import CancelToken, Chunk, Limits, PromptBudget, PromptShape
from intract_lsp.completion.prompt import encode_text
from intract_lsp.index.grammars import Grammars
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.engine import LoadOrder, ModelFiles
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.training.corpus import Piece
from intract_lsp.training.drawing import Drawer, Wanted
from intract_lsp.training.replay import replayed
from intract_lsp.training.sample import Sample, SampleKind
from intract_lsp.training.samples import CONTEXT_PART, Cursor, Renderer, cursor_at

TOKENIZER = byte_tokenizer()
GRAMMARS = Grammars()
TEXT = module("one", 40)
PIECE = Piece("src/one.py", "blob", "python", TEXT)
CHUNKS = (Chunk("src/other.py", "def other():\n    return 1\n"), Chunk("src/third.py", "x = 2"))
END = TOKENIZER.token_id("<|endoftext|>")


def decoded(ids: Sequence[int]) -> str:
    return TOKENIZER.decode(ids)


def prompt_and_answer(sample: Sample) -> tuple[list[int], list[int]]:
    return list(sample.ids[: sample.supervised_from]), list(sample.ids[sample.supervised_from :])


def at(text: str, middle: str, piece: Piece = PIECE) -> Cursor:
    """The cursor before ``middle``, which is what ``text`` ends with; both are in the piece."""
    end = piece.text.index(text) + len(text)
    return cursor_at(piece, end - len(middle), end)


# --- prompts are those that are served


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ModelEngine:
    directory = write_qwen(tmp_path_factory.mktemp("tiny"), vocab_size=300, max_position_embeddings=2048)
    TOKENIZER._tokenizer.save(str(directory / "tokenizer.json"))
    engine = ModelEngine(lambda name, report, token: ModelFiles(name, directory, "qwen2.5-coder"), speculate=False)
    engine.load(LoadOrder("tiny", device="cpu", precision="float32", threads=1), lambda *_: None, CancelToken())
    return engine


def fed(engine: ModelEngine, cursor: Cursor, budget: PromptBudget, chunks: tuple[Chunk, ...]) -> list[int]:
    """Return the tokens that a completion at a cursor makes the engine compute."""
    ids: list[int] = []
    forward = LeanDecoder.forward

    def record(self: LeanDecoder, sequence: Any, given: Sequence[int], *others: Any, **named: Any) -> Any:
        ids.extend(given)
        return forward(self, sequence, given, *others, **named)

    context = cursor.context()
    assert context is not None
    engine.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LeanDecoder, "forward", record)
        limits = Limits(1, 1e12, lambda text: None)
        shape = PromptShape(budget)
        engine.generate(replace(context, chunks=chunks), shape, limits, CancelToken(), lambda text: None)
    return ids


PLACES = [
    ("    total_3 = delta", "delta"),  # behind a blank
    ("    total_3 = delta * 6", "ta * 6"),
    ("    total_3", "total_3"),  # where the line's code begins
    ("def one_7(theta: int, gamma_7: str) -> str:", "str:"),
    ("        return os.path", "os.path"),
    ("    if total_4 > 44:\n        return os", "if total_4 > 44:\n        return os"),
    ("import os", ""),
]


@pytest.mark.parametrize("chunks", [(), CHUNKS])
@pytest.mark.parametrize(("around", "share"), [(64, 0.8), (256, 0.7), (900, 0.9)])
def test_the_prompt_is_what_the_engine_feeds_its_network(
    engine: ModelEngine, around: int, share: float, chunks: tuple[Chunk, ...]
) -> None:
    own = renderer(2000)
    for end, (text, middle) in enumerate(PLACES):
        cursor = at(text, middle)
        sample = own.hole(cursor, SampleKind.LINE, around, share, chunks)
        assert sample is not None and sample.with_context == bool(chunks)
        before = int(around * share)
        budget = PromptBudget(before, around - before, own.context_tokens if chunks else 1)
        prompt, answer = prompt_and_answer(sample)
        assert prompt == fed(engine, cursor, budget, chunks), end
        assert answer[-1] == END


def test_windows_of_large_documents_are_those_of_the_server(engine: ModelEngine) -> None:
    piece = Piece("big.py", "blob", "python", module("big", 500))
    assert len(piece.text) > 100_000
    cursor = at("    total_401 = beta * 404", "404", piece)
    assert len(cursor.prefix) < len(piece.text) / 2
    sample = renderer(2000).hole(cursor, SampleKind.LINE, 1024, 0.8)
    assert sample is not None
    prompt, _ = prompt_and_answer(sample)
    assert prompt == fed(engine, cursor, PromptBudget(819, 205), ())


def test_the_answer_is_the_word_the_middle_and_the_end() -> None:
    sample = renderer().hole(at("    total_3 = delta * 6", "ta * 6"), SampleKind.TYPED, 200, 0.8)
    assert sample is not None
    prompt, answer = prompt_and_answer(sample)
    middle_sentinel = TOKENIZER.token_id("<|fim_middle|>")
    assert middle_sentinel is not None
    # What was typed on the line begins the middle, but for its last word, which the answer has to spell.
    assert decoded(prompt[prompt.index(middle_sentinel) + 1 :]) == "total_3 ="
    assert answer == [*encode_text(" delta * 6", TOKENIZER), END]
    empty = renderer().hole(at("import os", ""), SampleKind.EMPTY, 200, 0.8)
    assert empty is not None
    assert prompt_and_answer(empty)[1] == [*encode_text(" os", TOKENIZER), END]


def test_a_word_that_no_tokens_can_spell_stays_in_the_prompt() -> None:
    own = Renderer(QWEN, TOKENIZER, lambda text: not text, 512)
    sample = own.hole(at("    total_3 = delta * 6", "ta * 6"), SampleKind.TYPED, 200, 0.8)
    assert sample is not None
    prompt, answer = prompt_and_answer(sample)
    assert decoded(prompt).endswith("total_3 = del") and decoded(answer[:-1]) == "ta * 6"


def test_without_infilling_the_text_goes_on() -> None:
    own = renderer(family="none")
    sample = own.hole(at("    total_3 = delta * 6", "delta * 6"), SampleKind.LINE, 200, 0.8)
    assert sample is not None
    prompt, answer = prompt_and_answer(sample)
    assert decoded(answer) == "delta * 6"
    assert decoded(prompt).endswith("    total_3 = ")
    whole_line = own.hole(at("    total_3 = delta * 6 + len(omega_3)", "len(omega_3)"), SampleKind.LINE, 200, 0.8)
    assert whole_line is not None
    assert decoded(prompt_and_answer(whole_line)[1]) == "len(omega_3)\n"
    assert own.hole(at("import os", ""), SampleKind.EMPTY, 200, 0.8) is None


@given(
    st.integers(0, len(TEXT)),
    st.integers(0, 300),
    st.sampled_from([128, 256, 512, 1024]),
    st.floats(0.7, 0.9),
    st.booleans(),
)
@settings(max_examples=80)
def test_no_sample_is_too_long_and_its_sentinels_are_whole(
    start: int, length: int, around: int, share: float, with_chunks: bool
) -> None:
    own = renderer(256)
    cursor = cursor_at(PIECE, start, min(len(TEXT), start + length))
    sample = own.hole(cursor, SampleKind.RANDOM, around, share, CHUNKS if with_chunks else ())
    if sample is None:
        return
    assert len(sample.ids) <= 256
    for sentinel in QWEN.sentinels:
        assert sample.ids.count(TOKENIZER.token_id(sentinel) or -1) == 1
    prompt, answer = prompt_and_answer(sample)
    assert answer and answer[-1] == END
    # What is typed, healed and missing is the text from the anchor on.
    shown = decoded(prompt[prompt.index(TOKENIZER.token_id("<|fim_middle|>") or -1) + 1 :]) + decoded(answer[:-1])
    assert (cursor.prefix + cursor.middle).endswith(shown)


def test_a_hole_that_leaves_no_room_gives_no_sample() -> None:
    own = renderer(128)
    assert own.hole(cursor_at(PIECE, 100, 400), SampleKind.RANDOM, 128, 0.8) is None
    assert own.hole(at("total_3", "tal_3"), SampleKind.LINE, 128, 0.8) is not None
    # The cursor inside of a word, text behind it: serving is never asked there.
    assert (
        own.hole(cursor_at(PIECE, TEXT.index("total_3") + 2, TEXT.index("total_3") + 4), SampleKind.RANDOM, 128, 0.8)
        is None
    )


def test_text_is_supervised_from_its_second_token_below_its_path() -> None:
    own = renderer(64)
    sample = own.text(PIECE, 4)
    assert sample is not None
    assert sample.supervised_from == 1 and len(sample.ids) == 64 and END not in sample.ids
    expected = "# src/one.py\n" + TEXT[PIECE.starts[4] :]
    assert expected.startswith(decoded(sample.ids))


def test_control_tokens_in_a_text_stay_text() -> None:
    piece = Piece("a.py", "blob", "python", 'import re\nSTOP = "<|endoftext|>"\nother = "<|fim_middle|>"\n')
    sample = renderer().hole(at('STOP = "<|endoftext|>"', '"<|endoftext|>"', piece), SampleKind.LINE, 128, 0.8)
    assert sample is not None
    assert sample.ids.count(END or -1) == 1 and sample.ids[-1] == END
    text = renderer().text(piece, 0)
    assert text is not None and END not in text.ids


# --- what is drawn


def drawer(seed: str = "0", **changes: Any) -> Drawer:
    pieces = [PIECE, Piece("src/two.py", "other", "python", module("two", 40))]
    return Drawer(pieces, renderer(changes.pop("context_length", 512)), GRAMMARS, seed, **changes)


WANTED = Wanted(holes=80, text_share=0.25, context_share=0.5, context_length=512)


def test_the_same_seed_draws_the_same_samples() -> None:
    first, again = drawer().draw(WANTED), drawer().draw(WANTED)
    assert first == again
    assert drawer("1").draw(WANTED) != first
    holes = [sample for sample in first if sample.kind is not SampleKind.TEXT]
    # Where no hole of a kind is found for long, there is one less.
    assert 75 < len(set(holes)) == len(holes) <= 80
    assert max(len(sample.ids) for sample in first) <= 512
    kinds = [sample.kind for sample in holes]
    assert 0.3 < kinds.count(SampleKind.LINE) / 80 < 0.6 and 0.15 < kinds.count(SampleKind.BLOCK) / 80 < 0.45
    assert {sample.blob for sample in first} == {"blob", "other"}
    # Both kinds come mixed.
    assert {sample.kind is SampleKind.TEXT for sample in first[:40]} == {True, False}


def test_the_share_of_text_is_one_of_tokens() -> None:
    samples = drawer(context_length=128).draw(replace(WANTED, context_length=128))
    tokens = {kind: sum(len(s.ids) for s in samples if (s.kind is SampleKind.TEXT) is kind) for kind in (True, False)}
    assert tokens[True] / sum(tokens.values()) == pytest.approx(0.25, abs=0.04)
    alone = drawer().draw(Wanted(holes=0, text_share=1.0, context_share=0.5, context_length=512, texts=7))
    assert [sample.kind for sample in alone] == [SampleKind.TEXT] * 7
    assert all(s.kind is not SampleKind.TEXT for s in drawer().draw(replace(WANTED, text_share=0.0)))


def test_most_samples_with_other_files_show_what_was_retrieved() -> None:
    asked: list[tuple[str, str, str, str, int]] = []

    def retrieve(path: str, language: str, above: str, below: str, tokens: int) -> tuple[Chunk, ...]:
        asked.append((path, language, above, below, tokens))
        return (Chunk("lib/found.py", "found = 1"), Chunk(path, "own = 1"), Chunk("lib/twin.py", "twin = 1"))

    twins = {"src/one.py": {"lib/twin.py"}, "src/two.py": {"lib/twin.py"}}
    samples = drawer(retrieve=retrieve, twins=twins).draw(replace(WANTED, text_share=0.0))
    shown = [sample for sample in samples if sample.with_context]
    assert 0.35 < len(shown) / 80 < 0.65
    texts = [decoded(sample.ids) for sample in shown]
    retrieved = [text for text in texts if "# lib/found.py\nfound = 1\n" in text]
    assert 0.6 < len(retrieved) / len(shown) < 0.95
    assert not any("own = 1" in text or "twin = 1" in text for text in texts)
    own = {"src/one.py": TEXT, "src/two.py": module("two", 40)}
    for path, language, above, below, tokens in asked:
        assert language == "python" and tokens == int(512 * CONTEXT_PART)
        assert own[path].startswith(above) and own[path].endswith(below)
        assert above == "" or above.endswith("\n")
        assert below == "" or below.startswith("\n")


def test_lines_changed_lately_get_a_share_of_the_holes() -> None:
    recent = {"src/two.py": dict.fromkeys(range(10, 60), 1.0)}
    own = Piece("src/two.py", "other", "python", module("two", 40))
    changed = "\n".join(own.lines[10:60])
    samples = drawer(recent=recent).draw(replace(WANTED, text_share=0.0, context_share=0.0))
    inside = sum(sample.path == "src/two.py" and _last_line(sample) in changed for sample in samples)
    # A file's 50 of some 490 lines; blocks may begin before them.
    assert 0.4 < inside / len(samples) < 0.75
    none = drawer().draw(replace(WANTED, text_share=0.0, context_share=0.0))
    assert sum(s.path == "src/two.py" and _last_line(s) in changed for s in none) / len(none) < 0.25


def test_texts_with_lines_changed_lately_come_rather_first() -> None:
    pieces = [Piece(f"{number}.py", "blob", "python", module(f"m{number}", 8)) for number in range(40)]
    recent = {"7.py": {5: 1.0, 6: 0.5}, "9.py": {5: 0.5}}
    wanted = Wanted(holes=0, text_share=1.0, context_share=0.0, context_length=512, texts=10)
    first: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for seed in range(300):
        made = Drawer(pieces, renderer(512), GRAMMARS, str(seed), recent).draw(replace(wanted, texts=1))
        first[made[0].path] += 1
        drawn = Drawer(pieces, renderer(512), GRAMMARS, str(seed), recent).draw(wanted)
        among.update(sample.path for sample in drawn)
        assert len({sample.ids for sample in drawn}) == 10
    # Half of the draws go by the weights, 3 to 1 here.
    assert 0.28 < first["7.py"] / 300 < 0.47 and 0.07 < first["9.py"] / 300 < 0.19
    assert max(first[path] for path in first if path not in recent) < 15
    assert among["7.py"] / 300 > 0.95


def _last_line(sample: Sample) -> str:
    return decoded(prompt_and_answer(sample)[1][:-1]).split("\n")[-1].strip()


def test_replayed_samples_are_of_the_standard_library_and_of_no_file(tmp_path: Path) -> None:
    wanted = Wanted(holes=12, text_share=0.25, context_share=0.0, context_length=128)
    samples = replayed(wanted, renderer(128), GRAMMARS, "0")
    assert samples == replayed(wanted, renderer(128), GRAMMARS, "0")
    assert len(samples) >= 12 and {(s.path, s.blob, s.with_context) for s in samples} == {("", "", False)}
    (tmp_path / "argparse.py").write_text(TEXT)
    assert replayed(wanted, renderer(128), GRAMMARS, "0", tmp_path) == []
    (tmp_path / "other.py").write_text(TEXT)
    assert len(replayed(wanted, renderer(128), GRAMMARS, "0", tmp_path)) >= 12
