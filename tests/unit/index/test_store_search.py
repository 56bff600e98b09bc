"""Terms, postings and the corpus: what is found, compared with BM25 written down plainly."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.index.bm25 import K1, TYPICAL_LENGTH, B
from intract_lsp.index.chunk import ChunkKind, SourceChunk
from intract_lsp.index.corpus import Corpus, Part, StoredFile
from intract_lsp.index.rows import FileChunks, part_of_batches, record_batch
from intract_lsp.index.terms import COMMON_WORDS, LONGEST_TERM, code_terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("parseHTTPHeader_v2", "parsehttpheader_v2 parse http header"),
        ("snake_case_name", "snake_case_name snake name"),
        ("getURL", "geturl get url"),
        ("SHA256", "sha256 sha"),
        ("MAX_SIZE = 1024", "max_size max size"),
        ("__init__", "init"),
        ("_hidden", "hidden"),
        ("x + y1", "y1"),
        ("for item in items: return item", "item items item"),
        ("größeNeu ŸvesÉtat", "größeneu größe neu ÿvesétat ÿves état"),
        ("変数名", "変数名"),
        ("a" * (LONGEST_TERM + 1), ""),
        ("12 0xff 'it''s'", "it"),
        ("", ""),
    ],
)
def test_code_terms(text: str, terms: str) -> None:
    assert code_terms(text) == terms.split()


@given(st.text())
def test_terms_are_lower_case_words_worth_looking_up(text: str) -> None:
    for term in code_terms(text):
        assert len(term) > 1
        assert term not in COMMON_WORDS
        assert not any(letter.isspace() for letter in term)
        assert term == term.lower()


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta_theta", "iotaKappa"]


def chunk(path: str, line: int, text: str) -> SourceChunk:
    return SourceChunk(path, line, line + 1, ChunkKind.CODE, "python", "", text)


def part(files: dict[str, list[str]]) -> tuple[Part | None, dict[str, StoredFile]]:
    contents = {
        path: FileChunks("h", [chunk(path, line, text) for line, text in enumerate(texts)])
        for path, texts in files.items()
    }
    return part_of_batches([record_batch(contents)])


def corpus_of(*steps: dict[str, list[str]]) -> Corpus:
    corpus = Corpus()
    for files in steps:
        corpus.replace(files.keys(), *part(files))
    return corpus


def plain_bm25(files: dict[str, list[str]], query: dict[str, float]) -> dict[tuple[str, int], float]:
    counted = {
        (path, line): Counter(code_terms(path) + code_terms(text))
        for path, texts in files.items()
        for line, text in enumerate(texts)
    }
    scores = {}
    for key, counts in counted.items():
        score = 0.0
        for term, weight in query.items():
            containing = sum(term in other for other in counted.values())
            rarity = math.log(1 + (len(counted) - containing + 0.5) / (containing + 0.5))
            norm = K1 * (1 - B + B * sum(counts.values()) / TYPICAL_LENGTH)
            score += weight * rarity * counts[term] * (K1 + 1) / (counts[term] + norm) if counts[term] else 0.0
        if score:
            scores[key] = score
    return scores


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=4)
trees = st.dictionaries(st.sampled_from(["a.py", "b.py", "src/c.go", "d.rs", "e.py"]), texts, max_size=5)


@given(st.lists(trees, min_size=1, max_size=6), st.sets(st.sampled_from(["alpha", "beta", "theta", "src", "none"])))
def test_scores_are_those_of_bm25_whatever_the_order_of_changes(
    steps: list[dict[str, list[str]]], query: set[str]
) -> None:
    final: dict[str, list[str]] = {}
    for step in steps:
        final.update(step)
    # Written in one step, so that no row was ever replaced.
    whole, stepwise = corpus_of(final), corpus_of(*steps)
    weights = dict.fromkeys(sorted(query), 1.0)
    expected = plain_bm25(final, weights)
    found = {(hit.chunk.path, hit.chunk.start_line): hit.score for hit in whole.search(weights, 100)}
    assert found.keys() == expected.keys()
    for key, score in found.items():
        assert score == pytest.approx(expected[key], rel=0.02, abs=0.01)
    assert {(hit.chunk.path, hit.chunk.text) for hit in stepwise.search(weights, 100)} == {
        (path, final[path][line]) for path, line in expected
    }
    assert stepwise.chunk_count == whole.chunk_count == sum(map(len, final.values()))
    assert {path: file.chunks for path, file in stepwise.files.items()} == {
        path: len(lines) for path, lines in final.items() if lines
    }
    for path, lines in final.items():
        assert [found.text for found in stepwise.chunks_of(path)] == lines


def test_the_best_come_first_and_no_more_than_asked_for() -> None:
    corpus = corpus_of({f"{number:03}.py": ["needle " * (number % 7) + "hay stack"] for number in range(300)})
    hits = corpus.search({"needle": 1.0}, 10)
    assert len(hits) == 10
    assert {hit.chunk.text.count("needle") for hit in hits} == {6}
    # Equal ones come by path: the order must not change from one key to the next.
    assert [hit.chunk.path for hit in hits] == sorted(hit.chunk.path for hit in hits)
    assert corpus.search({"needle": 1.0}, 10) == hits
    assert corpus.search({"needle": 1.0}, 0) == []
    assert corpus.search({}, 10) == []
    assert corpus.search({"unknown": 1.0}, 10) == []
    assert Corpus().search({"needle": 1.0}, 10) == []


def test_weights_and_files_left_out() -> None:
    corpus = corpus_of({"a.py": ["red house"], "b.py": ["green house"], "c.py": ["blue sky"]})
    assert [hit.chunk.path for hit in corpus.search({"red": 1.0, "green": 3.0}, 5)] == ["b.py", "a.py"]
    assert [hit.chunk.path for hit in corpus.search({"red": 3.0, "green": 1.0}, 5)] == ["a.py", "b.py"]
    assert [hit.chunk.path for hit in corpus.search({"red": 1.0, "green": 3.0}, 5, without=["b.py"])] == ["a.py"]


def test_many_small_changes_leave_few_parts() -> None:
    corpus = corpus_of({f"{number}.py": ["some code here"] * 4 for number in range(500)})
    for number in range(500):
        corpus.replace([f"{number}.py"], *part({f"{number}.py": [f"changed_{number}"] * 4}))
    assert len(corpus._parts) < 10
    assert sum(len(held.chunks) for held in corpus._parts) < 1.5 * corpus.chunk_count
    assert [hit.chunk.path for hit in corpus.search({"changed_77": 1.0}, 9)] == ["77.py"] * 4
    assert corpus.search({"some": 1.0}, 9) == []


def test_a_search_that_is_under_way_sees_one_state() -> None:
    corpus = corpus_of({"a.py": ["first version"]})
    before = corpus._parts
    corpus.replace(["a.py"], *part({"a.py": ["second version"]}))
    assert [held.chunks[0].text for held in before] == ["first version"]
    assert before[0].alive.all()
