"""From a request to what the pipeline works on: the line's halves, the indentation, one line or several.

Knows nothing of tokens, models or LSP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from intract_lsp.completion.generation import Chunk
from intract_lsp.completion.request import CompletionRequest, RejectReason, TriggerKind

_CLOSERS = re.compile(r"""[\s)\]}>"'`]*[;,:]?[\s{]*""")
"""What may stand behind the cursor on its line without stopping a completion: closers, then one separator, then an
opening brace, as in Copilot's mid-line rule (microsoft/vscode-copilot-chat, inlineSuggestion.ts)."""

_LONGEST_CLOSERS = 80
"""A longer rest of a line is more than closers; the pattern takes quadratic time on a long run of white space."""

_BLOCK_OPENER = re.compile(r"(?:[:{(\[]|=>|->|\bthen|\bdo)\s*$")

_HASH_COMMENT = frozenset(
    {
        "python",
        "ruby",
        "shellscript",
        "bash",
        "sh",
        "yaml",
        "toml",
        "makefile",
        "dockerfile",
        "r",
        "perl",
        "elixir",
        "julia",
    }
)
_DASH_COMMENT = frozenset({"lua", "sql", "haskell", "ada"})
_PROSE = frozenset({"markdown", "plaintext", "text", "latex", "restructuredtext", "rst", "gitcommit", "git-commit"})

MIN_PREFIX_CHARACTERS = 2
"""Less text than this before the cursor (blanks not counted) gives a model nothing to go on."""


class Extent(Enum):
    """How much is asked for."""

    LINE = "line"
    """The rest of the cursor's line."""
    BLOCK = "block"
    """Several lines, until the block ends."""


@dataclass(frozen=True)
class CompletionContext:
    """The text around a cursor, with what the filters and the prompt need to know of it."""

    prefix: str
    suffix: str
    language_id: str
    extent: Extent
    path: str = ""
    tab_size: int = 0
    chunks: tuple[Chunk, ...] = ()
    """Of other files, to stand before the prefix."""

    @cached_property
    def line_prefix(self) -> str:
        """The cursor's line up to the cursor."""
        return _last_line(self.prefix)

    @cached_property
    def line_suffix(self) -> str:
        """The cursor's line behind the cursor, without its end."""
        return re.split(r"[\r\n]", self.suffix, maxsplit=1)[0]

    @cached_property
    def above(self) -> str:
        """The text before the cursor's line."""
        return self.prefix[: len(self.prefix) - len(self.line_prefix)]

    @cached_property
    def below(self) -> str:
        """The text behind the cursor's line, from its end on."""
        return self.suffix[len(self.line_suffix) :]

    @cached_property
    def following_lines(self) -> list[str]:
        """The next non-blank lines below the cursor's line, without white space at their ends."""
        return _lines_below(self.suffix)

    @cached_property
    def indent(self) -> str:
        """Leading white space of the cursor's line."""
        line = self.line_prefix
        return line[: len(line) - len(line.lstrip())]

    @cached_property
    def end_of_line(self) -> str:
        """The document's line ending, as seen around the cursor."""
        return "\r\n" if "\r\n" in self.prefix[-4096:] or "\r\n" in self.suffix[:4096] else "\n"

    @cached_property
    def indent_unit(self) -> str:
        """One level of indentation: the text's own, else the editor's, else four spaces."""
        return _indent_unit(self.prefix, self.suffix) or (" " * self.tab_size if self.tab_size else "    ")


def build_context(request: CompletionRequest, multi_line: str = "auto") -> CompletionContext | RejectReason:
    """Decide whether and how much to complete at a cursor.

    ``multi_line`` is ``auto`` (by what stands around the cursor), ``always`` or ``never``. A request that the user
    invoked is refused only where nothing sensible can be inserted.
    """
    prefix, suffix = request.prefix, request.suffix
    if "\0" in prefix or "\0" in suffix:
        return RejectReason.BINARY
    if len(prefix.strip()) < MIN_PREFIX_CHARACTERS:
        return RejectReason.NO_TEXT
    before = prefix[-1:]
    behind = suffix[:1]
    if _is_word(before) and _is_word(behind):
        return RejectReason.MID_WORD
    line_suffix = re.split(r"[\r\n]", suffix, maxsplit=1)[0]
    closers = line_suffix.strip()
    only_closers = len(closers) <= _LONGEST_CLOSERS and _CLOSERS.fullmatch(closers) is not None
    if not only_closers and (_is_word(behind) or request.trigger is TriggerKind.AUTOMATIC):
        return RejectReason.MID_WORD if _is_word(behind) else RejectReason.MID_LINE
    extent = _extent(prefix, line_suffix, suffix, request.language_id, multi_line)
    return CompletionContext(
        prefix=prefix,
        suffix=suffix,
        language_id=request.language_id,
        extent=extent,
        path=request.path,
        tab_size=request.tab_size,
    )


def _extent(prefix: str, line_suffix: str, suffix: str, language_id: str, multi_line: str) -> Extent:
    """Several lines only at a line's end, and then where a block begins or an empty line invites one."""
    if line_suffix.strip() or multi_line == "never":
        return Extent.LINE
    if multi_line == "always":
        return Extent.BLOCK
    line = _last_line(prefix)
    stripped = line.strip()
    if language_id in _PROSE or _is_comment(stripped, language_id):
        return Extent.LINE
    if stripped:
        return Extent.LINE
    indent = len(line.expandtabs(4))
    previous = _last_non_blank_line(prefix)
    if previous is None:
        return Extent.LINE
    following = next(iter(_lines_below(suffix)), "")
    block_is_empty = len(following.expandtabs(4)) - len(following.expandtabs(4).lstrip()) < indent or not following
    return Extent.BLOCK if opens_block(previous, language_id) or block_is_empty else Extent.LINE


def opens_block(line: str, language_id: str) -> bool:
    """Return whether the lines behind a line belong further in."""
    return _BLOCK_OPENER.search(_strip_trailing_comment(line, language_id)) is not None


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _last_line(text: str) -> str:
    start = max(text.rfind("\n"), text.rfind("\r")) + 1
    return text[start:]


def _lines_below(suffix: str) -> list[str]:
    """Return the non-blank lines behind the first; no further than anyone looks, as documents may have megabytes."""
    return [line.rstrip() for line in re.split(r"[\r\n]", suffix[:4096])[1:] if line.strip()]


def _last_non_blank_line(prefix: str) -> str | None:
    tail = prefix[: len(prefix) - len(_last_line(prefix))].rstrip()
    return _last_line(tail) if tail else None


def comment_mark(language_id: str) -> str:
    """Return what begins a comment that ends with its line."""
    return "#" if language_id in _HASH_COMMENT else "--" if language_id in _DASH_COMMENT else "//"


def _is_comment(stripped_line: str, language_id: str) -> bool:
    if language_id in _HASH_COMMENT:
        return stripped_line.startswith("#")
    if language_id in _DASH_COMMENT:
        return stripped_line.startswith("--")
    return stripped_line.startswith(("//", "/*", "* ", "*/", "<!--"))


def _strip_trailing_comment(line: str, language_id: str) -> str:
    index = line.find(" " + comment_mark(language_id))
    return (line[:index] if index >= 0 else line).rstrip()


def _indent_unit(prefix: str, suffix: str) -> str:
    """The smallest step by which indentation grows from one line to the next, over the lines near the cursor."""
    # The pieces at either end may be cut, and the cursor's line is not finished.
    lines = re.split(r"[\r\n]+", prefix[-8192:])[1:-1] + re.split(r"[\r\n]+", suffix[:4096])[1:-1]
    steps: dict[str, int] = {}
    previous = ""
    for line in lines:
        if not line.strip():
            continue
        indent = line[: len(line) - len(line.lstrip())]
        if len(indent) > len(previous) and indent.startswith(previous):
            step = indent[len(previous) :]
            steps[step] = steps.get(step, 0) + 1
        previous = indent
    return max(steps, key=lambda step: (steps[step], -len(step))) if steps else ""
