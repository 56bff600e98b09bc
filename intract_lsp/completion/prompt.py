"""Every prompt of the project: fill-in-the-middle formats, budgets, and one ``render`` for serving and training.

A table of formats, and pure functions from text to token ids. The tokenizer is handed in, so nothing here depends on
how it was loaded. Sources of the formats: the model cards and papers of Qwen2.5-Coder (Hui et al. 2024), DeepSeek-Coder
(Guo et al. 2024), StarCoder2 (Lozhkov et al. 2024), Code Llama (Rozière et al. 2023), CodeGemma (2024), Codestral
(mistral-common) and Granite Code (Mishra et al. 2024); FIM itself from Bavarian et al. 2022.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from intract_lsp.completion.anchor import Anchored, split
from intract_lsp.completion.context import CompletionContext, comment_mark
from intract_lsp.completion.generation import Chunk, PromptBudget

CHARACTERS_PER_TOKEN = 8
"""More than code spends on a token, so that this many characters times the budget always hold the budget's tokens."""

LONGEST_TYPED = 96
"""Tokens of the cursor's line that an anchored prompt may hold."""


class PromptTokenizer(Protocol):
    """What rendering needs to know of a tokenizer."""

    control_tokens: frozenset[str]
    """Texts that the tokenizer would turn into one control token wherever they stand."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, nothing added before or after."""

    def token_id(self, token: str) -> int | None:
        """Return the id of a single token, or ``None`` where the vocabulary lacks it."""


class Order(Enum):
    """Which part of the file comes first in the prompt."""

    PSM = "prefix-suffix-middle"
    SPM = "suffix-prefix-middle"
    LEFT_TO_RIGHT = "left-to-right"
    """No infilling: the prefix alone."""


@dataclass(frozen=True, slots=True)
class FimFormat:
    """How one family of models wants to be asked for a middle."""

    name: str
    order: Order
    prefix: str = ""
    suffix: str = ""
    middle: str = ""
    begin: str = ""
    """Token at the very start, where the family was trained with one."""
    file: str = ""
    """Sentinel before each file of a repo-level prompt, which tells families apart and ends an answer."""
    ends: tuple[str, ...] = ()
    """Further tokens that end a generation, besides the sentinels above and the tokenizer's own end token."""

    @property
    def sentinels(self) -> tuple[str, ...]:
        """The tokens without which the format cannot be used."""
        return tuple(token for token in (self.prefix, self.suffix, self.middle) if token)


LEFT_TO_RIGHT = FimFormat("none", Order.LEFT_TO_RIGHT)

FORMATS: dict[str, FimFormat] = {
    spec.name: spec
    for spec in (
        FimFormat(
            "qwen2.5-coder",
            Order.PSM,
            prefix="<|fim_prefix|>",
            suffix="<|fim_suffix|>",
            middle="<|fim_middle|>",
            file="<|file_sep|>",
            ends=("<|repo_name|>", "<|fim_pad|>", "<|endoftext|>", "<|im_end|>", "<|im_start|>"),
        ),
        FimFormat(
            "deepseek-coder",
            Order.PSM,
            prefix="<｜fim▁begin｜>",
            suffix="<｜fim▁hole｜>",
            middle="<｜fim▁end｜>",
            begin="<｜begin▁of▁sentence｜>",
            ends=("<｜end▁of▁sentence｜>", "<|EOT|>"),
        ),
        FimFormat(
            "starcoder2",
            Order.PSM,
            prefix="<fim_prefix>",
            suffix="<fim_suffix>",
            middle="<fim_middle>",
            file="<file_sep>",
            ends=("<repo_name>", "<|endoftext|>", "<fim_pad>"),
        ),
        FimFormat(
            "codellama",
            Order.PSM,
            prefix="▁<PRE>",
            suffix="▁<SUF>",
            middle="▁<MID>",
            begin="<s>",
            ends=("▁<EOT>", "</s>"),
        ),
        FimFormat(
            "codegemma",
            Order.PSM,
            prefix="<|fim_prefix|>",
            suffix="<|fim_suffix|>",
            middle="<|fim_middle|>",
            begin="<bos>",
            file="<|file_separator|>",
            ends=("<eos>", "<end_of_turn>"),
        ),
        FimFormat(
            "codestral",
            Order.SPM,
            prefix="[PREFIX]",
            suffix="[SUFFIX]",
            begin="<s>",
            ends=("</s>", "[MIDDLE]"),
        ),
        FimFormat(
            "granite",
            Order.PSM,
            prefix="<fim_prefix>",
            suffix="<fim_suffix>",
            middle="<fim_middle>",
            ends=("<|endoftext|>", "<fim_pad>", "<filename>", "<reponame>"),
        ),
        LEFT_TO_RIGHT,
    )
}
"""By family name, as the model catalogue spells it."""

_DETECTION_ORDER = ("deepseek-coder", "codellama", "codestral", "codegemma", "qwen2.5-coder", "starcoder2", "granite")
"""Families whose tokens are theirs alone come first; CodeGemma before Qwen, since it has Qwen's sentinels and more."""


@dataclass(frozen=True, slots=True)
class PromptSource:
    """The text that a prompt is made of."""

    prefix: str
    suffix: str
    comment: str = "#"
    """What begins a comment in the current file's language."""
    chunks: tuple[Chunk, ...] = ()
    """In the order in which they stand before the current file's text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt."""

    ids: tuple[int, ...]
    prefix: str
    """The part of the source's prefix that the model sees, what is to be healed included."""
    suffix: str
    heal: str = ""
    """The end of ``prefix``, where ``ids`` lack it: the answer has to begin with it, in whatever tokens spell it."""


def resolve_format(family: str, tokenizer: PromptTokenizer) -> tuple[FimFormat, str]:
    """Return the format to use with a tokenizer, and a note for the user where it is not the family's own.

    ``family`` may be empty: then the first format is taken whose sentinels the tokenizer has as single tokens.
    """
    if family and family in FORMATS:
        wanted = FORMATS[family]
        missing = [token for token in wanted.sentinels if tokenizer.token_id(token) is None]
        if not missing:
            return wanted, ""
        return LEFT_TO_RIGHT, (
            f"The tokenizer lacks {', '.join(missing)}, which {family} prompts need: "
            "completing left to right, without the text behind the cursor."
        )
    for name in _DETECTION_ORDER:
        candidate = FORMATS[name]
        needed = (*candidate.sentinels, *((candidate.file,) if candidate.file else ()))
        if all(tokenizer.token_id(token) is not None for token in needed):
            return candidate, ""
    return LEFT_TO_RIGHT, (
        "The tokenizer has no fill-in-the-middle tokens: completing left to right, without the text behind the cursor."
    )


def end_ids(fim: FimFormat, tokenizer: PromptTokenizer) -> frozenset[int]:
    """Return the ids that end a generation: the format's end tokens and every sentinel, none of which is text."""
    tokens = (*fim.sentinels, *fim.ends, fim.file, fim.begin)
    ids = (tokenizer.token_id(token) for token in tokens if token)
    return frozenset(id_ for id_ in ids if id_ is not None)


def prompt_of(
    fim: FimFormat,
    context: CompletionContext,
    budget: PromptBudget,
    tokenizer: PromptTokenizer,
    spells: Callable[[bytes], bool],
    *,
    anchored: bool = True,
) -> Prompt:
    """Render the prompt of a cursor: what serving feeds the model, and what training shows it.

    ``spells`` says whether the vocabulary can spell some bytes from any point on (``healing.Vocabulary.spells``): a
    word that it cannot spell is no answer's beginning and stays in the prompt.
    """
    source = PromptSource(context.prefix, context.suffix, comment_mark(context.language_id), context.chunks)
    prompt = render(fim, source, budget, tokenizer, anchored=anchored)
    if spells(prompt.heal.encode()):
        return prompt
    return replace(prompt, ids=(*prompt.ids, *encode_text(prompt.heal, tokenizer)), heal="")


def render(
    fim: FimFormat, source: PromptSource, budget: PromptBudget, tokenizer: PromptTokenizer, *, anchored: bool = False
) -> Prompt:
    """Render a prompt whose text on either side of the cursor fits the budget.

    Chunks of other files stand before the prefix, each below its path as a comment: in a format that families were
    trained with for whole repositories, small models copy the chunks' style less and complete worse (measured on
    commit replay). A chunk that is too long for what is left of their budget is left out.

    What one side leaves of its budget goes to the other. The prefix is cut at a line start that moves only every few
    lines while the user types on (see ``_prefix_start``), so that the KV cache of the earlier lines stays usable.

    ``anchored`` makes what was typed on the cursor's line the beginning of the middle, in formats that have the suffix
    before it: all else in the prompt is then the same for each keystroke on the line. The last word is left to be
    healed. What was typed comes on top of the budget; where it has more than ``typed_room`` tokens, and in the other
    formats, the prompt is as without ``anchored``.
    """
    source = replace(source, prefix=_plain_lines(source.prefix), suffix=_plain_lines(source.suffix))
    parts = Anchored(source.prefix)
    typed_ids: list[int] = []
    if anchored and fim.order is Order.PSM:
        parts, typed_ids = _anchor(source.prefix, typed_room(budget), tokenizer)
    if fim.order is Order.LEFT_TO_RIGHT:
        prefix_budget, suffix_budget = budget.prefix + budget.suffix, 0
    else:
        total = budget.prefix + budget.suffix
        prefix_need = _count(_tail(parts.head, total), tokenizer, total)
        suffix_need = _count(source.suffix[: total * CHARACTERS_PER_TOKEN], tokenizer, total)
        prefix_budget = max(budget.prefix, total - suffix_need)
        suffix_budget = max(budget.suffix, total - prefix_need)
    prefix, prefix_ids = _fit_prefix(parts.head, prefix_budget, tokenizer)
    # A prefix cut at a line's start may have more tokens than the piece of it that was counted.
    suffix_budget = min(suffix_budget, budget.prefix + budget.suffix - len(prefix_ids))
    suffix, suffix_ids = _fit_suffix(source.suffix, suffix_budget, tokenizer)
    lead = _control(fim.begin, tokenizer)
    opening = [*_control(fim.prefix, tokenizer), *_fit_chunks(source, budget.context, tokenizer)]
    if fim.order is Order.LEFT_TO_RIGHT:
        ids = [*lead, *opening, *prefix_ids]
    elif fim.order is Order.SPM:
        ids = [*lead, *_control(fim.suffix, tokenizer), *suffix_ids, *opening, *prefix_ids]
    else:
        ids = [
            *lead,
            *opening,
            *prefix_ids,
            *_control(fim.suffix, tokenizer),
            *suffix_ids,
            *_control(fim.middle, tokenizer),
            *typed_ids,
        ]
    heal = _well_formed(parts.word)
    return Prompt(ids=tuple(ids), prefix=prefix + parts.typed + parts.word, suffix=suffix, heal=heal)


def typed_room(budget: PromptBudget) -> int:
    """Return how many tokens an anchored prompt may have beyond its budget."""
    return min(LONGEST_TYPED, (budget.prefix + budget.suffix) // 4)


def encode_text(text: str, tokenizer: PromptTokenizer) -> list[int]:
    """Encode the user's text so that no part of it becomes a control token, however it is spelled.

    The text is left as it is: where a control token's spelling occurs, its first character is encoded apart.
    """
    pieces = neutral_pieces(_well_formed(text), tokenizer.control_tokens)
    return [id_ for piece in pieces for id_ in tokenizer.encode(piece)]


def neutral_pieces(text: str, control_tokens: frozenset[str]) -> list[str]:
    """Split text so that no piece contains a control token's spelling; the pieces joined are the text."""
    if not any(token in text for token in control_tokens):
        return [text]
    pattern = re.compile("|".join(re.escape(token) for token in sorted(control_tokens, key=len, reverse=True)))
    pieces: list[str] = []
    start = 0
    while (match := pattern.search(text, start)) is not None:
        cut = match.start() + 1
        pieces.append(text[start:cut])
        start = cut
    pieces.append(text[start:])
    return [piece for piece in pieces if piece]


def _fit_chunks(source: PromptSource, budget: int, tokenizer: PromptTokenizer) -> list[int]:
    """Return the ids of the chunks that fit ``budget`` tokens, each with its path."""
    ids: list[int] = []
    for chunk in source.chunks:
        text = f"{source.comment} {chunk.path}\n{_plain_lines(chunk.text).rstrip()}\n\n"
        found = encode_text(text, tokenizer)
        if len(ids) + len(found) <= budget:
            ids += found
    return ids


def _control(token: str, tokenizer: PromptTokenizer) -> list[int]:
    id_ = tokenizer.token_id(token) if token else None
    return [] if id_ is None else [id_]


def _anchor(prefix: str, room: int, tokenizer: PromptTokenizer) -> tuple[Anchored, list[int]]:
    """Split a prefix at the cursor's line, with the ids of what was typed; nowhere if these are more than ``room``."""
    parts = split(prefix, room * CHARACTERS_PER_TOKEN)
    ids = encode_text(parts.typed, tokenizer)
    return (parts, ids) if len(ids) <= room else (Anchored(prefix), [])


def _fit_prefix(text: str, budget: int, tokenizer: PromptTokenizer) -> tuple[str, list[int]]:
    """Return the end of ``text`` that fits ``budget`` tokens, from a line's start on, with its ids."""
    if budget <= 0:
        return "", []
    lines = text.splitlines(keepends=True)
    limit = budget * CHARACTERS_PER_TOKEN
    first, tokens, characters = len(lines), 0, 0
    while first > 0 and characters < limit:
        line = lines[first - 1]
        count = len(encode_text(line[-limit:], tokenizer))
        if tokens + count > budget:
            break
        first, tokens, characters = first - 1, tokens + count, characters + len(line)
    if first == len(lines) and lines:
        # Not even the cursor's own line fits: its end has to do.
        ids = encode_text(lines[-1][-limit:], tokenizer)[-budget:]
        return lines[-1][-limit:], ids
    window = "".join(lines[_prefix_start(first, len(lines)) :])
    return window, encode_text(window, tokenizer)[-budget:]


def _prefix_start(first: int, count: int) -> int:
    """Return the line to start at, given the first line that would fit and the number of lines.

    A multiple of a power of two of at most a quarter of the lines that fit: stateless, so that training renders the
    same prompt, and constant while several lines are typed.
    """
    if first == 0:
        return 0
    step = 1
    while step * 2 <= (count - first) // 4 and step < 64:
        step *= 2
    return -(-first // step) * step


def _fit_suffix(text: str, budget: int, tokenizer: PromptTokenizer) -> tuple[str, list[int]]:
    """Return the beginning of ``text`` that fits ``budget`` tokens, whole lines where possible, with its ids."""
    if budget <= 0 or not text:
        return "", []
    limit = budget * CHARACTERS_PER_TOKEN
    taken, tokens = 0, 0
    for line in text[:limit].splitlines(keepends=True):
        count = len(encode_text(line, tokenizer))
        if tokens + count > budget:
            break
        taken, tokens = taken + len(line), tokens + count
    window = text[:taken] if taken else text[:limit]
    return window, encode_text(window, tokenizer)[:budget]


def _count(text: str, tokenizer: PromptTokenizer, at_most: int) -> int:
    return min(at_most, len(encode_text(text, tokenizer)))


def _tail(text: str, tokens: int) -> str:
    return text[-tokens * CHARACTERS_PER_TOKEN :] if tokens else ""


def _plain_lines(text: str) -> str:
    """Models were trained on line feeds; a carriage return before each costs a token and answers in kind."""
    return text.replace("\r\n", "\n")


def _well_formed(text: str) -> str:
    """Replace lone surrogates, which editors may send and no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _SURROGATE.search(text) else text


_SURROGATE = re.compile("[\ud800-\udfff]")
