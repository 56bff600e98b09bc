"""Where the next request is likely to come: what is worth preparing while nobody waits.

Right guesses save time and wrong ones cost nothing but idle time, so these are short rules and not complete ones.
"""

from __future__ import annotations

import re
from dataclasses import replace

from intract_lsp.completion.context import CompletionContext, Extent, opens_block
from intract_lsp.completion.request import CompletionRequest, Suggestion, TriggerKind

_LEAVES_BLOCK = re.compile(r"\s*(?:return|pass|break|continue|raise)\b")
"""Python statements behind which editors put the next line one level further out."""


def after_accepting(request: CompletionRequest, suggestion: Suggestion) -> CompletionRequest | None:
    """Return the request that follows where the user accepts a suggestion and goes on to the next line.

    ``None`` where something is left behind the cursor: the line goes on, and its prompt is the present one.
    """
    after = CompletionContext(
        prefix=request.prefix + suggestion.text,
        suffix=request.suffix[suggestion.replace :],
        language_id=request.language_id,
        extent=Extent.LINE,
        tab_size=request.tab_size,
    )
    if after.line_suffix.strip():
        return None
    # Editors indent the new line, and take blanks away that stood behind the cursor.
    prefix = after.prefix + after.end_of_line + _next_indent(after)
    return replace(request, prefix=prefix, suffix=after.below, trigger=TriggerKind.AUTOMATIC)


def at_line_end(request: CompletionRequest) -> CompletionRequest:
    """Return the same request at the end of the cursor's line, where a suggestion may be asked for."""
    rest = re.split(r"[\r\n]", request.suffix, maxsplit=1)[0]
    return replace(request, prefix=request.prefix + rest, suffix=request.suffix[len(rest) :])


def _next_indent(context: CompletionContext) -> str:
    """Return the white space that an editor begins the line behind a context's with."""
    line = context.line_prefix
    if opens_block(line, context.language_id):
        return context.indent + context.indent_unit
    if context.language_id == "python" and _LEAVES_BLOCK.match(line):
        return context.indent.removesuffix(context.indent_unit)
    return context.indent
