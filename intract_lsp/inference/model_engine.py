"""A model in this process: the decode loop, KV reuse, one model or adapter in the place of another.

Knows nothing of LSP, documents or settings files. One thread calls it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptShape
from intract_lsp.completion.prompt import Prompt, encode_text
from intract_lsp.errors import AdapterError, ModelError
from intract_lsp.inference.drafting import Draft
from intract_lsp.inference.engine import AdapterFiles, LoadOrder, ModelCard, ReportProgress, Resolve
from intract_lsp.inference.healing import Spelling
from intract_lsp.inference.loaded_model import LoadedModel, ModelLoader, with_adapter
from intract_lsp.inference.speculation import LONGEST_DRAFT, check, greedy_tokens
from intract_lsp.inference.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from intract_lsp.inference.kv_cache import Logits

PREFILL_STEP = 128
"""Prompt tokens computed between two looks at the cancel token: about a quarter of a second for 0.5B on two cores."""

AHEAD_STEP = 16
"""The same while nobody waits for the prompt: about what one step of a generation takes."""

GPU_PREFILL_STEP = 512
GPU_AHEAD_STEP = 128
"""The same two on a CUDA GPU, which fewer rows do not keep busy."""

ANSWER_ROOM = 64
"""Tokens of the answer that a prompt is prepared for; counts only where the model's context is short."""

SHORT_PIECE = 16
"""Prompt tokens that a first draft is checked with; behind more of them each further row costs what it costs."""

HEALED_ROOM = 16
"""Tokens that the text to be healed may take, with which an answer begins."""

FOLLOWING = 8
"""Characters behind a middle that its last token may be joined with."""


class ModelEngine:
    """Greedy completion with one model; keys and values of past prompts are kept."""

    def __init__(self, resolve: Resolve, speculate: bool = True, gives_way: Callable[[], float] = lambda: 0.0) -> None:
        """Without ``speculate`` each step gives one token, as benches of plain decoding want it.

        ``gives_way`` returns the processor seconds of what this program has begun and holds while completions are
        computed: no core is left to that.
        """
        self._loader = ModelLoader(resolve, LONGEST_DRAFT if speculate else 0, gives_way)
        self._loaded: LoadedModel | None = None

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Find, check and load a model; see ``CompletionEngine.load``."""
        self.unload()
        loaded = self._loader.load(order, report, token)
        report("Warming up", None)
        loaded.warm_up()
        self._loaded = loaded
        return loaded.card

    def swap(self, adapter: AdapterFiles | None, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Build a network with the adapter beside the one that serves, then take its place.

        In int8 an adapter's copy has to be there, see ``adapted_child``: a swap must not take a minute. Raises as
        ``CompletionEngine.swap`` does.
        """
        loaded = self._loaded
        if loaded is None:
            raise AdapterError("No model is loaded that an adapter could be used with: load one first.")
        fresh = with_adapter(loaded, adapter, report, token)
        fresh.warm_up()
        self._loaded = fresh
        loaded.drafter.forget()
        del loaded
        _free_gpu(fresh.card)
        return fresh.card

    def likelihood(self, context: CompletionContext, shape: PromptShape, middle: str) -> tuple[float, int]:
        """Return how unlikely a text is behind the prompt of ``generate``: in nats, and over how many tokens.

        What serving would give back to be healed is scored with it, as the beginning of the answer. The last token is
        not where it would be another one in front of what follows in the document: to write ``)`` and a line's end as
        one token is no error, since serving stops there. Where the model's context has no room for all of it the first
        tokens are scored. Raises ``ModelError`` without a model.
        """
        loaded = self._loaded
        if loaded is None:
            raise ModelError("No model is loaded.")
        longest = len(encode_text(middle, loaded.tokenizer)) + HEALED_ROOM
        prompt = loaded.prompt(context, shape, min(longest, loaded.context_length // 2))
        forced = _settled(prompt.heal + middle, context.suffix[:FOLLOWING] or "\n", loaded.tokenizer)
        forced = forced[: loaded.context_length - len(prompt.ids)]
        if not forced:
            return 0.0, 0
        rest = prompt.ids[loaded.cache.reuse(prompt.ids) : -1]
        for start in range(0, len(rest), PREFILL_STEP):
            loaded.cache.append(rest[start : start + PREFILL_STEP])
        given = [prompt.ids[-1], *forced[:-1]]
        loss = 0.0
        for start in range(0, len(given), PREFILL_STEP):
            piece = given[start : start + PREFILL_STEP]
            logits = loaded.cache.append(piece, last=len(piece))
            loss += _surprise(logits, forced[start : start + len(piece)])
        return loss, len(forced)

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        """Render the prompt, compute what the KV cache lacks of it, and decode greedily."""
        loaded = self._loaded
        if loaded is None:
            raise ModelError("No model is loaded.")
        began = time.monotonic()
        prompt = loaded.prompt(context, shape, limits.max_tokens)
        loaded.drafter.begin(context.prefix, context.suffix, prompt.heal)
        loaded.speculator.begin(prompt.ids, prompt.heal, token)
        limits = replace(limits, max_tokens=min(limits.max_tokens, loaded.context_length - len(prompt.ids)))
        tokenized = time.monotonic()
        if shape.exact:
            loaded.forget_prompts()
        reused = loaded.cache.reuse(prompt.ids)
        outcome = self._prefill(loaded, prompt.ids[reused:], limits, token)
        prefilled = time.monotonic()
        text, ids, finish = self._decode(loaded, prompt, outcome, limits, token, on_text)
        loaded.drafter.remember(loaded.tokenizer.decode(ids))
        return Generation(
            text=text,
            finish=finish,
            prompt_tokens=len(prompt.ids),
            reused_tokens=reused,
            token_ids=ids,
            tokenize_ms=(tokenized - began) * 1000,
            prefill_ms=(prefilled - tokenized) * 1000,
            decode_ms=(time.monotonic() - prefilled) * 1000,
        )

    def prepare(self, context: CompletionContext, shape: PromptShape, token: CancelToken) -> bool:
        """Compute what the KV cache lacks of a prompt, but for its last token; see ``CompletionEngine.prepare``."""
        loaded = self._loaded
        if loaded is None or shape.exact:
            return False
        ids = loaded.prompt(context, shape, ANSWER_ROOM).ids[:-1]
        reused = loaded.cache.reuse_ahead(ids)
        if reused is None:
            return False
        step = AHEAD_STEP if loaded.card.device != "cuda" else GPU_AHEAD_STEP
        for start in range(reused, len(ids), step):
            if token.cancelled:
                return False
            loaded.follow_load()
            loaded.cache.append(ids[start : start + step])
        return True

    def forget(self) -> None:
        """Drop the KV cache and past answers."""
        if self._loaded is not None:
            self._loaded.forget_prompts()
            self._loaded.drafter.forget()

    def unload(self) -> None:
        """Free the model."""
        if self._loaded is None:
            return
        card = self._loaded.card
        self._loaded = None
        # A swap that has failed leaves its traceback, which holds the model, in a cycle.
        gc.collect()
        _free_gpu(card)

    def _prefill(
        self, loaded: LoadedModel, ids: tuple[int, ...], limits: Limits, token: CancelToken
    ) -> tuple[Draft, Logits] | Finish:
        """Compute ``ids`` piece by piece; with the last piece, where it is short, a draft of what follows.

        Returns the draft and the logits of the last id and of the draft, (1 + draft, vocabulary), or why there are
        none. What was computed stays in the cache: the next request goes on from there.
        """
        outcome: tuple[Draft, Logits] | Finish = Finish.CANCELLED
        step = PREFILL_STEP if loaded.card.device != "cuda" else GPU_PREFILL_STEP
        for start in range(0, len(ids), step):
            if token.cancelled:
                return Finish.CANCELLED
            if time.monotonic() >= limits.deadline:
                return Finish.DEADLINE
            loaded.follow_load()
            piece = ids[start : start + step]
            last_and_short = start + step >= len(ids) and len(piece) <= SHORT_PIECE
            draft = loaded.speculator.draft((), limits.max_tokens - 1) if last_and_short else Draft()
            outcome = draft, check(loaded.cache, piece, draft)
        return outcome

    def _decode(
        self,
        loaded: LoadedModel,
        prompt: Prompt,
        outcome: tuple[Draft, Logits] | Finish,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> tuple[str, tuple[int, ...], Finish]:
        """Take tokens from the prefill's outcome on until something says to stop; each is looked at before the next.

        What the first tokens spell of the text to be healed is no part of the answer.
        """
        ids: list[int] = []
        text = ""
        if isinstance(outcome, Finish):
            return text, (), outcome
        spelling = Spelling(loaded.vocabulary, prompt.heal)
        tokens = greedy_tokens(loaded.cache, prompt.ids, *outcome, spelling, loaded.speculator, limits.max_tokens)
        for id_ in tokens:
            if id_ in loaded.end_ids:
                break
            ids.append(id_)
            loaded.follow_load()
            text = loaded.tokenizer.decode(ids)[len(prompt.heal) :]
            on_text(text)
            keep = limits.stop(text)
            if keep is not None:
                return text[:keep], tuple(ids), Finish.STOP
            if len(ids) >= limits.max_tokens:
                return text, tuple(ids), Finish.LENGTH
            if token.cancelled:
                return text, tuple(ids), Finish.CANCELLED
            if time.monotonic() >= limits.deadline:
                return text, tuple(ids), Finish.DEADLINE
        return text, tuple(ids), Finish.END


def _free_gpu(card: ModelCard) -> None:
    """Give the memory of what was let go of back to the GPU's other programs."""
    if card.device in ("cuda", "mps"):
        import torch

        (torch.cuda if card.device == "cuda" else torch.mps).empty_cache()


def _settled(text: str, following: str, tokenizer: TextTokenizer) -> list[int]:
    """Return the tokens of a text that stay what they are when more is written behind it."""
    ids, longer = encode_text(text, tokenizer), encode_text(text + following, tokenizer)
    same = (one == other for one, other in zip(ids, longer, strict=False))
    return ids[: sum(takewhile(bool, same))]


def _surprise(logits: Logits, ids: Sequence[int]) -> float:
    """Return the summed negative log-likelihood of ``ids`` in nats; logits: (ids, vocabulary)."""
    import numpy as np

    rows = logits.astype("float64")
    rows -= rows.max(axis=1, keepdims=True)
    chosen = rows[range(len(ids)), list(ids)]
    return float((np.log(np.exp(rows).sum(axis=1)) - chosen).sum())
