"""From a model's text to what is shown: small pure filters in two ordered tuples.

Filters before the cache see the model's text at the cursor it was made for and may change any of it. Filters after it
run at each use, also on what is left after the user typed the beginning, so they only cut at the end: what is shown
must be what the cache compares the user's typing with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.postprocess.blank import refuse_blank
from intract_lsp.completion.postprocess.block import limit_to_block
from intract_lsp.completion.postprocess.brackets import covered, trim_surplus_closers
from intract_lsp.completion.postprocess.extent import limit_to_line
from intract_lsp.completion.postprocess.indentation import fit_first_line, use_document_indentation
from intract_lsp.completion.postprocess.line_ends import trim_end, use_document_ends, use_newlines
from intract_lsp.completion.postprocess.partial import trim_partial
from intract_lsp.completion.postprocess.repetition import cut_loop, cut_repeated_lines
from intract_lsp.completion.postprocess.secrets import refuse_secrets
from intract_lsp.completion.postprocess.sentinels import cut_at_sentinel
from intract_lsp.completion.postprocess.suffix import drop_following_lines, trim_overlap
from intract_lsp.completion.request import RejectReason

__all__ = ["AFTER_CACHE", "BEFORE_CACHE", "Filter", "Polished", "after_cache", "before_cache", "trim_partial"]

Filter = Callable[[str, CompletionContext], "str | RejectReason"]

BEFORE_CACHE: tuple[Filter, ...] = (
    use_newlines,
    cut_at_sentinel,
    limit_to_line,
    use_document_indentation,
    fit_first_line,
    limit_to_block,
    cut_loop,
    cut_repeated_lines,
    refuse_secrets,
    trim_end,
    refuse_blank,
)

AFTER_CACHE: tuple[Filter, ...] = (
    use_newlines,
    drop_following_lines,
    trim_overlap,
    trim_surplus_closers,
    trim_end,
    refuse_blank,
)


@dataclass(frozen=True, slots=True)
class Polished:
    """What to offer at the cursor."""

    text: str
    """With the document's line ends."""
    replace: int
    """How many characters behind the cursor, on its line, the text takes the place of."""


def before_cache(text: str, context: CompletionContext) -> str | RejectReason:
    """Clean a model's text at the cursor it was made for; lines end with a newline alone."""
    return _run(BEFORE_CACHE, text, context)


def after_cache(text: str, context: CompletionContext) -> Polished | RejectReason:
    """Fit a cleaned text, or the rest of one, to what stands behind the cursor now."""
    # A cut can lay bare what an earlier filter cuts; each round shortens the text, so there is a last one.
    while True:
        fitted = _run(AFTER_CACHE, text, context)
        if isinstance(fitted, RejectReason):
            return fitted
        if fitted == text:
            break
        text = fitted
    replace = covered(text, context)
    if text == context.line_suffix[:replace]:
        return RejectReason.REPEATS_SUFFIX
    return Polished(use_document_ends(text, context), replace)


def _run(filters: tuple[Filter, ...], text: str, context: CompletionContext) -> str | RejectReason:
    current: str | RejectReason = text
    for apply in filters:
        if isinstance(current, RejectReason):
            return current
        current = apply(current, context)
    return current
