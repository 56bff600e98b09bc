from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.training.exclusion import Exclusion, line_for

NAMES = st.text(st.characters(exclude_characters="/\x00\n", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@pytest.mark.parametrize(
    ("lines", "path", "excluded"),
    [
        ([], "a.py", False),
        (["a.py"], "a.py", True),
        (["a.py"], "deep/a.py", True),
        (["/a.py"], "deep/a.py", False),
        (["docs/"], "docs/a.py", True),
        (["docs/"], "docs", False),
        (["# docs/", ""], "docs/a.py", False),
        (["*.py", "!keep.py"], "keep.py", False),
        (["gen/*", "!gen/keep.py"], "gen/keep.py", False),
        (["gen", "!gen/keep.py"], "gen/keep.py", True),
        (["über/*.py"], "über/a.py", True),
    ],
)
def test_what_lines_exclude(lines: list[str], path: str, excluded: bool) -> None:
    assert Exclusion(lines).names(path) is excluded


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3))
def test_the_line_for_a_path_names_it_and_what_is_below_it_alone(parts: list[str], others: list[str]) -> None:
    path, other = "/".join(parts), "/".join(others)
    exclusion = Exclusion([line_for(path)])
    assert exclusion.names(path)
    assert exclusion.names(f"{path}/below")
    assert exclusion.names(other) is (others[: len(parts)] == parts)
