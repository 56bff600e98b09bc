"""One line where one line was asked for."""

from __future__ import annotations

from intract_lsp.completion.context import CompletionContext, Extent


def limit_to_line(text: str, context: CompletionContext) -> str:
    """Keep the rest of the cursor's line; on a blank line, up to the first line that says something.

    A text that begins with a newline behind code has nothing to say on this line. Runs before the cache only: once
    the user has typed into a block, the cursor's new place asks for a line, and the block should stay.
    """
    if context.extent is not Extent.LINE:
        return text
    start = 0 if context.line_prefix.strip() else len(text) - len(text.lstrip())
    end = text.find("\n", start)
    return text if end < 0 else text[:end]
