"""A small model that drafts for a large one, which checks several of its tokens in one pass.

Both must have the same vocabulary, as the tokens go from one to the other as they are. What is answered are the large
model's own tokens, whatever is drafted. Leviathan et al. 2023.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.inference.drafting import Draft
from intract_lsp.inference.engine import LoadOrder, ModelFiles, ReportProgress, Resolve
from intract_lsp.inference.tokenizer import TextTokenizer, load_tokenizer
from intract_lsp.models.catalog import ModelSpec

if TYPE_CHECKING:
    from intract_lsp.inference.kv_cache import Logits, Network

log = logging.getLogger(__name__)

WORTH_DRAFTING_FOR = 3_000_000_000
"""Parameters from which on ``auto`` looks for a draft model: the step of a smaller one costs too little."""

SMALLER = 3
"""How many times smaller a draft model must be for ``auto``."""

PIECE = 128
"""Prompt tokens computed between two looks at the cancel token."""

_NEWEST = 0.1
"""Weight of the newest pass in what one takes."""

Calibration = Callable[[], list[tuple[int, ...]]]


class DraftModel:
    """Greedy continuations of an answer, as long as they pay."""

    def __init__(self, network: Network[Any], kv_cache_bytes: int, context_length: int, vocabulary: int) -> None:
        """Take ids below ``vocabulary`` as tokens that both models know."""
        # Imported here, where a model is loaded: the start of the process does without numpy.
        from intract_lsp.inference.kv_cache import PrefixCache

        self._network = network
        self._cache = PrefixCache(network, kv_cache_bytes)
        self._context_length = context_length
        self._vocabulary = vocabulary
        self._prompt: tuple[int, ...] = ()
        self._token = CancelToken()
        self._behind: list[int] | None = None
        """Tokens held behind the prompt; ``None`` where nobody has looked yet what is held of it."""
        self.pass_seconds = 0.0
        """What one token took lately; 0 before the first."""

    def begin(self, prompt: Sequence[int], token: CancelToken) -> None:
        """Take the prompt of an answer to come; nothing is computed yet, and no more once ``token`` is cancelled."""
        self._prompt, self._token, self._behind = tuple(prompt), token, None

    def draft(self, answer: Sequence[int], costs: Sequence[float], pass_cost: float) -> Draft:
        """Return the model's own continuation of an answer, a chain that ends where a longer one would give less.

        ``costs[n]`` is what the large model's pass costs with ``n`` drafted tokens, and ``pass_cost`` what each of this
        model's costs, in the same unit. Nothing is drafted where it was cancelled and where the context is full. Raises
        ``MemoryError``.
        """
        longest = len(costs) - 1
        if len(self._prompt) + len(answer) + longest > self._context_length:
            return Draft()
        logits = self._follow(answer)
        tokens: list[int] = []
        expected = chance = 1.0
        while logits is not None:
            id_, certainty = _likeliest(logits[-1])
            chance *= certainty
            count = len(tokens) + 1
            spent = count * pass_cost
            without, having = expected / (costs[count - 1] + spent), (expected + chance) / (costs[count] + spent)
            if id_ >= self._vocabulary or having <= without:
                break
            tokens.append(id_)
            expected += chance
            if count == longest or self._token.cancelled:
                break
            # The next token is taken to be as likely as this one.
            if (expected + chance * certainty) / (costs[count + 1] + spent + pass_cost) <= having:
                break
            logits = self._append(id_)
        return Draft(tuple(tokens), tuple(range(-1, len(tokens) - 1)), expected)

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on."""
        self._network.use_threads(count)

    def forget(self) -> None:
        """Drop the keys and values of past prompts."""
        self._cache.clear()
        self._behind = None

    def _follow(self, answer: Sequence[int]) -> Logits | None:
        """Compute what is not held of prompt and answer; return the last logits, ``None`` where it was cancelled."""
        prompt = len(self._prompt)
        if self._behind is None:
            self._cache.reuse((*self._prompt, *answer))
            self._behind = list(answer[: max(0, len(self._cache) - prompt)])
        # At least the last token is computed, for its logits.
        common = 0
        while common < min(len(self._behind), len(answer) - 1) and self._behind[common] == answer[common]:
            common += 1
        self._cache.cut(prompt + common if answer else prompt - 1)
        missing = (*self._prompt, *answer)[len(self._cache) :]
        logits: Logits | None = None
        self._behind = None
        for start in range(0, len(missing), PIECE):
            if self._token.cancelled:
                return None
            logits = self._cache.append(missing[start : start + PIECE])
        self._behind = list(answer)
        return logits

    def _append(self, id_: int) -> Logits:
        began = time.perf_counter()
        logits = self._cache.append([id_])
        seconds = time.perf_counter() - began
        self.pass_seconds += (seconds - self.pass_seconds) * (_NEWEST if self.pass_seconds else 1.0)
        if self._behind is not None:
            self._behind.append(id_)
        return logits


def load_draft_model(
    order: LoadOrder,
    main: ModelFiles,
    tokenizer: TextTokenizer,
    resolve: Resolve,
    calibration: Calibration,
    report: ReportProgress,
    token: CancelToken,
) -> tuple[DraftModel, str]:
    """Load the model that ``order`` names, with its threads, to draft for ``main``; return it and its name.

    Raises ``ModelError`` where it cannot be loaded and where its vocabulary is another one.
    """
    from intract_lsp.inference.loading import load_network

    files = resolve(order.model, report, token)
    if not same_vocabulary(main, tokenizer, files):
        raise ModelError(f"{files.name} has another vocabulary than {main.name}: set model.draft to a relative of it.")
    found = load_network(order, files, order.threads, calibration, report, token)
    known = max(tokenizer.token_bytes()) + 1
    log.info("%s drafts for %s, in %s", files.name, main.name, found.precision)
    return DraftModel(found.network, order.kv_cache_mib << 20, found.context_length, known), files.name


def draft_name(asked: str, main: ModelFiles, parameters: int, catalog: Iterable[ModelSpec]) -> str:
    """Return the name of the model to draft for ``main``, empty where there is none.

    ``auto`` means the smallest known one of the family, beside a model of three billion parameters or more.
    """
    if asked != "auto":
        return asked
    if parameters < WORTH_DRAFTING_FOR or main.fim_family in ("", "none"):
        return ""
    relatives = [
        spec for spec in catalog if spec.fim_family == main.fim_family and spec.parameters * SMALLER <= parameters
    ]
    return min(relatives, key=lambda spec: spec.parameters).name if relatives else ""


def same_vocabulary(main: ModelFiles, tokenizer: TextTokenizer, other: ModelFiles) -> bool:
    """Whether two models have the same tokens under the same ids; ``tokenizer`` is that of ``main``."""
    ours, theirs = (files.directory / "tokenizer.json" for files in (main, other))
    if ours.is_file() and theirs.is_file() and ours.read_bytes() == theirs.read_bytes():
        return True
    found = load_tokenizer(other.directory)
    return _controls(tokenizer) == _controls(found) and tokenizer.token_bytes() == found.token_bytes()


def _controls(tokenizer: TextTokenizer) -> dict[str, int | None]:
    return {token: tokenizer.token_id(token) for token in tokenizer.control_tokens}


def _likeliest(logits: Any) -> tuple[int, float]:
    """Return the likeliest id and its chance; what is no number has none."""
    id_ = int(logits.argmax())
    share = 1.0 / float(np.exp(logits - logits[id_]).sum())
    return id_, share if share > 0 else 0.0
