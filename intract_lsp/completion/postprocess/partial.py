"""Texts that a limit cut short."""

from __future__ import annotations

import re

from intract_lsp.completion.context import CompletionContext

_BOUNDARY = re.compile(r"\w(?!\w)|[)\]},;]")


def trim_partial(text: str, context: CompletionContext) -> str:
    """Cut a text that was stopped by its length or the deadline back to a place where one may stop.

    Several lines: behind the last complete one. A single line, or where no complete line says anything: behind the
    last name, closing bracket or separator. A name at the very end may lack its rest and goes. May return nothing.
    """
    complete, newline, last = text.rpartition("\n")
    if newline and complete.strip():
        return complete.rstrip()
    end = 0
    for match in _BOUNDARY.finditer(last):
        # A name that reaches the end of the text may not be whole.
        if match.end() < len(last) or not (match.group().isalnum() or match.group() == "_"):
            end = match.end()
    return text[: len(text) - len(last) + end] if end else ""
