"""When generation may end early: what a stop rule gives up, the filters would cut anyway.

Lines are judged when their newline has come, each rule by its first line to object, so that a text stops at the same
place whether it arrives by the character or at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import StopRule
from intract_lsp.completion.postprocess.block import block_end
from intract_lsp.completion.postprocess.lines import Cut, full_line, length_of, width
from intract_lsp.completion.postprocess.repetition import tail_loop
from intract_lsp.completion.postprocess.suffix import following_line

MAX_LINES = 12
"""Most lines of a suggestion; few longer ones are accepted whole, and on a CPU each costs about half a second."""

_MAX_LEADING_BLANK_LINES = 2

_DEFINITION = re.compile(
    r"""\s*(?:@\w|\#\[
      |(?:(?:export|default|pub(?:\([\w:]+\))?|public|private|protected|internal|static|abstract|final|sealed|async
          |unsafe|local|declare|inline|extern)\s+)*
       (?:def|class|function\*?|func|fn|struct|enum|trait|impl|interface|namespace|module|mod|macro_rules!)\b\s*[\w<(])""",
    re.VERBOSE,
)

_Rule = Callable[[Sequence[str], CompletionContext], "Cut | None"]


def stop_rule(context: CompletionContext) -> StopRule:
    """Return the rule for one request; it holds no state and costs microseconds a call."""
    return _stop_line(context) if context.extent is Extent.LINE else _stop_block(context)


def _stop_line(context: CompletionContext) -> StopRule:
    on_blank_line = not context.line_prefix.strip()

    def rule(text: str) -> int | None:
        start = len(text) - len(text.lstrip()) if on_blank_line else 0
        if text.count("\n", 0, start) > _MAX_LEADING_BLANK_LINES:
            return 0
        end = text.find("\n", start)
        if end >= 0:
            return end
        return len(text) if tail_loop(text) is not None else None

    return rule


def _stop_block(context: CompletionContext) -> StopRule:
    def rule(text: str) -> int | None:
        *complete, _ = text.split("\n")
        if complete:
            cuts = [cut for find in _RULES if (cut := find(complete, context)) is not None]
            if cuts:
                # The rule that objects first decides; between two at the same line, the one that keeps less.
                return length_of(complete, min(cuts).keep)
        if tail_loop(text) is None:
            return None
        # The filters cut a loop and name it; a looping line behind complete ones is not worth keeping.
        return length_of(complete, len(complete)) if complete else len(text)

    return rule


def _new_definition(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    """Find a definition on the cursor's own level behind some code: the next thing, not the rest of this one."""
    level = width(context.indent, context.indent_unit)
    in_code = False
    for index in range(len(lines)):
        line = full_line(lines, index, context)
        is_definition = _DEFINITION.match(line) is not None
        if index and in_code and is_definition and width(line, context.indent_unit) <= level:
            return Cut(index, index)
        # Behind a decorator the definition it belongs to must come.
        in_code = in_code or bool(line.strip() and not line.lstrip().startswith(("@", "#", "//", "--")))
    return None


def _blank_lines(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    """Find the second blank line in a row behind code, or one more than a definition may have before it."""
    blank = 0
    in_code = False
    for index in range(len(lines)):
        if full_line(lines, index, context).strip():
            in_code, blank = True, 0
            continue
        blank += 1
        if blank > (1 if in_code else _MAX_LEADING_BLANK_LINES):
            return Cut(index, index)
    return None


def _suffix_reached(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    place = following_line(lines, context)
    # A first line that repeats the suffix is kept for the filter that says so.
    return None if place is None else Cut(place.trigger, max(1, place.keep))


def _same_line(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    """Find the third copy of a line in a row; all are kept for the filter that knows what stands above."""
    for index in range(2, len(lines)):
        line = lines[index].rstrip()
        if line and line == lines[index - 1].rstrip() == full_line(lines, index - 2, context).rstrip():
            return Cut(index, index + 1)
    return None


def _line_limit(lines: Sequence[str], context: CompletionContext) -> Cut | None:
    return Cut(MAX_LINES - 1, MAX_LINES) if len(lines) >= MAX_LINES else None


_RULES: tuple[_Rule, ...] = (block_end, _new_definition, _blank_lines, _suffix_reached, _same_line, _line_limit)
