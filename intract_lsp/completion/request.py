"""Value types of one completion: what is asked, what is answered, and why nothing is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from intract_lsp.completion.generation import Chunk


class TriggerKind(Enum):
    """How the request came about."""

    AUTOMATIC = "automatic"
    """The user typed."""
    INVOKED = "invoked"
    """The user asked for a suggestion."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A cursor in a document, as an immutable copy."""

    uri: str
    version: int
    language_id: str
    prefix: str
    """Text before the cursor from a line's start on, possibly not the first line; other notebook cells included."""
    suffix: str
    """Text behind the cursor, possibly cut at a line's end."""
    trigger: TriggerKind = TriggerKind.AUTOMATIC
    path: str = ""
    """Path inside the workspace with ``/``, or the document's last name; empty for documents that are not files."""
    tab_size: int = 0
    """Columns of one indentation level as the editor has it; 0 = infer it from the text."""


class RejectReason(str, Enum):
    """Why a request shows nothing. The value is stable (logs, JSON); ``sentence`` is for people."""

    DISABLED = "disabled"
    LANGUAGE_OFF = "language-off"
    NO_MODEL = "no-model"
    LOADING = "loading"
    RESTING = "resting"
    MODEL_FAILED = "model-failed"
    UNKNOWN_DOCUMENT = "unknown-document"
    OUTSIDE_DOCUMENT = "outside-document"
    BINARY = "binary"
    SECRET_FILE = "secret-file"
    NO_TEXT = "no-text"
    MID_WORD = "mid-word"
    MID_LINE = "mid-line"
    POPUP_MISMATCH = "popup-mismatch"
    AFTER_ACCEPT = "after-accept"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    STALE = "stale"
    DEADLINE = "deadline"
    EMPTY = "empty"
    BLANK = "blank"
    REPEATS_SUFFIX = "repeats-suffix"
    REPETITION = "repetition"
    SENTINEL = "sentinel"
    SECRET = "secret"
    ENGINE_ERROR = "engine-error"

    @property
    def sentence(self) -> str:
        """The reason in words, as ``intract.why`` shows it."""
        return _SENTENCES[self]


_SENTENCES = {
    RejectReason.DISABLED: "Completions are switched off; run the command intract.toggle to switch them on.",
    RejectReason.LANGUAGE_OFF: "Completions are off for this language (setting completion.disabled_languages).",
    RejectReason.NO_MODEL: "No model is loaded; run `intract-lsp models pull` or the command intract.selectModel.",
    RejectReason.LOADING: "The model is still loading.",
    RejectReason.RESTING: "The model makes room for a fine-tuning run and comes back when that is over.",
    RejectReason.MODEL_FAILED: "The model could not be loaded; intract.status has the cause.",
    RejectReason.UNKNOWN_DOCUMENT: "The editor asked for a document that it has not opened.",
    RejectReason.OUTSIDE_DOCUMENT: "The position lies outside the document.",
    RejectReason.BINARY: "The document looks binary.",
    RejectReason.SECRET_FILE: "Files that hold secrets are never completed.",
    RejectReason.NO_TEXT: "There is too little text around the cursor to complete from.",
    RejectReason.MID_WORD: "The cursor stands inside a word.",
    RejectReason.MID_LINE: "There is text behind the cursor that is more than closing brackets.",
    RejectReason.POPUP_MISMATCH: "The popup's selected item does not continue what is typed.",
    RejectReason.AFTER_ACCEPT: "A suggestion was accepted here and ended just before the cursor.",
    RejectReason.SUPERSEDED: "A newer request of the same document took over.",
    RejectReason.CANCELLED: "The editor cancelled the request.",
    RejectReason.STALE: "The document changed while the model was answering.",
    RejectReason.DEADLINE: "The deadline passed before there was usable text.",
    RejectReason.EMPTY: "The model had nothing to add.",
    RejectReason.BLANK: "The model suggested only white space.",
    RejectReason.REPEATS_SUFFIX: "The suggestion repeated what already follows the cursor.",
    RejectReason.REPETITION: "The suggestion went round in circles.",
    RejectReason.SENTINEL: "The suggestion was made of the model's control tokens.",
    RejectReason.SECRET: "The suggestion contained something that looks like a secret.",
    RejectReason.ENGINE_ERROR: "The model failed on this request; the log has the error.",
}


class Source(str, Enum):
    """Where a suggestion's text came from."""

    MODEL = "model"
    CACHE = "cache"
    IN_FLIGHT = "in-flight"
    """A generation that an earlier request had started and that covers what was typed since."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Text to offer at the cursor."""

    id: str
    text: str
    replace: int = 0
    """How many characters behind the cursor (same line) the text takes the place of."""
    source: Source = Source.MODEL


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one request's time went, in milliseconds, and how many tokens it touched."""

    queue: float = 0.0
    """Debounce and waiting for the worker."""
    retrieve: float = 0.0
    tokenize: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    filter: float = 0.0
    total: float = 0.0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Prompt tokens whose keys and values were still in the KV cache."""
    generated_tokens: int = 0

    STAGES: ClassVar[tuple[str, ...]] = ("queue", "retrieve", "tokenize", "prefill", "decode", "filter", "total")

    def milliseconds(self) -> dict[str, float]:
        """Return the stages' times, rounded to a tenth of a millisecond."""
        return {name: round(getattr(self, name), 1) for name in self.STAGES}


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A piece of another file, with why it was chosen."""

    chunk: Chunk
    start_line: int
    """Of the piece, from 0."""
    sources: tuple[str, ...]
    """What proposed it, the one that ranked it best first."""
    score: float
    tokens: int
    """What it costs in the prompt, estimated."""

    def values(self) -> dict[str, Any]:
        """Return where it is from and why it was chosen, without its text, as JSON values; lines count from 1."""
        first = self.start_line + 1
        return {
            "path": self.chunk.path,
            "start_line": first,
            "end_line": first + self.chunk.text.count("\n"),
            "sources": list(self.sources),
            "score": round(self.score, 4),
            "tokens": self.tokens,
        }


@dataclass(frozen=True, slots=True)
class CompletionResult:
    """The answer to one request: a suggestion, or the reason why there is none (never both, never neither)."""

    suggestion: Suggestion | None
    reject_reason: RejectReason | None
    timings: Timings = field(default_factory=Timings)
    model: str = ""
    pieces: tuple[Retrieved, ...] = ()
    """Of other files, that the prompt held; none where no model was asked."""

    def __post_init__(self) -> None:
        if (self.suggestion is None) == (self.reject_reason is None):
            raise ValueError("a result holds either a suggestion or a reject reason")
