from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from training_projects import module

from intract_lsp.training.dedupe import SHINGLE, Containment, NearDuplicates, first_of_each, shingles

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "(", ")", "=", "+", ".", "1", "2"]), max_size=60)


def jaccard(left: str, right: str) -> float:
    one, two = set(shingles(left).tolist()), set(shingles(right).tolist())
    return len(one & two) / len(one | two)


@given(WORDS)
def test_shingles_are_the_runs_of_five_tokens(words: list[str]) -> None:
    found = shingles(" ".join(words))
    runs = {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}
    assert len(found) == len(runs)
    assert np.array_equal(found, shingles("\n\t".join(words)))


def test_copies_with_few_changes_are_found_and_others_not() -> None:
    text = module("one", 12)
    near = text.replace("total_3", "sum_3")
    far = text.replace("total_", "sum_")
    assert jaccard(text, near) > 0.88 and jaccard(text, far) < 0.8
    twins = first_of_each(
        [("a.py", text), ("b.py", near), ("c.py", far), ("d.py", text.replace("    ", "\t")), ("e.py", module("e", 9))],
        NearDuplicates(),
    )
    assert twins == {"b.py": "a.py", "d.py": "a.py"}


def test_short_texts_are_compared_exactly() -> None:
    seen = NearDuplicates()
    seen.add("a", "from a import b, c\n")
    assert seen.find("from a  import b, c") == "a"
    assert seen.find("from a import b, d") is None
    assert seen.find("x") is None and seen.find("") is None
    seen.add("empty", "")
    assert seen.find("") is None


def test_how_much_of_a_text_is_known() -> None:
    known = Containment([module("one", 5), module("two", 5)])
    part = module("one", 3).split("import os\n")[1]
    assert known.share(part) == 1.0
    assert known.share(module("other", 3)) < 0.5
    assert 0.3 < known.share(part + module("other", 3)) < 0.8
    assert known.share("return 1") == 0.0
    assert Containment([]).share(part) == 0.0
