"""What holds for every text at every cursor."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.postprocess import AFTER_CACHE, BEFORE_CACHE, after_cache, before_cache, trim_partial
from intract_lsp.completion.postprocess.sentinels import cut_at_sentinel
from intract_lsp.completion.request import RejectReason

PIECES = [
    *"()[]{}\"'`;,:.<>|=+-#@/\\ \t\n",
    "\r\n",
    "\n    ",
    "\n\t",
    "x",
    "foo",
    "def ",
    "end",
    "0, ",
    "<|fim_middle|>",
    "<fim_suffix>",
    "</s>",
    "👍🏽",
    "é",
    "\u2028",
    "key = ",
]
code = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
contexts = st.builds(
    CompletionContext,
    prefix=code,
    suffix=code,
    language_id=st.sampled_from(["python", "rust", "typescript"]),
    extent=st.sampled_from(Extent),
    tab_size=st.integers(0, 8),
)


@settings(deadline=None)
@given(code, contexts)
def test_no_filter_raises(text: str, context: CompletionContext) -> None:
    for apply in (*BEFORE_CACHE, *AFTER_CACHE):
        assert isinstance(apply(text, context), str | RejectReason)
    assert text.startswith(trim_partial(text, context))


@settings(deadline=None)
@given(code, contexts)
def test_filters_after_the_cache_only_cut_the_end(text: str, context: CompletionContext) -> None:
    cleaned = before_cache(text, context)
    if isinstance(cleaned, RejectReason):
        return
    for apply in AFTER_CACHE:
        fitted = apply(cleaned, context)
        assert isinstance(fitted, RejectReason) or cleaned.startswith(fitted)


@settings(max_examples=300, deadline=None)
@given(code, contexts)
def test_the_pipeline(text: str, context: CompletionContext) -> None:
    cleaned = before_cache(text, context)
    if isinstance(cleaned, RejectReason):
        return
    assert "\r" not in cleaned
    polished = after_cache(cleaned, context)
    if isinstance(polished, RejectReason):
        return
    assert polished.text.strip()
    assert polished.text == polished.text.rstrip()
    assert 0 <= polished.replace <= len(context.line_suffix)
    assert cut_at_sentinel(polished.text, context) == polished.text
    again = after_cache(polished.text, context)
    assert again == polished


@settings(deadline=None)
@given(code, contexts)
def test_what_is_covered_stands_in_the_text(text: str, context: CompletionContext) -> None:
    polished = after_cache(text, context)
    if isinstance(polished, RejectReason):
        return
    remaining = iter(polished.text)
    # VS Code draws ghost text over a range only if the text contains it in this order.
    assert all(character in remaining for character in context.line_suffix[: polished.replace])
