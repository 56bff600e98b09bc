"""From a place in a text to a sample: the prompt that serving would render there, and the answer that is wanted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from intract_lsp.completion.context import CompletionContext, build_context, comment_mark
from intract_lsp.completion.generation import Chunk, PromptBudget
from intract_lsp.completion.prompt import FimFormat, Order, Prompt, PromptTokenizer, encode_text, prompt_of
from intract_lsp.completion.request import CompletionRequest, TriggerKind
from intract_lsp.text import WINDOW, Place
from intract_lsp.training.corpus import Piece
from intract_lsp.training.sample import Sample, SampleKind

SENTINEL_ROOM = 8
"""Tokens of a sample beside its text: sentinels, the begin and the end token."""

LEAST_BUDGET = 32
"""Tokens around the cursor; with less there is nothing to complete from."""

CONTEXT_PART = 2 / 7
"""Of a sample's tokens for pieces of other files: as much of it as of a prompt that is served."""

CHARACTERS_OF_TEXT = 3
"""A token of code has rarely fewer."""

END_TOKENS: Mapping[str, str] = MappingProxyType(
    {
        "qwen2.5-coder": "<|endoftext|>",
        "deepseek-coder": "<｜end▁of▁sentence｜>",
        "starcoder2": "<|endoftext|>",
        "codellama": "▁<EOT>",
        "codegemma": "<|file_separator|>",
        "codestral": "</s>",
        "granite": "<|endoftext|>",
    }
)
"""What each family says behind a middle, by the name of its format. A model that is taught to end with another token
never does: that one's embedding is untrained (QwenLM/Qwen3 #1064)."""

Retrieve = Callable[[str, str, str, str, int], tuple[Chunk, ...]]
"""Pieces of other files for a place: from its path, its language, the text above its line, the text below its line and
the room in tokens."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a file and what belongs there; the text around it is what an editor's document would show."""

    path: str
    blob: str
    language: str
    prefix: str = field(repr=False)
    suffix: str = field(repr=False)
    middle: str = field(repr=False)

    def context(self) -> CompletionContext | None:
        """Return what serving makes of a request here; ``None`` where it would refuse even one that is invoked."""
        request = CompletionRequest("", 0, self.language, self.prefix, self.suffix, TriggerKind.INVOKED, self.path)
        found = build_context(request)
        return found if isinstance(found, CompletionContext) else None

    def pieces(self, retrieve: Retrieve, tokens: int) -> tuple[Chunk, ...]:
        """Return what is found for this place, asked as serving asks: by the lines around the cursor's."""
        above = self.prefix[: self.prefix.rfind("\n") + 1]
        end = self.suffix.find("\n")
        return retrieve(self.path, self.language, above, self.suffix[end:] if end >= 0 else "", tokens)


def cursor_at(piece: Piece, start: int, end: int) -> Cursor:
    """Return the cursor at an offset of a piece, the text from there to ``end`` missing."""
    prefix = piece.buffer.before(_place(piece, start), WINDOW)
    suffix = piece.buffer.behind(_place(piece, end), WINDOW)
    return Cursor(piece.path, piece.blob, piece.language, prefix, suffix, piece.text[start:end])


def _place(piece: Piece, offset: int) -> Place:
    line = bisect_right(piece.starts, offset) - 1
    return Place(line, offset - piece.starts[line])


class Renderer:
    """Renders samples of at most ``context_length`` tokens for one model."""

    def __init__(
        self,
        fim: FimFormat,
        tokenizer: PromptTokenizer,
        spells: Callable[[bytes], bool],
        context_length: int,
    ) -> None:
        """``spells`` is as for ``completion.prompt.prompt_of``."""
        self._fim = fim
        self._tokenizer = tokenizer
        self._spells = spells
        self._length = context_length
        infills = fim.order is not Order.LEFT_TO_RIGHT
        self._end = tokenizer.token_id(END_TOKENS.get(fim.name, "")) if infills else None
        self._continues = not infills

    @property
    def context_tokens(self) -> int:
        """Room for pieces of other files in a sample that shows some."""
        return int(self._length * CONTEXT_PART)

    def hole(
        self, cursor: Cursor, kind: SampleKind, around: int, prefix_share: float, chunks: tuple[Chunk, ...] = ()
    ) -> Sample | None:
        """Return the sample of a cursor, ``around`` tokens of text about it as far as there is room.

        ``None`` where serving would not be asked, where too little room is left, and where nothing can be learnt: a
        model without infilling has no way to say that nothing is missing.
        """
        context = cursor.context()
        if context is None or (self._continues and not cursor.middle):
            return None
        context = replace(context, chunks=chunks)
        shown = self.context_tokens if chunks else 0
        answer = self._answer(cursor, "")
        around = min(around, self._length - shown - SENTINEL_ROOM - len(answer))
        # What was typed on the line comes on top of the budget; how much that is, is only known afterwards.
        while around >= LEAST_BUDGET:
            before = int(around * prefix_share)
            prompt = self.prompt(context, PromptBudget(before, around - before, shown))
            answer = self._answer(cursor, prompt.heal)
            excess = len(prompt.ids) + len(answer) - self._length
            if excess <= 0:
                ids = (*prompt.ids, *answer)
                with_context = bool(chunks)
                return Sample(ids, len(prompt.ids), kind, cursor.path, cursor.blob, with_context) if answer else None
            around -= max(excess, LEAST_BUDGET // 4)
        return None

    def prompt(self, context: CompletionContext, budget: PromptBudget) -> Prompt:
        """Return the prompt that serving renders with a budget."""
        return prompt_of(self._fim, context, budget, self._tokenizer, self._spells)

    def text(self, piece: Piece, line: int) -> Sample | None:
        """Return a sample of the piece's text from a line on, below its path as a comment.

        Each token is supervised, but for the first, which has nothing before it.
        """
        header = f"{comment_mark(piece.language)} {piece.path}\n"
        start = piece.starts[line]
        text = header + piece.text[start : start + self._length * CHARACTERS_OF_TEXT * 2]
        begin = self._tokenizer.token_id(self._fim.begin) if self._fim.begin else None
        ids = [*(() if begin is None else (begin,)), *encode_text(text, self._tokenizer)][: self._length]
        if len(ids) < 2:
            return None
        return Sample(tuple(ids), 1, SampleKind.TEXT, piece.path, piece.blob)

    def _answer(self, cursor: Cursor, heal: str) -> list[int]:
        """Return what follows the prompt: the word to be healed, the middle, and that it ends there.

        Left to right there is no end to be told; there the line's end follows, which is where serving stops.
        """
        behind = "\n" if self._continues and cursor.suffix.startswith("\n") else ""
        ids = encode_text(heal + cursor.middle + behind, self._tokenizer)
        return ids if self._end is None else [*ids, self._end]
