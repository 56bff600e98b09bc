from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.evaluation.items import Item
from intract_lsp.evaluation.scores import Score, bootstrap_difference, edit_similarity, mcnemar_p, score


def item(truth: str, *, prefix: str = "x = ", suffix: str = "\nprint(x)\n") -> Item:
    return Item(
        task_id="t",
        path="a.py",
        prefix=prefix,
        suffix=suffix,
        truth_line=truth.split("\n")[0],
        truth_block=truth,
        set="s",
    )


def test_nothing_shown_scores_nothing() -> None:
    assert score(item("f(1)"), None) == Score(False, False, 0.0, 0.0, False)


def test_the_exact_truth_scores_everything() -> None:
    assert score(item("f(1)"), "f(1)") == Score(True, True, 100.0, 1.0, False)


def test_white_space_at_both_ends_is_no_mismatch() -> None:
    assert score(item("    return 1"), "return 1  ").exact_match
    assert score(item("    return 1"), "return 1  ").edit_similarity == 100.0


def test_only_the_first_line_counts_for_match_and_similarity() -> None:
    scored = score(item("f(1)"), "f(1)\ng(2)")
    assert scored.exact_match
    assert scored.edit_similarity == 100.0
    assert not score(item("f(1)"), "\nf(1)").exact_match


def test_line_ends_of_windows_do_not_count() -> None:
    assert score(item("f(\r\n    1,\r"), "f(\n    1,") == Score(True, True, 100.0, 1.0, False)


def test_similarity_is_the_share_of_the_longer_line_that_needs_no_edit() -> None:
    assert score(item("abcd"), "abXdef").edit_similarity == pytest.approx(100 * (1 - 3 / 6))
    assert edit_similarity("", "") == 100.0


def test_saved_characters_stop_at_the_first_wrong_one() -> None:
    assert score(item("abcdefgh"), "abcXefgh").saved_characters == pytest.approx(3 / 8)
    assert score(item("abcd"), "abcdefgh").saved_characters == 1.0
    assert score(item("ab\ncdef"), "ab").saved_characters == pytest.approx(2 / 7)
    assert score(item("ab\ncdef"), "ab\ncdef\n").saved_characters == 1.0


def test_characters_that_the_suggestion_covers_belong_to_both_sides() -> None:
    inside_call = item("1, 2", prefix="f(", suffix=")\n")
    assert score(inside_call, "1, 2)", replace=1) == Score(True, True, 100.0, 1.0, False)
    assert not score(inside_call, "1, 2)", replace=0).exact_match
    assert not score(inside_call, "1, 2", replace=1).exact_match


def test_over_long_is_more_than_one_line_past_the_truth() -> None:
    assert not score(item("a"), "a\nb").over_long
    assert not score(item("a"), "a\nb\n\n").over_long
    assert score(item("a"), "a\nb\nc").over_long
    assert not score(item("a\nb"), "a\nb\nc").over_long


def test_over_long_is_a_repeat_of_the_first_line_below() -> None:
    assert score(item("a"), "a\nprint(x)").over_long
    assert score(item("a", suffix="\n\n  print(x)\n"), "a\n  print(x)").over_long
    assert score(item("print(x)", prefix="", suffix="\nprint(x)\n"), "print(x)\nprint(x)").over_long


def test_a_line_that_the_truth_has_too_is_no_repeat() -> None:
    assert not score(item("print(x)", prefix="", suffix="\nprint(x)\n"), "print(x)").over_long
    block = item("if a {\n    b\n  }", prefix="{\n  ", suffix="\n}\n")
    assert not score(block, "if a {\n    b\n  }").over_long
    assert score(block, "if a {\n  }\n}").over_long


@given(
    st.text(max_size=40), st.text(min_size=1, max_size=40).filter(str.strip), st.text(max_size=20), st.integers(0, 3)
)
def test_scores_stay_in_their_ranges(text: str, truth: str, suffix: str, replace: int) -> None:
    scored = score(item(truth, suffix=suffix), text, replace)
    assert scored.shown
    assert 0.0 <= scored.edit_similarity <= 100.0
    assert 0.0 <= scored.saved_characters <= 1.0
    assert scored.exact_match == (scored.edit_similarity == 100.0)


def test_mcnemar_counts_only_the_items_that_differ() -> None:
    same = [True, False] * 20
    assert mcnemar_p(same, same) == 1.0
    left = [*same, *[True] * 8, *[False] * 1]
    right = [*same, *[False] * 8, *[True] * 1]
    # 2 · (C(9,0) + C(9,1)) / 2^9
    assert mcnemar_p(left, right) == mcnemar_p(right, left) == pytest.approx(20 / 512)
    assert mcnemar_p([True, False], [False, True]) == 1.0
    assert mcnemar_p([True] * 2000, [False] * 2000) == pytest.approx(0.0)


def test_bootstrap_brackets_the_mean_and_is_repeatable() -> None:
    left = [float(number % 7) for number in range(100)]
    right = [value - 1.0 - (number % 3) * 0.1 for number, value in enumerate(left)]
    interval = bootstrap_difference(left, right, resamples=500)
    assert interval == bootstrap_difference(left, right, resamples=500)
    assert interval.mean == pytest.approx(1.099, abs=1e-6)
    assert interval.low < interval.mean < interval.high
    # Differences of 1.0, 1.1 and 1.2 have a standard error of 0.0082; the interval is about four of those wide.
    assert 0.02 < interval.high - interval.low < 0.05


def test_runs_over_different_items_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same items"):
        mcnemar_p([True], [])
    with pytest.raises(ValueError, match="same items"):
        bootstrap_difference([], [])
