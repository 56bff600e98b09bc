"""A model as it serves: the network with its cache, its tokenizer, and what drafts for it, put together from an order.

Knows nothing of LSP, documents or settings files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, PromptBudget, PromptShape
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
from intract_lsp.inference.drafting import BRANCHES, Drafter
from intract_lsp.inference.engine import AdapterFiles, LoadOrder, ModelCard, ModelFiles, ReportProgress, Resolve
from intract_lsp.inference.healing import Vocabulary
from intract_lsp.inference.speculation import Speculator
from intract_lsp.inference.threads import ThreadCount, physical_cores
from intract_lsp.inference.tokenizer import TextTokenizer, load_tokenizer
from intract_lsp.models.catalog import CATALOG

if TYPE_CHECKING:
    from intract_lsp.inference.draft_model import DraftModel
    from intract_lsp.inference.kv_cache import Network, PrefixCache

log = logging.getLogger(__name__)

CALIBRATION = PromptBudget(192, 64)
"""Tokens of each of the prompts that quantising looks at."""

CALIBRATION_PROMPTS = 4

SENTINEL_ROOM = 16
"""Tokens of a prompt beside the text: sentinels and the begin token."""


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
class LoadedModel:
    """What answers with one model; used by the thread that loaded it."""

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

    def prompt(self, context: CompletionContext, shape: PromptShape, max_tokens: int) -> Prompt:
        """Render the prompt of a context, with room for an answer of ``max_tokens``."""
        budget = self._fit_budget(shape.budget, max_tokens)
        spells = self.vocabulary.spells
        return prompt_of(self.fim, context, budget, self.tokenizer, spells, anchored=not shape.exact)

    def _fit_budget(self, asked: PromptBudget | None, max_tokens: int) -> PromptBudget:
        """Return the budget asked for, zeros meaning the default, cut in proportion to what the model takes."""
        default = self.card.budget
        wanted = default
        if asked is not None:
            pairs = zip(astuple(asked), astuple(default), strict=True)
            wanted = PromptBudget(*(own or usual for own, usual in pairs))
        room = max(3, self.context_length - max_tokens - SENTINEL_ROOM)
        total = sum(astuple(wanted))
        if total + typed_room(wanted) <= room:
            return wanted
        # What is typed on the line comes on top: a quarter at most.
        return PromptBudget(*(room * 4 // 5 * part // total for part in astuple(wanted)))

    def follow_load(self) -> None:
        """Leave the cores alone that other programs have taken since the last step, and take back what they left."""
        if self.threads is None:
            return
        count = self.threads.look()
        self.network.use_threads(count)
        if self.draft_model is not None:
            self.draft_model.use_threads(count)

    def warm_up(self) -> None:
        """Run a step of each shape, so that the first keystroke pays neither for set-up nor for compiling kernels."""
        ids = self.tokenizer.encode("def warm_up():\n")
        self.cache.append(ids)
        self.cache.append(ids[:1])
        self.cache.clear()

    def forget_prompts(self) -> None:
        """Drop the keys and values of past prompts."""
        self.cache.clear()
        if self.draft_model is not None:
            self.draft_model.forget()


class ModelLoader:
    """Finds models and puts them together."""

    def __init__(self, resolve: Resolve, longest_draft: int, gives_way: Callable[[], float]) -> None:
        """``longest_draft``: tokens checked in one step, 0 for plain decoding; ``gives_way``: see ``ModelEngine``."""
        self._resolve = resolve
        self._longest_draft = longest_draft
        self._gives_way = gives_way

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> LoadedModel:
        """Find, check and load a model; see ``CompletionEngine.load``."""
        files = self._resolve(order.model, report, token)
        threads = order.threads or physical_cores()
        # The vocabulary takes a second or two, as do the libraries: side by side on two cores.
        refusal = order.refusal
        with ThreadPoolExecutor(1, "intract-vocabulary") as beside:
            words = beside.submit(_read_words, files)
            try:
                loaded = self._put_together(order, files, threads, words, report, token)
            except AdapterError as error:
                log.warning("the adapter %s cannot be loaded", order.adapter.id if order.adapter else "")
                refusal = str(error)
                loaded = self._put_together(replace(order, adapter=None), files, threads, words, report, token)
        if refusal:
            refusal = f"{refusal} {files.name} serves without it."
            card = replace(loaded.card, notes=(*loaded.card.notes, refusal))
            loaded = replace(loaded, card=card, refusal=refusal)
        return self._with_draft_model(loaded, report, token)

    def _put_together(
        self,
        order: LoadOrder,
        files: ModelFiles,
        threads: int,
        words: Future[_Words],
        report: ReportProgress,
        token: CancelToken,
    ) -> LoadedModel:
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
        return LoadedModel(
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

    def _with_draft_model(self, loaded: LoadedModel, report: ReportProgress, token: CancelToken) -> LoadedModel:
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


def with_adapter(
    loaded: LoadedModel, adapter: AdapterFiles | None, report: ReportProgress, token: CancelToken
) -> LoadedModel:
    """Build the same model with an adapter, or with none, beside the one that serves.

    In int8 an adapter's copy has to be there, see ``adapted_child``: a swap must not take a minute. Raises as
    ``CompletionEngine.swap`` does.
    """
    from intract_lsp.inference.adapted import has_int8_copy
    from intract_lsp.inference.kv_cache import PrefixCache
    from intract_lsp.inference.loading import NoRoomError, load_network

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
    return replace(
        loaded,
        order=order,
        refusal="",
        card=replace(card, notes=notes, adapter=name, weight_bytes=found.weight_bytes),
        network=found.network,
        cache=PrefixCache(found.network, order.kv_cache_mib << 20),
        end_ids=end_ids(loaded.fim, loaded.tokenizer) | found.end_ids,
    )


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
