"""Which chunks are chosen for a prompt, and in which order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.index.ranking import CHUNK_TOKENS, Candidate, Ranked, Selection, Source, select

WORDS = ["parse", "header", "token", "value", "write", "close", "stream", "buffer"]


def count_words(text: str) -> int:
    return len(text.split())


def candidate(
    text: str, score: float = 1.0, path: str = "a.py", line: int = 0, source: Source = Source.SEARCH
) -> Candidate:
    return Candidate(path, text, line, source, score)


def texts(chosen: tuple[Ranked, ...]) -> list[str]:
    return [ranked.candidate.text for ranked in chosen]


def places(chosen: tuple[Ranked, ...]) -> list[tuple[str, int, str]]:
    return [(ranked.candidate.path, ranked.candidate.start_line, ranked.candidate.text) for ranked in chosen]


def test_nothing_gives_nothing() -> None:
    assert select([], [], count_words, Selection(tokens=100)) == ()


def test_the_best_stands_last() -> None:
    found = [candidate("def low(): ...", 1.0), candidate("def high(): ...", 3.0), candidate("def middle(): ...", 2.0)]
    chosen = select(found, [], count_words, Selection(tokens=100))
    assert texts(chosen) == ["def low(): ...", "def middle(): ...", "def high(): ..."]


def test_what_two_sources_propose_is_fused() -> None:
    found = [
        candidate("def first(): ...", 9.0),
        candidate("def both(): ...", 8.0),
        candidate("def both(): ...", 0.5, source=Source.SYMBOLS),
    ]
    chosen = select(found, [], count_words, Selection(tokens=100, most=1))
    assert texts(chosen) == ["def both(): ..."]
    assert chosen[0].sources == (Source.SYMBOLS, Source.SEARCH)


def test_one_source_proposing_twice_counts_once() -> None:
    found = [candidate("def twice(): ...", 1.0), candidate("def twice(): ...", 1.0), candidate("def best(): ...", 2.0)]
    assert texts(select(found, [], count_words, Selection(tokens=100, most=1))) == ["def best(): ..."]


def test_scores_below_zero_rank_as_others_do() -> None:
    found = [
        candidate("def near(): ...", 0.0, source=Source.SYMBOLS),
        candidate("def far(): ...", -3.0, source=Source.SYMBOLS),
    ]
    assert texts(select(found, [], count_words, Selection(tokens=100))) == ["def far(): ...", "def near(): ..."]


def test_what_the_prompt_shows_anyway_is_left_out() -> None:
    shown = ["    def parse(self):", "        return self.value", "x = 1"]
    copy = "def parse(self):\n    return self.value"
    other = "def parse(self):\n    token = self.next()\n    return token"
    found = [candidate(copy, 2.0), candidate(other, 1.0, line=40)]
    assert texts(select(found, shown, count_words, Selection(tokens=100))) == [other]


def test_of_two_that_tell_the_same_the_better_one_stays() -> None:
    one = "def parse(text):\n    token = next(text)\n    return token"
    other = "def parse(text):\n    token = next(text)\n    log(token)"
    found = [candidate(one, 1.0, "a.py"), candidate(other, 2.0, "b.py")]
    assert texts(select(found, [], count_words, Selection(tokens=100))) == [other]


def test_brackets_and_blanks_are_not_likeness() -> None:
    one, other = "first = {\n}\n)\n\n", "second = {\n}\n)\n\n"
    found = [candidate(one, 1.0, "a.py"), candidate(other, 2.0, "b.py")]
    assert len(select(found, ["}", ")", ""], count_words, Selection(tokens=100))) == 2
    assert select([candidate("}\n)\n")], [], count_words, Selection(tokens=100)) == ()


def test_what_does_not_fit_makes_room_for_what_does() -> None:
    found = [candidate("def long(): " + "word " * 50, 2.0), candidate("def short(): ...", 1.0)]
    chosen = select(found, [], count_words, Selection(tokens=20))
    assert texts(chosen) == ["def short(): ..."]
    assert chosen[0].tokens == count_words("a.py\ndef short(): ...") + CHUNK_TOKENS


def test_what_stays_keeps_its_place_and_stands_before_what_is_new() -> None:
    first, second, third = candidate("alpha = 1", 3.0), candidate("beta = 2", 1.0), candidate("gamma = 3", 2.0)
    chosen = select([first, second, third], [], count_words, Selection(tokens=100), present=[first, second])
    assert texts(chosen) == ["alpha = 1", "beta = 2", "gamma = 3"]


def test_a_little_better_does_not_take_the_place_of_what_is_there() -> None:
    held = candidate("alpha = 1", 1.0)
    better = candidate("beta = 2", 2.0)
    selection = Selection(tokens=100, most=1)
    assert texts(select([held, better], [], count_words, selection)) == ["beta = 2"]
    assert texts(select([held, better], [], count_words, selection, present=[held])) == ["alpha = 1"]
    many = [candidate(f"name_{n} = {n}", 2.0 + n) for n in range(9)]
    assert texts(select([held, *many], [], count_words, selection, present=[held])) == ["name_8 = 8"]


def test_what_is_no_longer_proposed_goes() -> None:
    gone, found = candidate("alpha = 1"), candidate("beta = 2")
    assert texts(select([found], [], count_words, Selection(tokens=100), present=[gone, found])) == ["beta = 2"]


def test_a_window_that_moved_a_little_stays_where_it_was() -> None:
    file = [f"statement_{n}()" for n in range(20)]
    window = [candidate("\n".join(file[n : n + 8]), 1.0, line=n) for n in range(8)]
    selection = Selection(tokens=100)
    for moved, expected in ((3, 0), (4, 4)):
        chosen = select([window[moved]], [], count_words, selection, present=[window[0]])
        assert [ranked.candidate.start_line for ranked in chosen] == [expected]


def test_a_window_whose_lines_have_changed_does_not_stay() -> None:
    before = candidate("one()\ntwo()\nthree()\nfour()")
    after = candidate("one()\ntwo()\nchanged()\nfour()")
    assert texts(select([after], [], count_words, Selection(tokens=100), present=[before])) == [after.text]


lines = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
candidates = st.lists(
    st.builds(
        Candidate,
        path=st.sampled_from(["a.py", "b.py", "straße/ж.py"]),
        text=st.lists(lines, max_size=5).map("\n".join),
        start_line=st.integers(0, 3),
        source=st.sampled_from(Source),
        score=st.floats(0, 100, allow_nan=False),
    ),
    max_size=14,
)
selections = st.builds(Selection, tokens=st.integers(0, 80), most=st.integers(0, 5))


FILE = [f"{one} {other}" for one in WORDS for other in WORDS]
windows = st.builds(
    lambda start, size, score, source: candidate("\n".join(FILE[start : start + size]), score, "f.py", start, source),
    st.integers(0, 12),
    st.integers(1, 8),
    st.floats(0, 100),
    st.sampled_from(Source),
)


@given(st.one_of(candidates, st.lists(windows, max_size=14)), selections, st.lists(lines, max_size=4), st.integers())
def test_laws(found: list[Candidate], selection: Selection, shown: list[str], seed: int) -> None:
    chosen = select(found, shown, count_words, selection)
    assert len(chosen) <= selection.most
    assert sum(ranked.tokens for ranked in chosen) <= selection.tokens
    keys = places(chosen)
    assert len(set(keys)) == len(keys)
    assert all(ranked.candidate in found for ranked in chosen)
    shuffled = list(found)
    random.Random(seed).shuffle(shuffled)
    assert select(shuffled, shown, count_words, selection) == chosen
    present = [ranked.candidate for ranked in chosen]
    assert places(select(found, shown, count_words, selection, present)) == keys
