"""Texts that go round in circles."""

from __future__ import annotations

import re

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.postprocess.lines import full_line, length_of
from intract_lsp.completion.request import RejectReason

_TAIL = 240
_WORD = re.compile(r"\w")
_PREFIX_LINES = 12
_BLOCK_LINES = 6
_BLOCK_CHARACTERS = 24
"""A block of three lines or more counts as repeated at its second copy if it has as many characters as this."""


def tail_loop(text: str) -> tuple[int, int] | None:
    """Return where the repetition at a text's end begins and its period in characters, or ``None``.

    Reads the last 240 characters backwards with the failure function of Knuth, Morris and Pratt, whose value at a
    position gives the smallest period up to it (the idea of microsoft/vscode-copilot-chat's anomalyDetection.ts,
    there on tokens). A period of 3 characters must occur six times, one of 10 four times; shorter ones, and those
    without a letter or digit such as rulers, must fill 100 characters. White space never counts.
    """
    tail = text[-_TAIL:][::-1]
    failure = [0] * (len(tail) + 1)
    match = 0
    for length in range(2, len(tail) + 1):
        while match and tail[length - 1] != tail[match]:
            match = failure[match]
        match += tail[length - 1] == tail[match]
        failure[length] = match
        period = length - match
        if length >= 18 and length >= _least(period) and _is_loop(tail[:period], length):
            start = len(text) - length
            while start and text[start - 1] == text[start - 1 + period]:
                start -= 1
            return start, period
    return None


def cut_loop(text: str, context: CompletionContext) -> str | RejectReason:
    """Cut a repetition at the text's end: a line that loops goes, of looping lines the first copy stays."""
    loop = tail_loop(text)
    if loop is None:
        return text
    start, period = loop
    end = start + period
    if "\n" in text[start:end]:
        # The period may have been found from the middle of a line on; the copy ends where that line does.
        end = max(end, text.find("\n", end - 1) + 1)
    lines = text[:end].split("\n")
    kept = text[: length_of(lines, len(lines) - 1)]
    return kept if kept.strip() else RejectReason.REPETITION


def cut_repeated_lines(text: str, context: CompletionContext) -> str | RejectReason:
    """Cut where lines repeat the lines right above them, in the text or in the document before the cursor.

    One line or two are often meant to stand twice, so they count from the third time on, or from the second time
    the text repeats the document; a block of three lines and more counts at once.
    """
    lines = text.split("\n")
    places = [index for index in range(len(lines)) if full_line(lines, index, context).strip()]
    above = _lines_above(context)
    sequence = above + [full_line(lines, index, context).rstrip() for index in places]
    for start in range(len(above), len(sequence)):
        for size in range(1, min(_BLOCK_LINES, start) + 1):
            keep = _kept(sequence, start, size, len(above))
            if keep is not None:
                kept = text[: length_of(lines, places[keep - len(above)])]
                return kept if kept.strip() else RejectReason.REPETITION
    return text


def _least(period: int) -> int:
    return 6 * period if period < 10 else 4 * period


def _is_loop(unit: str, length: int) -> bool:
    if not unit.strip():
        return False
    return length >= 100 or (len(unit) >= 3 and _WORD.search(unit) is not None)


def _lines_above(context: CompletionContext) -> list[str]:
    """Return the last non-blank lines above the cursor's line."""
    above = context.above[-4096:]
    return [line.rstrip() for line in re.split(r"[\r\n]+", above) if line.strip()][-_PREFIX_LINES:]


def _kept(sequence: list[str], start: int, size: int, above: int) -> int | None:
    """Return the index before which to cut ``sequence`` if the ``size`` lines before ``start`` repeat from there."""
    unit = sequence[start - size : start]
    copies = 0
    while sequence[start + copies * size : start + (copies + 1) * size] == unit:
        copies += 1
    if size >= 3:
        return start if copies and sum(len(line.strip()) for line in unit) >= _BLOCK_CHARACTERS else None
    if copies < 2:
        return None
    # Where the document itself repeats the lines already, one more time is what the user is at.
    repeats_above = start - size < above and start >= 2 * size and sequence[start - 2 * size : start - size] == unit
    return start + size if repeats_above else start
