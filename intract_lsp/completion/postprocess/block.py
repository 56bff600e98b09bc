"""Where the cursor's block ends."""

from __future__ import annotations

from collections.abc import Sequence

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.postprocess.lines import Cut, closing_follows, columns, cut, full_line, is_closing, width


def limit_to_block(text: str, context: CompletionContext) -> str:
    """Cut where the text leaves the block that the cursor is in."""
    return cut(text, block_end(text.split("\n"), context))


def block_end(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    """Find the first line indented less than the block; one line that only closes it may stay if it is missing.

    The block's level is the cursor line's indentation or, on a line without any, that of the first line of code.
    """
    start = 1 if context.line_prefix.strip() else _first_code(lines)
    unit = context.indent_unit
    level = width(context.indent, unit)
    if level == 0 and not context.line_prefix.strip() and start < len(lines):
        level = width(full_line(lines, start, context), unit)
    for index in range(start, len(lines)):
        line = full_line(lines, index, context)
        if not line.strip() or width(line, unit) >= level:
            continue
        closes = is_closing(line) and level - width(line, unit) <= columns(unit)
        return Cut(index, index + 1 if closes and not closing_follows(line, context) else index)
    return None


def _first_code(lines: Sequence[str]) -> int:
    return next((index for index, line in enumerate(lines) if line.strip()), len(lines))
