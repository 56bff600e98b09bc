"""Greedy tokens, several a step where the text repeats itself.

A forward pass checks a tree of drafted tokens and costs little more than one token, since reading the weights takes the
time. The tokens are those of plain greedy decoding. Speculative decoding, Leviathan et al. 2023; checking a tree in
one pass, Miao et al. 2024 (SpecInfer).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from intract_lsp.errors import ModelError
from intract_lsp.inference.drafting import Draft, Drafter, StepCost

if TYPE_CHECKING:
    from intract_lsp.inference.healing import Spelling
    from intract_lsp.inference.kv_cache import Logits, PrefixCache

LONGEST_DRAFT = 8
"""Tokens of a draft; from about ten rows on, a pass costs more for each."""


class Speculator:
    """Drafts behind an answer's tokens, as many as pay on this machine.

    Learns as it goes what a step costs with and without a draft: a number format in which five rows cost five times
    one drafts next to nothing.
    """

    def __init__(self, drafter: Drafter, decode: Callable[[Sequence[int]], str], longest: int = LONGEST_DRAFT) -> None:
        """``decode`` gives an answer's text; with a ``longest`` of 0 decoding is plain."""
        self._drafter = drafter
        self._decode = decode
        self._longest = longest
        self._cost = StepCost()

    def draft(self, answer: Sequence[int], room: int) -> Draft:
        """Return what may follow the tokens of an answer, at most ``room`` tokens."""
        longest = min(self._longest, room)
        return self._drafter.draft(self._decode(answer), self._cost.costs(longest)) if longest > 0 else Draft()

    def learn(self, drafted: int, seconds: float) -> None:
        """Note how long a step with ``drafted`` tokens took."""
        self._cost.learn(drafted, seconds)


def check(cache: PrefixCache, ids: Sequence[int], draft: Draft) -> Logits:
    """Compute ``ids`` and a draft behind them in one pass; return the logits of the last id and of the draft's nodes.

    (1 + draft, vocabulary). Afterwards the cache holds all nodes: whoever calls has it keep those that are right.
    """
    parents = None if draft.is_chain else [*range(-1, len(ids) - 1), *(len(ids) + parent for parent in draft.parents)]
    return cache.append([*ids, *draft.tokens], 1 + len(draft), parents)


def greedy_tokens(
    cache: PrefixCache,
    prompt: Sequence[int],
    draft: Draft,
    logits: Logits,
    spelling: Spelling,
    speculator: Speculator,
    most: int,
) -> Iterator[int]:
    """Yield the most likely tokens behind a prompt without end, the first of them such that they spell a text.

    The cache holds the prompt and a first draft, and ``logits`` are what ``check`` gave for them. Nothing is drafted
    beyond ``most`` tokens. Nothing is computed before it is asked for; whoever stops asking leaves the cache whole.
    Raises ``ModelError`` where the model's output is not a number.
    """
    answer: list[int] = []
    chosen, path = draft.accept(_chooser(logits, spelling))
    cache.keep(len(prompt), path)
    while True:
        for id_ in chosen:
            answer.append(id_)
            yield id_
        # Of the tokens still wanted one comes without a draft.
        draft = speculator.draft(answer, most - len(answer) - 1)
        began = time.perf_counter()
        logits = check(cache, answer[-1:], draft)
        chosen, path = draft.accept(_chooser(logits, spelling))
        cache.keep(len(prompt) + len(answer), path)
        speculator.learn(len(draft), time.perf_counter() - began)


def _chooser(logits: Logits, spelling: Spelling) -> Callable[[int], int]:
    """Return a function that takes the token behind a row, to be called along one path; logits: (rows, vocabulary)."""

    def choose(row: int) -> int:
        # A row at a time: few are on the path, and over a whole vocabulary a maximum takes a while.
        id_ = int(logits[row].argmax())
        if not math.isfinite(logits[row, id_]):
            raise ModelError(
                "The model's output is not a number: reload it or choose another precision (model.precision)."
            )
        return id_ if spelling.done else spelling.choose(logits[row])

    return choose
