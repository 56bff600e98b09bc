from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intract_lsp.completion.cache import CachedText, CompletionCache

ROOMY = 1 << 20


def cache_with(*entries: CachedText, scope: str = "m", capacity: int = ROOMY) -> CompletionCache:
    cache = CompletionCache(capacity)
    for entry in entries:
        cache.put(scope, entry)
    return cache


def rest(cache: CompletionCache, prefix: str, suffix: str = ")", scope: str = "m") -> str | None:
    hit = cache.get(scope, prefix, suffix)
    return None if hit is None else hit.text


WHOLE = CachedText("x = f(", ")", "abc, d", complete=True)
PARTIAL = CachedText("x = f(", ")", "abc, d", complete=False)


@pytest.mark.parametrize(
    ("prefix", "left"),
    [
        ("x = f(", "abc, d"),
        ("x = f(a", "bc, d"),
        ("x = f(abc, ", "d"),
        ("x = f(abc, d", ""),
        ("x = f(abc, de", None),
        ("x = f(b", None),
        ("x = f", None),
        ("y = f(", None),
        ("y = f(a", None),
    ],
)
def test_typed_through(prefix: str, left: str | None) -> None:
    assert rest(cache_with(WHOLE), prefix) == left


def test_behind_a_text_that_was_cut_short_the_model_is_asked() -> None:
    assert rest(cache_with(PARTIAL), "x = f(abc, ") == "d"
    assert rest(cache_with(PARTIAL), "x = f(abc, d") is None


@pytest.mark.parametrize("typed", ["\n", "\r\n"])
def test_a_typed_line_end_is_one_whatever_the_document_has(typed: str) -> None:
    cache = cache_with(CachedText("if x:", "", "\n    go()\n    end()", complete=True))
    assert rest(cache, f"if x:{typed}", "") == "    go()\n    end()"
    assert rest(cache, f"if x:{typed}    go(){typed}", "") == "    end()"


def test_another_suffix_is_another_place() -> None:
    cache = cache_with(WHOLE)
    assert rest(cache, "x = f(", "") is None
    assert rest(cache, "x = f(", "))") is None
    assert rest(cache, "x = f(a", ") + 1") is None


@pytest.mark.parametrize(
    ("suffix", "typed", "left"),
    [
        ("]\n", "[", "0]"),
        ('"]\n', "[", "0]"),
        (")]\n", "[", "0]"),
        ("]\n", "", None),  # nothing was typed, so the bracket is an edit
        ("}}}\n", "[", None),  # an editor closes two at most
        ("x\n", "[", None),
        ("]", "[", None),  # the rest of the suffix went
    ],
)
def test_brackets_that_the_editor_closed(suffix: str, typed: str, left: str | None) -> None:
    assert rest(cache_with(CachedText("a", "\n", "[0]", complete=True)), f"a{typed}", suffix) == left


def test_scopes_are_apart() -> None:
    cache = cache_with(WHOLE, scope="one")
    assert rest(cache, "x = f(", scope="two") is None
    assert rest(cache, "x = f(", scope="one") == "abc, d"


def test_the_longest_rest_wins() -> None:
    cache = cache_with(WHOLE, CachedText("x = f(a", ")", "bc, d, e", complete=True))
    assert rest(cache, "x = f(ab") == "c, d, e"


def test_a_newer_text_at_the_same_place_replaces_the_older() -> None:
    cache = cache_with(WHOLE, CachedText(WHOLE.prefix, WHOLE.suffix, "z", complete=True))
    assert len(cache) == 1
    assert rest(cache, WHOLE.prefix) == "z"


def entry(name: str, size: int = 100) -> CachedText:
    return CachedText(name, "", "t" * size, complete=True)


ONE = cache_with(entry("a")).size_bytes


def test_the_longest_unused_goes_first() -> None:
    cache = cache_with(entry("a"), entry("b"), capacity=2 * ONE)
    assert rest(cache, "a", "") is not None
    cache.put("m", entry("c"))
    assert [rest(cache, name, "") is not None for name in "abc"] == [True, False, True]


def test_what_is_larger_than_the_capacity_is_not_kept() -> None:
    cache = cache_with(entry("a"), capacity=ONE)
    cache.put("m", entry("b", size=10_000))
    assert len(cache) == 1
    assert rest(cache, "a", "") is not None
    assert len(cache_with(entry("a"), capacity=0)) == 0


def test_resize_and_clear() -> None:
    cache = cache_with(entry("a"), entry("b"), entry("c"), capacity=3 * ONE)
    cache.resize(ONE)
    assert (len(cache), cache.size_bytes) == (1, ONE)
    assert rest(cache, "c", "") is not None
    cache.clear()
    assert (len(cache), cache.size_bytes) == (0, 0)
    assert rest(cache, "c", "") is None


names = st.text("ab", max_size=4)
suffixes = st.sampled_from(["", ")", "))"])
puts = st.tuples(names, suffixes, st.text("ab", max_size=30), st.booleans())
gets = st.tuples(names, suffixes)


def brute_force(kept: list[CachedText], prefix: str, suffix: str) -> set[str]:
    """Every rest of an entry whose text begins with what was typed since, spelled out naively."""
    found = set()
    for entry in kept:
        whole = entry.prefix + entry.text
        typed = prefix[len(entry.prefix) :]
        closed = typed and suffix in [added + entry.suffix for added in (")", "))")]
        if whole.startswith(prefix) and prefix.startswith(entry.prefix) and (suffix == entry.suffix or closed):
            left = whole[len(prefix) :]
            if left or entry.complete:
                found.add(left)
    return found


@given(scope=st.lists(st.one_of(puts, gets), max_size=30))
@example(scope=[("", "", "baab", False), ("", ")", "baaa", False), ("b", ")")])
def test_get_is_the_longest_of_all_that_fit(scope: list[tuple[object, ...]]) -> None:
    cache = CompletionCache(ROOMY)
    kept: dict[tuple[str, str], CachedText] = {}
    for step in scope:
        if len(step) == 4:
            entry = CachedText(*step)  # type: ignore[arg-type]
            cache.put("m", entry)
            kept[entry.prefix, entry.suffix] = entry
        else:
            prefix, suffix = map(str, step)
            expected = brute_force(list(kept.values()), prefix, suffix)
            found = rest(cache, prefix, suffix)
            # Of several as long, which one is found is not promised.
            assert found in expected if expected else found is None
            assert found is None or len(found) == max(map(len, expected))


@given(capacity=st.integers(0, 2000), steps=st.lists(puts, max_size=40), smaller=st.integers(0, 2000))
def test_never_more_than_the_capacity(capacity: int, steps: list[tuple[str, str, str, bool]], smaller: int) -> None:
    cache = CompletionCache(capacity)
    for prefix, suffix, text, complete in steps:
        cache.put("m", CachedText(prefix, suffix, text, complete))
        assert cache.size_bytes <= capacity
        assert (cache.size_bytes == 0) == (len(cache) == 0)
    cache.resize(smaller)
    assert cache.size_bytes <= smaller
