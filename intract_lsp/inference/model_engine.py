"""A model in this process: loading, the decode loop, KV reuse.

Knows nothing of LSP, documents or settings files. One thread calls it.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.completion.prompt import (
    FimFormat,
    Prompt,
    PromptSource,
    encode_text,
    end_ids,
    prompt_of,
    render,
    resolve_format,
    typed_room,
)
from intract_lsp.errors import AdapterError, AdapterRoomError, ModelError
from intract_lsp.inference.drafting import BRANCHES, Draft, Drafter
from intract_lsp.inference.engine import AdapterFiles, LoadOrder, ModelCard, ModelFiles, ReportProgress
from intract_lsp.inference.healing import Spelling, Vocabulary
from intract_lsp.inference.speculation import LONGEST_DRAFT, Speculator, check, greedy_tokens
from intract_lsp.inference.threads import ThreadCount, physical_cores
from intract_lsp.inference.tokenizer import TextTokenizer, load_tokenizer
from intract_lsp.models.catalog import CATALOG

if TYPE_CHECKING:
    from intract_lsp.inference.draft_model import DraftModel
    from intract_lsp.inference.kv_cache import Logits, Network, PrefixCache

log = logging.getLogger(__name__)

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

CALIBRATION = PromptBudget(192, 64)
"""Tokens of each of the prompts that quantising looks at."""

CALIBRATION_PROMPTS = 4

HEALED_ROOM = 16
"""Tokens that the text to be healed may take, with which an answer begins."""

FOLLOWING = 8
"""Characters behind a middle that its last token may be joined with."""

SENTINEL_ROOM = 16
"""Tokens of a prompt beside the text: sentinels and the begin token."""


Resolve = Callable[[str, ReportProgress, CancelToken], ModelFiles]
"""Finds a model by name, fetching it first where it is not on this machine; raises ``ModelError``."""


@dataclass(frozen=True, slots=True)
class _Words:
    """What a model's tokenizer gives."""

    tokenizer: TextTokenizer
    fim: FimFormat
    note: str
    """For the user, where the format is not the family's own."""
    texts: dict[int, bytes]
    """Of each token that may stand in an answer."""
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True)
class _Loaded:
    order: LoadOrder
    files: ModelFiles
    tokenizer: TextTokenizer
    fim: FimFormat
    end_ids: frozenset[int]
    card: ModelCard
    network: Network[Any]
    cache: PrefixCache
    context_length: int
    """Most tokens, prompt and answer together, that the model was made for."""
    vocabulary: Vocabulary
    drafter: Drafter
    speculator: Speculator
    threads: ThreadCount | None
    """``None`` where the number is fixed."""
    draft_model: DraftModel | None = None
    refusal: str = ""
    """Why the order's adapter is not merged in: one of the card's notes, until another adapter is."""


class ModelEngine:
    """Greedy completion with one model; keys and values of past prompts are kept."""

    def __init__(self, resolve: Resolve, speculate: bool = True, gives_way: Callable[[], float] = lambda: 0.0) -> None:
        """Without ``speculate`` each step gives one token, as benches of plain decoding want it.

        ``gives_way`` returns the processor seconds of what this program has begun and holds while completions are
        computed: no core is left to that.
        """
        self._resolve = resolve
        self._gives_way = gives_way
        self._longest_draft = LONGEST_DRAFT if speculate else 0
        self._loaded: _Loaded | None = None

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Find, check and load a model; see ``CompletionEngine.load``."""
        self.unload()
        files = self._resolve(order.model, report, token)
        threads = order.threads or physical_cores()
        # The vocabulary takes a second or two, as do the libraries: side by side on two cores.
        refusal = order.refusal
        with ThreadPoolExecutor(1, "intract-vocabulary") as beside:
            words = beside.submit(_read_words, files)
            try:
                loaded = self._load(order, files, threads, words, report, token)
            except AdapterError as error:
                log.warning("the adapter %s cannot be loaded", order.adapter.id if order.adapter else "")
                refusal = str(error)
                loaded = self._load(replace(order, adapter=None), files, threads, words, report, token)
        if refusal:
            refusal = f"{refusal} {files.name} serves without it."
            card = replace(loaded.card, notes=(*loaded.card.notes, refusal))
            loaded = replace(loaded, card=card, refusal=refusal)
        loaded = self._with_draft_model(loaded, report, token)
        report("Warming up", None)
        self._warm_up(loaded)
        self._loaded = loaded
        return loaded.card

    def _load(
        self,
        order: LoadOrder,
        files: ModelFiles,
        threads: int,
        words: Future[_Words],
        report: ReportProgress,
        token: CancelToken,
    ) -> _Loaded:
        # Imported here, on the thread that owns the model: the server has answered `initialize` long before.
        from intract_lsp.inference.kv_cache import PrefixCache
        from intract_lsp.inference.loading import load_network

        def calibration() -> list[tuple[int, ...]]:
            return calibration_prompts(words.result().tokenizer, words.result().fim)

        found = load_network(order, files, threads, calibration, report, token)
        read = words.result()
        tokenizer, fim, texts = read.tokenizer, read.fim, read.texts
        card = ModelCard(
            name=files.name,
            fim_format=fim.name,
            device=found.device,
            precision=found.precision,
            parameters=found.parameters,
            threads=threads,
            budget=found.budget,
            notes=(*((read.note,) if read.note else ()), *found.notes),
            adapter=order.adapter.id if order.adapter else "",
            weight_bytes=found.weight_bytes,
        )
        drafter = Drafter(
            encode=partial(encode_text, tokenizer=tokenizer),
            spell=lambda id_: texts.get(id_, b"").decode(errors="replace"),
            branches=BRANCHES if found.network.branching else 1,
        )
        return _Loaded(
            order=order,
            files=files,
            tokenizer=tokenizer,
            fim=fim,
            end_ids=end_ids(fim, tokenizer) | found.end_ids,
            card=card,
            network=found.network,
            cache=PrefixCache(found.network, order.kv_cache_mib << 20),
            context_length=found.context_length,
            vocabulary=read.vocabulary,
            drafter=drafter,
            speculator=Speculator(drafter, tokenizer.decode, self._longest_draft),
            threads=self._follow(threads) if found.device == "cpu" and not order.threads else None,
        )

    def _follow(self, threads: int) -> ThreadCount:
        return ThreadCount(threads, own_seconds=lambda: time.process_time() + self._gives_way())

    def _with_draft_model(self, loaded: _Loaded, report: ReportProgress, token: CancelToken) -> _Loaded:
        """Load the model that drafts for this one, where the order names one; a note says where it cannot be used."""
        from intract_lsp.inference.draft_model import draft_name, load_draft_model

        order, files, card = loaded.order, loaded.files, loaded.card
        name = draft_name(order.draft, files, card.parameters, CATALOG) if self._longest_draft else ""
        if not name:
            return loaded
        drafting = LoadOrder(name, card.device, "auto", card.threads, order.kv_cache_mib, order.flash_attention)
        calibration = partial(calibration_prompts, loaded.tokenizer, loaded.fim)
        try:
            model, name = load_draft_model(drafting, files, loaded.tokenizer, self._resolve, calibration, report, token)
        except ModelError as error:
            if token.cancelled:
                raise
            note = f"No draft model is used: {error}"
            return replace(loaded, card=replace(card, notes=(*card.notes, note)))
        speculator = Speculator(loaded.drafter, loaded.tokenizer.decode, self._longest_draft, model)
        return replace(loaded, card=replace(card, draft=name), draft_model=model, speculator=speculator)

    def swap(self, adapter: AdapterFiles | None, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Build a network with the adapter beside the one that serves, then take its place.

        In int8 an adapter's copy has to be there, see ``adapted_child``: a swap must not take a minute. Raises as
        ``CompletionEngine.swap`` does.
        """
        from intract_lsp.inference.adapted import has_int8_copy
        from intract_lsp.inference.kv_cache import PrefixCache
        from intract_lsp.inference.loading import NoRoomError, load_network

        loaded = self._loaded
        if loaded is None:
            raise AdapterError("No model is loaded that an adapter could be used with: load one first.")
        files, card = loaded.files, loaded.card
        # As it was chosen when all memory was free: beside the old weights ``auto`` may mean something else.
        order = replace(loaded.order, adapter=adapter, device=card.device, precision=card.precision)
        name = adapter.id if adapter is not None else ""
        if card.precision == "int8" and adapter is not None and not has_int8_copy(files, adapter):
            raise AdapterError(
                f"The adapter {name} has no int8 copy on this machine that fits {files.name} as it is now: "
                "promote it again, which makes one."
            )
        try:
            calibration = partial(calibration_prompts, loaded.tokenizer, loaded.fim)
            found = load_network(order, files, card.threads, calibration, report, token)
        except ModelError as error:
            what = f"The adapter {name}" if name else f"{files.name} without an adapter"
            kind = AdapterRoomError if isinstance(error, NoRoomError) else AdapterError
            raise kind(f"{what} cannot be loaded beside what serves: {error}") from error
        notes = tuple(note for note in card.notes if note != loaded.refusal)
        fresh = replace(
            loaded,
            order=order,
            refusal="",
            card=replace(card, notes=notes, adapter=name, weight_bytes=found.weight_bytes),
            network=found.network,
            cache=PrefixCache(found.network, order.kv_cache_mib << 20),
            end_ids=end_ids(loaded.fim, loaded.tokenizer) | found.end_ids,
        )
        self._warm_up(fresh)
        self._loaded = fresh
        loaded.drafter.forget()
        del loaded
        _free_gpu(card)
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
        prompt = _prompt(loaded, context, shape, min(longest, loaded.context_length // 2))
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
        prompt = _prompt(loaded, context, shape, limits.max_tokens)
        loaded.drafter.begin(context.prefix, context.suffix, prompt.heal)
        loaded.speculator.begin(prompt.ids, prompt.heal, token)
        limits = replace(limits, max_tokens=min(limits.max_tokens, loaded.context_length - len(prompt.ids)))
        tokenized = time.monotonic()
        if shape.exact:
            loaded.cache.clear()
            if loaded.draft_model is not None:
                loaded.draft_model.forget()
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
        ids = _prompt(loaded, context, shape, ANSWER_ROOM).ids[:-1]
        reused = loaded.cache.reuse_ahead(ids)
        if reused is None:
            return False
        step = AHEAD_STEP if loaded.card.device != "cuda" else GPU_AHEAD_STEP
        for start in range(reused, len(ids), step):
            if token.cancelled:
                return False
            _follow_load(loaded)
            loaded.cache.append(ids[start : start + step])
        return True

    def forget(self) -> None:
        """Drop the KV cache and past answers."""
        if self._loaded is not None:
            self._loaded.cache.clear()
            self._loaded.drafter.forget()
            if self._loaded.draft_model is not None:
                self._loaded.draft_model.forget()

    def unload(self) -> None:
        """Free the model."""
        if self._loaded is None:
            return
        card = self._loaded.card
        self._loaded = None
        # A swap that has failed leaves its traceback, which holds the model, in a cycle.
        gc.collect()
        _free_gpu(card)

    def _warm_up(self, loaded: _Loaded) -> None:
        """Run a step of each shape, so that the first keystroke pays neither for set-up nor for compiling kernels."""
        ids = loaded.tokenizer.encode("def warm_up():\n")
        loaded.cache.append(ids)
        loaded.cache.append(ids[:1])
        loaded.cache.clear()

    def _prefill(
        self, loaded: _Loaded, ids: tuple[int, ...], limits: Limits, token: CancelToken
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
            _follow_load(loaded)
            piece = ids[start : start + step]
            last_and_short = start + step >= len(ids) and len(piece) <= SHORT_PIECE
            draft = loaded.speculator.draft((), limits.max_tokens - 1) if last_and_short else Draft()
            outcome = draft, check(loaded.cache, piece, draft)
        return outcome

    def _decode(
        self,
        loaded: _Loaded,
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
            _follow_load(loaded)
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


def _follow_load(loaded: _Loaded) -> None:
    """Leave the cores alone that other programs have taken since the last step, and take back what they left."""
    if loaded.threads is None:
        return
    count = loaded.threads.look()
    loaded.network.use_threads(count)
    if loaded.draft_model is not None:
        loaded.draft_model.use_threads(count)


def _prompt(loaded: _Loaded, context: CompletionContext, shape: PromptShape, max_tokens: int) -> Prompt:
    """Render the prompt of a context, with room for an answer of ``max_tokens``."""
    budget = _fit_budget(shape.budget, loaded, max_tokens)
    spells = loaded.vocabulary.spells
    return prompt_of(loaded.fim, context, budget, loaded.tokenizer, spells, anchored=not shape.exact)


def _fit_budget(asked: PromptBudget | None, loaded: _Loaded, max_tokens: int) -> PromptBudget:
    """Return the budget asked for, zeros meaning the default, cut in proportion to what the model takes."""
    default = loaded.card.budget
    wanted = default
    if asked is not None:
        pairs = zip(astuple(asked), astuple(default), strict=True)
        wanted = PromptBudget(*(own or usual for own, usual in pairs))
    room = max(3, loaded.context_length - max_tokens - SENTINEL_ROOM)
    total = sum(astuple(wanted))
    if total + typed_room(wanted) <= room:
        return wanted
    # What is typed on the line comes on top: a quarter at most.
    return PromptBudget(*(room * 4 // 5 * part // total for part in astuple(wanted)))


def _read_words(files: ModelFiles) -> _Words:
    tokenizer = load_tokenizer(files.directory)
    fim, note = resolve_format(files.fim_family, tokenizer)
    texts = tokenizer.token_bytes()
    return _Words(tokenizer, fim, note, texts, Vocabulary(texts))


def calibration_prompts(tokenizer: TextTokenizer, fim: FimFormat) -> list[tuple[int, ...]]:
    """Return prompts over this package's own code, as the text to see the activations' spread on when quantising."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    longest = sorted(sources, key=len)[-CALIBRATION_PROMPTS:]
    middle = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in longest]
    return [render(fim, PromptSource(*halves), CALIBRATION, tokenizer).ids for halves in middle]
