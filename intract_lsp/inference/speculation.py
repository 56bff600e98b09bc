"""Greedy tokens, several a step where the text repeats itself.

A forward pass checks a tree of drafted tokens and costs little more than one token, since reading the weights takes the
time. The tokens are those of plain greedy decoding. Speculative decoding, Leviathan et al. 2023; checking a tree in
one pass, Miao et al. 2024 (SpecInfer).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from intract_lsp.errors import ModelError
from intract_lsp.inference.drafting import Draft, Drafter, StepCost

if TYPE_CHECKING:
    from intract_lsp.completion.generation import CancelToken
    from intract_lsp.inference.draft_model import DraftModel
    from intract_lsp.inference.healing import Spelling
    from intract_lsp.inference.kv_cache import Logits, PrefixCache

log = logging.getLogger(__name__)

LONGEST_DRAFT = 8
"""Tokens of a draft; from about ten rows on, a pass costs more for each."""


TRIALS = 4
"""Steps with the draft model's drafts before it is told whether they pay."""

ANOTHER_TRIAL = 64
"""Steps without it after which it is tried once more: the text may be another kind now."""

_FORGETTING = 0.05


class Speculator:
    """Drafts behind an answer's tokens, as many as pay on this machine.

    Learns as it goes what a step costs with and without a draft: a number format in which five rows cost five times
    one drafts next to nothing. Where there is a draft model it also learns what that one's drafts give a second, and
    takes them where that is more than what the text foretells is expected to.
    """

    def __init__(
        self,
        drafter: Drafter,
        decode: Callable[[Sequence[int]], str],
        longest: int = LONGEST_DRAFT,
        model: DraftModel | None = None,
    ) -> None:
        """``decode`` gives an answer's text; with a ``longest`` of 0 decoding is plain."""
        self._drafter = drafter
        self._decode = decode
        self._longest = longest
        self._model = model
        self._cost = StepCost()
        self._rate = _ModelRate()
        self._given_back = 0

    def begin(self, prompt: Sequence[int], given_back: str, token: CancelToken) -> None:
        """Take what the answer to come follows: for the draft model, which stops at the next pass with ``token``.

        ``given_back`` is the text that the answer begins with; to spell it is not the draft model's affair.
        """
        self._given_back = len(given_back)
        self._rate.begin()
        if self._model is not None:
            self._model.begin(prompt, token)

    def draft(self, answer: Sequence[int], room: int) -> Draft:
        """Return what may follow the tokens of an answer, at most ``room`` tokens."""
        longest = min(self._longest, room)
        if longest <= 0:
            return Draft()
        text, costs = self._decode(answer), self._cost.costs(longest)
        found = self._drafter.draft(text, costs)
        if self._model is None or len(text) < self._given_back or not self._rate.pays(self._speed(found, costs)):
            return found
        plain = self._cost.plain_seconds
        began = time.perf_counter()
        try:
            own = self._model.draft(answer, costs, self._model.pass_seconds / plain if plain else 0.0)
        except MemoryError:
            log.warning("memory runs short: no draft model from now on")
            self._model = None
            return found
        self._rate.took(time.perf_counter() - began)
        return own if own.expected / costs[len(own)] >= found.expected / costs[len(found)] else found

    def learn(self, drafted: int, seconds: float, gained: int) -> None:
        """Note how long a step with ``drafted`` tokens took, and how many tokens it gave."""
        self._cost.learn(drafted, seconds)
        self._rate.learn(gained, seconds)

    def _speed(self, draft: Draft, costs: Sequence[float]) -> float:
        """Return the tokens a second that a draft is expected to give; 0 before anything is known."""
        seconds = self._cost.plain_seconds * costs[len(draft)]
        return draft.expected / seconds if seconds else 0.0


class _ModelRate:
    """What steps with the draft model's drafts give a second, the drafting counted in."""

    def __init__(self) -> None:
        self._steps = self._tokens = self._seconds = 0.0
        self._without = 0
        """Steps since the model drafted last."""
        self._drafting: float | None = None
        """Seconds that the step's draft took; ``None`` where the model gave none, or none that counts."""
        self._prompt_is_held = False

    def begin(self) -> None:
        """Begin another answer."""
        self._drafting, self._prompt_is_held = None, False

    def pays(self, otherwise: float) -> bool:
        """Whether to have the model draft where ``otherwise`` so many tokens a second are expected."""
        self._drafting = None
        if self._steps < TRIALS or self._without >= ANOTHER_TRIAL or self._tokens > otherwise * self._seconds:
            self._without = 0
            return True
        self._without += 1
        return False

    def took(self, seconds: float) -> None:
        """Note what the draft took; an answer's first says nothing, as the prompt is computed with it."""
        if self._prompt_is_held:
            self._drafting = seconds
        self._prompt_is_held = True

    def learn(self, gained: int, seconds: float) -> None:
        """Note what the step gave."""
        if self._drafting is None:
            return
        kept = 1 - _FORGETTING
        self._steps += 1
        self._tokens = kept * self._tokens + gained
        self._seconds = kept * self._seconds + self._drafting + seconds
        self._drafting = None


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
        speculator.learn(len(draft), time.perf_counter() - began, len(chosen))


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
