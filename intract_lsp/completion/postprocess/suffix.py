"""Texts that say again what already follows the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.postprocess.brackets import is_closers
from intract_lsp.completion.postprocess.lines import Cut, closing_follows, cut, full_line, is_closing
from intract_lsp.completion.request import RejectReason


def drop_following_lines(text: str, context: CompletionContext) -> str | RejectReason:
    """Cut where the text's lines reproduce those below the cursor, and drop a closing line that stands there."""
    lines = text.split("\n")
    place = following_line(lines, context) or _similar_block(lines, context) or _closing_line(lines, context)
    kept = cut(text, place)
    return kept if kept.strip() or not text.strip() else RejectReason.REPEATS_SUFFIX


def following_line(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    """Find the line that equals, with its indentation, the next line of code below the cursor."""
    below = context.following_lines[:1]
    for index in range(len(lines) if below else 0):
        if full_line(lines, index, context).rstrip() == below[0]:
            return Cut(index, index)
    return None


def trim_overlap(text: str, context: CompletionContext) -> str | RejectReason:
    """Trim from the text's end what the rest of the cursor's line begins with; closers are covered instead."""
    rest = context.line_suffix
    if not rest.strip() or is_closers(rest):
        return text
    for length in range(min(len(text), len(rest)), 0, -1):
        if text.endswith(rest[:length]):
            kept = text[:-length]
            return kept if kept.strip() else RejectReason.REPEATS_SUFFIX
    return text


def _similar_block(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    """Find two or three lines that are nearly those below: at most one edit, or 5 % of their length.

    A single line must be equal: lines that differ in a digit are what lists and test cases are made of.
    """
    below = context.following_lines[:3]
    code = [index for index in range(len(lines)) if full_line(lines, index, context).strip()]
    for position, index in enumerate(code):
        ours = [full_line(lines, other, context).strip() for other in code[position : position + len(below)]]
        if len(ours) < 2:
            return None
        mine, theirs = "\n".join(ours), "\n".join(line.strip() for line in below[: len(ours)])
        limit = max(1, len(theirs) // 20)
        if Levenshtein.distance(mine, theirs, score_cutoff=limit) <= limit:
            return Cut(index, index)
    return None


def _closing_line(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    last = max((index for index, line in enumerate(lines) if line.strip()), default=0)
    if last and is_closing(lines[last]) and closing_follows(lines[last], context):
        return Cut(last, last)
    return None
