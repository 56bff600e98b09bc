"""Suggestions without anything to see."""

from __future__ import annotations

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.request import RejectReason


def refuse_blank(text: str, context: CompletionContext) -> str | RejectReason:
    """Refuse nothing and white space."""
    if not text:
        return RejectReason.EMPTY
    return text if text.strip() else RejectReason.BLANK
