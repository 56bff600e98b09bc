"""Indentation in the document's own style."""

from __future__ import annotations

import re

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.postprocess.lines import columns, width

_OPENER = re.compile(r"(?:[:{(\[]|=>|->|\bthen|\bdo|\belse)\s*$")


def use_document_indentation(text: str, context: CompletionContext) -> str:
    """Turn leading spaces into tabs or tabs into spaces where the document has only the other kind."""
    style = _style(context)
    if style is None:
        return text
    lines = text.split("\n")
    # The first line's white space is indentation only where nothing stands before it.
    first = 0 if not context.line_prefix.strip() else 1
    step = _step(lines[first:], context.tab_size)
    for index in range(first, len(lines)):
        line = lines[index]
        code = line.lstrip(" \t")
        blank = line[: len(line) - len(code)]
        if style == "\t" and " " in blank:
            levels, rest = divmod(len(blank.expandtabs(step)), step)
            lines[index] = "\t" * levels + " " * rest + code
        elif style == " " and "\t" in blank:
            lines[index] = blank.replace("\t", " " * columns(context.indent_unit)) + code
    return "\n".join(lines)


def fit_first_line(text: str, context: CompletionContext) -> str:
    """Take from the first line the white space that the cursor's line has already.

    Behind code, one blank is enough. On an indented blank line the model may repeat the indentation, or a part of
    it: what it adds stays only where the line then begins as deep as a neighbour, or one level deeper than a line
    above that opens a block. On such a line blank lines at the beginning go as well: the user has opened the line to
    fill it.
    """
    if context.line_prefix.strip():
        return text.lstrip(" \t") if context.line_prefix[-1] in " \t" else text
    if not context.indent:
        return text
    lines = text.split("\n")
    unit = context.indent_unit
    while len(lines) > 1 and not lines[0].strip():
        if lines[1].strip() and width(lines[1], unit) < width(context.indent, unit):
            return text
        lines = lines[1:]
        if lines[0].strip() and lines[0].startswith(context.indent):
            # What was a line of its own now begins at the cursor.
            lines[0] = lines[0][len(context.indent) :]
    if width(context.indent + lines[0], unit) not in _fitting_widths(context):
        lines[0] = lines[0].lstrip(" \t")
    return "\n".join(lines)


def _fitting_widths(context: CompletionContext) -> set[int]:
    """Return the indentations, in columns, that a line here may well have."""
    unit = context.indent_unit
    before = context.above.rstrip()
    previous = before[max(before.rfind("\n"), before.rfind("\r")) + 1 :]
    above = width(previous, unit)
    if _OPENER.search(previous):
        return {above + columns(unit)}
    return {above, *(width(line, unit) for line in context.following_lines[:1])}


def _style(context: CompletionContext) -> str | None:
    """Return a tab or a space if all indented lines near the cursor begin with it, else ``None``."""
    seen: set[str] = set()
    for line in re.split(r"[\r\n]+", context.prefix[-8192:] + context.suffix[:4096]):
        blank = line[: len(line) - len(line.lstrip(" \t"))]
        # A single space is alignment, as in the body of a block comment.
        if len(blank) > 1 or blank == "\t":
            seen.update(blank[:1])
    return seen.pop() if len(seen) == 1 else None


def _step(lines: list[str], tab_size: int) -> int:
    """Guess how many spaces the text means by one level."""
    widths = [len(line) - len(line.lstrip(" ")) for line in lines if line.startswith(" ")]
    return next((step for step in (4, 2, 3) if all(value % step == 0 for value in widths)), tab_size or 4)
