"""Closing brackets behind the cursor that the text brings along."""

from __future__ import annotations

import re

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.request import RejectReason

_PAIRS = {")": "(", "]": "[", "}": "{"}
_OPENERS = {opener: closer for closer, opener in _PAIRS.items()}
_BALANCED = frozenset("()[]{}\"'`")
_CLOSERS = frozenset(")]}>\"'`;,:{ \t")
_TAIL = re.compile(r"[^\w\n]*\Z")
_LONGEST_REST = 80
_MOST_TRIMMED = 16
_ABOVE = 2000
"""Characters of the lines above that are read for the openers of closers behind the cursor."""
_LINE_PREFIX = 400
"""Characters of the cursor's line that are read; a minified file can have megabytes on one line."""
_STRING_PREFIX = re.compile(r"(?:^|\W)[rbfuRBFU]{1,2}$")


def is_closers(rest: str) -> bool:
    """Whether the rest of a line holds only closers, quotes, separators and blanks."""
    return len(rest) <= _LONGEST_REST and _CLOSERS.issuperset(rest)


def covered(text: str, context: CompletionContext) -> int:
    """Return how many characters behind the cursor the text takes the place of.

    Only closers that occur in the text in this order can be covered, which is also what VS Code needs to draw ghost
    text over them. Among the possible numbers the one wins that leaves the fewest brackets and quotes of the line
    open or surplus, and the greatest of those.
    """
    return _best(text, context)[1]


def trim_surplus_closers(text: str, context: CompletionContext) -> str | RejectReason:
    """Trim closers from the text's end where together with those behind the cursor they are too many."""
    rest = context.line_suffix
    if not rest.strip() or not is_closers(rest):
        return text
    # Only what also stands behind the cursor can be there twice.
    closers = len(text) - len(text.rstrip(rest + " "))
    open_or_surplus, best = _best(text, context)[0], len(text)
    for length in range(len(text) - 1, len(text) - 1 - min(closers, _MOST_TRIMMED), -1):
        faults = _best(text[:length], context)[0]
        if faults < open_or_surplus:
            open_or_surplus, best = faults, length
    kept = text[:best]
    return kept if kept.strip() or not text.strip() else RejectReason.REPEATS_SUFFIX


def _best(text: str, context: CompletionContext) -> tuple[int, int]:
    """Return the least number of faults and the most characters that can be covered with it."""
    rest = context.line_suffix
    if not rest or not is_closers(rest):
        return 0, 0
    line_prefix = context.line_prefix[-_LINE_PREFIX:]
    head = _Scan(context.language_id, _open_above(line_prefix + rest, context))
    head.read(line_prefix + text)
    best = (head.copy().faults_after(rest), 0)
    tail = len(text) - len(_tail(text))
    position = 0
    for count, character in enumerate(rest, start=1):
        # Brackets and quotes are judged by balance; a separator inside the text is no sign that it is the one behind.
        position = text.find(character, position if character in _BALANCED else max(position, tail)) + 1
        if position == 0:
            break
        faults = head.copy().faults_after(rest[count:])
        if faults <= best[0]:
            best = (faults, count)
    return best


def _open_above(line: str, context: CompletionContext) -> list[str]:
    """Return the brackets open on the lines above whose closers stand on the cursor's line."""
    scan = _Scan(context.language_id)
    scan.read(line)
    lines_above = _Scan(context.language_id)
    lines_above.read(context.above[-_ABOVE:])
    needed: list[str] = []
    for closer in scan.surplus:
        if not lines_above.stack or lines_above.stack[-1] != _PAIRS[closer]:
            break
        needed.append(lines_above.stack.pop())
    return needed[::-1]


def _tail(text: str) -> str:
    """Return the punctuation and white space at the end of the text's last line."""
    # Only the last characters are searched: the pattern would try every start of a long line.
    match = _TAIL.search(text[-_LONGEST_REST:])
    return match.group() if match else ""


class _Scan:
    """Reads code and keeps the open brackets, the open quote and the closers too many; strings only roughly."""

    def __init__(self, language_id: str, stack: list[str] | None = None) -> None:
        self.language_id = language_id
        self.stack = list(stack or [])
        self.quote = ""
        self.surplus: list[str] = []
        self.skipped = 0

    def copy(self) -> _Scan:
        twin = _Scan(self.language_id, self.stack)
        twin.quote, twin.surplus, twin.skipped = self.quote, list(self.surplus), self.skipped
        return twin

    def read(self, text: str) -> None:
        escaped = False
        for index, character in enumerate(text):
            if escaped:
                escaped = False
            elif self.quote:
                escaped = character == "\\"
                if character == self.quote or (character == "\n" and self.quote != "`"):
                    self.quote = ""
            elif character in "\"'`":
                self.quote = character if self._opens_string(text, index) else ""
            elif character in _OPENERS:
                self.stack.append(character)
            elif character in _PAIRS:
                self._close(character)

    def faults_after(self, text: str) -> int:
        self.read(text)
        return len(self.stack) + len(self.surplus) + self.skipped + bool(self.quote)

    def _close(self, closer: str) -> None:
        """Close the nearest opener of this kind; those within stay open, as after ``foo(() => {)``."""
        if _PAIRS[closer] not in self.stack:
            self.surplus.append(closer)
            return
        while self.stack.pop() != _PAIRS[closer]:
            self.skipped += 1

    def _opens_string(self, text: str, index: int) -> bool:
        """Whether the quote at ``index`` begins a string: an apostrophe and a lifetime do not."""
        if text[index] != "'":
            return True
        if self.language_id == "rust":
            return False
        before = text[:index][-3:]
        return not before[-1:].isalnum() or _STRING_PREFIX.search(before) is not None
