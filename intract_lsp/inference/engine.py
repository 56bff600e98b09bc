"""The seam between the pipeline and whatever runs a model. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, Generation, Limits, PromptBudget, PromptShape


class EngineState(str, Enum):
    """Where the engine stands; each change is logged and sent to the editor."""

    ABSENT = "absent"
    """No model has been asked for."""
    LOADING = "loading"
    """A model is being fetched, converted or loaded."""
    READY = "ready"
    BUSY = "busy"
    """A generation is running."""
    RESTING = "resting"
    """The model was let go of for the time of something that needs its memory; ``EngineStatus.message`` says what."""
    FAILED = "failed"
    """The last load failed; ``EngineStatus.message`` says why."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One notification's worth of the engine's state."""

    state: EngineState
    model: str = ""
    message: str = ""
    """For people: what is being done, or what went wrong and what to do."""
    fraction: float | None = None
    """Progress of the present step in 0..1, where it is known."""


class AdapterKind(str, Enum):
    """What an adapter's directory holds."""

    LORA = "lora"
    """Low-rank matrices in peft's format: ``adapter_config.json`` and ``adapter_model.safetensors``."""
    STANDARD = "standard"
    """All weights: ``config.json`` and ``model.safetensors``; the tokenizer is the base model's."""


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """Where an adapter lies and which weights it was trained on."""

    id: str
    directory: Path
    """Nothing in it changes."""
    kind: AdapterKind = AdapterKind.LORA
    base_name: str = ""
    """The base model's name, for people."""
    base: str = ""
    """``models.store.weights_fingerprint`` of the base model; empty = it goes with any model that its matrices fit."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What was loaded, for status, ``doctor`` and results."""

    name: str
    fim_format: str
    device: str
    precision: str
    parameters: int
    threads: int
    budget: PromptBudget
    """Default prompt budget on this device."""
    notes: tuple[str, ...] = ()
    """Sentences the user should see once, such as "no FIM sentinels: left-to-right only"."""
    draft: str = ""
    """Name of the model that drafts for this one."""
    adapter: str = ""
    """Id of the adapter that is merged into the weights."""
    weight_bytes: int = 0
    """Of the device's memory, which ``unload`` sets free; 0 where the weights are mapped from a file."""


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to load and how; fields as in the settings' ``model`` section."""

    model: str
    """A catalogue name, a path, or ``auto``."""
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    kv_cache_mib: int = 192
    flash_attention: str = "auto"
    """``auto``, ``on`` or ``off``."""
    draft: str = ""
    """A model that drafts for this one: a name as above, ``auto``, or empty for none."""
    adapter: AdapterFiles | None = None
    """To be merged into the weights; one that cannot be used is left out, which the card's notes say."""
    refusal: str = ""
    """Why the adapter that should serve is not the order's: said among the card's notes, too."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies and what is known of it."""

    name: str
    directory: Path
    """With ``config.json``, safetensors and a tokenizer."""
    fim_family: str = ""
    """Key of the FIM format; empty = by the tokenizer's tokens."""
    quantized: Path | None = None
    """Where its int8 copy is, or will be, kept."""


ReportProgress = Callable[[str, float | None], None]
"""Called with a short sentence and the fraction done, from the engine's thread."""

Resolve = Callable[[str, ReportProgress, CancelToken], ModelFiles]
"""Finds a model by name, fetching it first where it is not on this machine; raises ``ModelError``."""


class CompletionEngine(Protocol):
    """Runs one model. Every method is called from the one thread that owns the engine."""

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Load a model in place of the one loaded before.

        Raises ``ModelError`` with a sentence for the user; the engine is then without a model.
        """

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        """Complete at the context's cursor, greedily.

        ``on_text`` gets the whole text so far after each step. The token and the deadline are read at least once a
        step, and between pieces of the prefill.
        """

    def prepare(self, context: CompletionContext, shape: PromptShape, token: CancelToken) -> bool:
        """Compute the prompt of a context into the KV cache, so that ``generate`` finds it there; decode nothing.

        The token is read between pieces that take no longer than a step. What past generations left in the cache
        stays. Returns whether the whole prompt is there; an exact shape is never prepared.
        """

    def forget(self) -> None:
        """Drop the KV cache and what is known of past answers, so that the next generation starts cold."""

    def swap(self, adapter: AdapterFiles | None, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Serve the loaded model with another adapter merged into its weights, or with none.

        The new weights are made ready beside the old ones, which are then let go of with their KV cache. Raises
        ``AdapterError`` where that cannot be done, ``AdapterRoomError`` for want of memory; what served before goes on
        serving.
        """

    def unload(self) -> None:
        """Free the model's memory; a later ``load`` may follow."""
