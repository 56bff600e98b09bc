"""Texts to learn from: the index's policy applied to files' contents, and what is cut out of them for its secrets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import PurePosixPath

from intract_lsp.index.chunker import chunk_file
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.parsed import parse_file
from intract_lsp.index.policy import refuse_path, refuse_size, refuse_text
from intract_lsp.index.secrets import has_secret, secret_lines
from intract_lsp.languages import language_id
from intract_lsp.text import PositionEncoding, TextBuffer

NOT_CODE = frozenset({"plaintext", "markdown", "restructuredtext", "json"})
"""Languages that are in the index and not in the training: prose and data."""

NO_CODE = "It is prose or data, which the index shows and training leaves out."
NO_CELLS = "It is a notebook without code."
MIXED_LINE_ENDS = "Its lines end in several ways, so that they cannot be counted as git counts them."
EMPTY = "It is empty."
NOTHING_LEFT = "All of it stands beside something that looks like a secret."

LEAST_PIECE = 40
"""Characters of a piece; less is a scrap between two secrets."""

MOST_SECRETS = 200
"""Lines with secrets beyond which nothing is taken from a file."""

_TELLING = 8
"""Characters of a line from which on it is recognised as a part of another one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is left out."""

    path: str
    reason: str
    """A sentence for people."""


@dataclass(frozen=True)
class Piece:
    """A text to learn from: a file, or what of it lies between two places that seem to hold secrets."""

    path: str
    """In the workspace, with ``/``."""
    blob: str
    """Hash of the whole file as git has it."""
    language: str
    text: str = field(repr=False)
    """Its lines end with ``\\n``."""
    first_line: int = 0
    """Line of the file that it begins with."""

    @cached_property
    def lines(self) -> list[str]:
        """Without their ends; the empty one behind a final line end counts."""
        return self.text.split("\n")

    @cached_property
    def starts(self) -> list[int]:
        """Where each line begins."""
        return list(accumulate((len(line) + 1 for line in self.lines[:-1]), initial=0))

    @cached_property
    def buffer(self) -> TextBuffer:
        """The text as an editor's document."""
        return TextBuffer(self.text, PositionEncoding.UTF32)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A file that is used."""

    path: str
    blob: str
    pieces: tuple[Piece, ...]
    text: str = field(repr=False)
    """All of it. Where it ``has_secrets``, for nothing but looking whether a model gives them away."""
    has_secrets: bool = False
    is_notebook: bool = False
    """Its lines are those of the cells, and not the file's as git counts them."""


def admit(path: str, blob: str, content: bytes, grammars: Grammars) -> Admitted | Refused:
    """Return what of a file's content may be learnt from, or why nothing. Ignore files are not asked."""
    if reason := refuse_name(path):
        return Refused(path, reason)
    if refusal := refuse_size(path, len(content)):
        return Refused(path, refusal.value)
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    if refusal := refuse_text(path, text):
        return Refused(path, refusal.value)
    if is_notebook := _is_notebook(path):
        language, text = _code_of_cells(path, text, grammars)
        if not text.strip():
            return Refused(path, NO_CELLS)
    else:
        language = language_id(path)
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        return Refused(path, MIXED_LINE_ENDS)
    if not text.strip():
        return Refused(path, EMPTY)
    secrets = secret_lines(text)
    whole = Piece(path, blob, language, text)
    pieces = tuple(_without_secrets(whole, secrets, grammars)) if secrets else (whole,)
    if not pieces:
        return Refused(path, NOTHING_LEFT)
    return Admitted(path, blob, pieces, text, bool(secrets), is_notebook)


def refuse_name(path: str) -> str | None:
    """Return why a file is not learnt from by its path alone."""
    if refusal := refuse_path(path):
        return refusal.value
    return NO_CODE if language_id(path) in NOT_CODE and not _is_notebook(path) else None


def by_reason(refused: Iterable[Refused]) -> Mapping[str, tuple[str, ...]]:
    """Return the paths of files that were left out by the reason, the most frequent first."""
    found: dict[str, list[str]] = {}
    for each in refused:
        found.setdefault(each.reason, []).append(each.path)
    return {reason: tuple(sorted(found[reason])) for reason in sorted(found, key=lambda one: (-len(found[one]), one))}


def _is_notebook(path: str) -> bool:
    return PurePosixPath(path.lower()).suffix == ".ipynb"


def _code_of_cells(path: str, text: str, grammars: Grammars) -> tuple[str, str]:
    """Return the language of a notebook's first code cell, and its cells as serving joins them.

    Outputs, prose and cells of other languages are left out; commands to the notebook are comments, as in the index.
    """
    cells = [cell for cell in parse_file(path, text, grammars) if not cell.is_prose and cell.lines]
    if not cells:
        return "", ""
    language = cells[0].language
    return language, "\n".join("\n".join(cell.lines) + "\n" for cell in cells if cell.language == language)


def _without_secrets(whole: Piece, secrets: frozenset[int], grammars: Grammars) -> Iterator[Piece]:
    if len(secrets) > MOST_SECRETS:
        return
    dropped = _dropped(whole.path, whole.text, whole.lines, secrets, grammars)
    first = 0
    for number in (*sorted(dropped), len(whole.lines)):
        piece = "\n".join(whole.lines[first:number])
        # What is left of a secret that was cut in two may be known again by itself.
        if len(piece.strip()) >= LEAST_PIECE and not has_secret(piece):
            yield Piece(whole.path, whole.blob, whole.language, piece, first)
        first = number + 1


def _dropped(path: str, text: str, lines: Sequence[str], secrets: frozenset[int], grammars: Grammars) -> set[int]:
    """Return the lines of the smallest chunk around each secret, and those that repeat some of one."""
    spans = [(chunk.start_line, chunk.end_line) for chunk in chunk_file(path, text, grammars)]
    dropped: set[int] = set()
    for number in secrets:
        around = [span for span in spans if span[0] <= number < span[1]] or [(number, number + 1)]
        dropped.update(range(*min(around, key=lambda span: span[1] - span[0])))
    texts = [shown for number in secrets if (shown := lines[number].strip())]
    for number, line in enumerate(lines):
        shown = line.strip()
        if len(shown) >= _TELLING and any(shown in secret or secret in shown for secret in texts):
            dropped.add(number)
    return dropped
