"""A model in this process, through torch and transformers: loading, the decode loop, KV reuse.

Knows nothing of LSP, documents or settings files. One thread calls it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget
from intract_lsp.completion.prompt import FimFormat, PromptSource, end_ids, render, resolve_format
from intract_lsp.errors import ModelError
from intract_lsp.inference.engine import LoadOrder, ModelCard, ReportProgress
from intract_lsp.inference.speculation import Lookup, Pace, greedy_tokens
from intract_lsp.inference.tokenizer import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from intract_lsp.inference.kv_cache import Network, PrefixCache

log = logging.getLogger(__name__)

PREFILL_STEP = 64
"""Prompt tokens computed between two looks at the cancel token: about a fifth of a second for 0.5B on two cores."""

WORKING_MEMORY = 400 << 20
"""Bytes beside the weights: torch itself, activations, the KV cache of one prompt."""


UNSTATED_CONTEXT = 2048
"""Tokens assumed where a model's configuration does not say how many it takes."""

CALIBRATION = PromptBudget(192, 64)
"""Tokens of each of the prompts that quantising looks at."""

CALIBRATION_PROMPTS = 4

SENTINEL_ROOM = 16
"""Tokens of a prompt beside the text: sentinels and the begin token."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies and what is known of it."""

    name: str
    directory: Path
    """With ``config.json``, safetensors and a tokenizer."""
    fim_family: str = ""
    """Key of the FIM format; empty = by the tokenizer's tokens."""


Resolve = Callable[[str, ReportProgress, CancelToken], ModelFiles]
"""Finds a model by name, fetching it first where it is not on this machine; raises ``ModelError``."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: TextTokenizer
    fim: FimFormat
    end_ids: frozenset[int]
    card: ModelCard
    cache: PrefixCache
    context_length: int
    """Most tokens, prompt and answer together, that the model was made for."""
    lookup: Lookup
    pace: Pace


class TorchEngine:
    """Greedy completion with a transformers model; keys and values of the last prompt are kept."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._loaded: _Loaded | None = None

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Find, check and load a model; see ``CompletionEngine.load``."""
        self.unload()
        files = self._resolve(order.model, report, token)
        report("Starting torch", None)
        # Imported here, on the thread that owns the model: the server has answered `initialize` long before.
        import torch

        from intract_lsp.inference.device import check_memory, choose_placement, physical_cores
        from intract_lsp.inference.kv_cache import PrefixCache

        placement = choose_placement(order.device, order.precision)
        parameters = _count_parameters(files.directory)
        check_memory(parameters * placement.dtype.itemsize + WORKING_MEMORY, placement, files.name)
        threads = order.threads or physical_cores()
        torch.set_num_threads(threads)
        report(f"Loading {files.name}", None)
        _stop_if_cancelled(token)
        model = _load_model(files.directory, placement.dtype, placement.device)
        _stop_if_cancelled(token)
        tokenizer = load_tokenizer(files.directory)
        fim, note = resolve_format(files.fim_family, tokenizer)
        card = ModelCard(
            name=files.name,
            fim_format=fim.name,
            device=placement.device.type,
            precision=placement.precision,
            parameters=parameters,
            threads=threads,
            budget=placement.budget,
            notes=(note,) if note else (),
        )
        ends = end_ids(fim, tokenizer) | _configured_ends(model)
        context_length = getattr(model.config, "max_position_embeddings", None) or UNSTATED_CONTEXT
        network = _network(model, context_length)
        if placement.int8:
            report(f"Quantising {files.name}", None)
            _quantize(network, fim, tokenizer)
        cache = PrefixCache(network)
        loaded = _Loaded(tokenizer, fim, ends, card, cache, context_length, Lookup(), Pace())
        report("Warming up", None)
        self._warm_up(loaded)
        self._loaded = loaded
        return card

    def generate(
        self,
        context: CompletionContext,
        budget: PromptBudget | None,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        """Render the prompt, compute what the KV cache lacks of it, and decode greedily."""
        loaded = self._loaded
        if loaded is None:
            raise ModelError("No model is loaded.")
        began = time.monotonic()
        source = PromptSource(context.prefix, context.suffix, context.path, context.repository)
        prompt = render(loaded.fim, source, _fit_budget(budget, loaded, limits.max_tokens), loaded.tokenizer)
        tokenized = time.monotonic()
        reused = loaded.cache.reuse(prompt.ids)
        first = self._prefill(loaded, prompt.ids[reused:], limits, token)
        prefilled = time.monotonic()
        text, ids, finish = self._decode(loaded, prompt.ids, first, limits, token, on_text)
        loaded.lookup.remember(ids)
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

    def forget(self) -> None:
        """Drop the KV cache."""
        if self._loaded is not None:
            self._loaded.cache.clear()

    def unload(self) -> None:
        """Free the model."""
        if self._loaded is None:
            return
        on_gpu = self._loaded.card.device == "cuda"
        self._loaded = None
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    def _warm_up(self, loaded: _Loaded) -> None:
        """Run one step of each shape, so that the first keystroke does not pay for torch's own set-up."""
        ids = loaded.tokenizer.encode("def warm_up():\n")
        first = self._step(loaded, ids)
        self._step(loaded, [first])
        loaded.cache.clear()

    def _prefill(self, loaded: _Loaded, ids: tuple[int, ...], limits: Limits, token: CancelToken) -> int | Finish:
        """Compute ``ids`` piece by piece and return the first decoded token, or why it did not come to that.

        What was computed stays in the cache: the next request goes on from there.
        """
        next_id: int | Finish = Finish.CANCELLED
        for start in range(0, len(ids), PREFILL_STEP):
            if token.cancelled:
                return Finish.CANCELLED
            if time.monotonic() >= limits.deadline:
                return Finish.DEADLINE
            next_id = self._step(loaded, list(ids[start : start + PREFILL_STEP]))
        return next_id

    def _decode(
        self,
        loaded: _Loaded,
        prompt: tuple[int, ...],
        first: int | Finish,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> tuple[str, tuple[int, ...], Finish]:
        """Take tokens from the prefill's outcome on until something says to stop; each is looked at before the next."""
        ids: list[int] = []
        text = ""
        if isinstance(first, Finish):
            return text, (), first
        for id_ in greedy_tokens(loaded.cache, prompt, first, loaded.lookup, loaded.pace):
            if id_ in loaded.end_ids:
                break
            ids.append(id_)
            text = loaded.tokenizer.decode(ids)
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

    def _step(self, loaded: _Loaded, ids: list[int]) -> int:
        """Append ``ids`` to the cache and return the most likely next token."""
        return int(loaded.cache.append(ids)[-1].argmax())


def _stop_if_cancelled(token: CancelToken) -> None:
    if token.cancelled:
        raise ModelError("Loading the model was cancelled.")


def _fit_budget(asked: PromptBudget | None, loaded: _Loaded, max_tokens: int) -> PromptBudget:
    """Return the budget asked for, zeros meaning the default, cut in proportion to what the model takes."""
    default = loaded.card.budget
    prefix, suffix = (asked.prefix or default.prefix, asked.suffix or default.suffix) if asked else astuple(default)
    room = max(2, loaded.context_length - max_tokens - SENTINEL_ROOM)
    if prefix + suffix <= room:
        return PromptBudget(prefix, suffix)
    kept = room * prefix // (prefix + suffix)
    return PromptBudget(kept, room - kept)


def _network(model: Any, context_length: int) -> Network:
    """Return the fastest forward that computes what the model's own would."""
    import torch

    from intract_lsp.inference.decoder import LeanDecoder
    from intract_lsp.inference.transformers_network import TransformersNetwork

    if LeanDecoder.supports(model.config):
        with torch.inference_mode():
            return LeanDecoder(model, context_length)
    log.info("no lean forward for the architecture %s; using transformers' own", model.config.model_type)
    return TransformersNetwork(model)


def _quantize(network: Network, fim: FimFormat, tokenizer: TextTokenizer) -> None:
    """Quantise to int8, with this package's own code as the text to see the activations' spread on."""
    import torch

    from intract_lsp.inference.decoder import LeanDecoder
    from intract_lsp.inference.quantize import quantize

    if not isinstance(network, LeanDecoder):
        raise ModelError("This model's architecture cannot be quantised here yet: set model.precision to auto.")
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    longest = sorted(sources, key=len)[-CALIBRATION_PROMPTS:]
    middle = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in longest]
    prompts = [render(fim, PromptSource(*halves), CALIBRATION, tokenizer).ids for halves in middle]
    with torch.inference_mode():
        quantize(network, prompts)


def _load_model(directory: Path, dtype: Any, device: Any) -> Any:
    """Load the weights. Raises ``ModelError`` for a broken or unknown model, with the reason."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"The model in {directory} cannot be loaded ({first_line}); pull it again.") from error
    return model.to(device).eval()


def _configured_ends(model: Any) -> frozenset[int]:
    """Return the end tokens that the model's own configuration names."""
    configured = model.config.eos_token_id
    if configured is None:
        return frozenset()
    return frozenset([configured] if isinstance(configured, int) else configured)


def _count_parameters(directory: Path) -> int:
    """Return the number of weights in a directory's safetensors, read from their headers alone."""
    import math

    from safetensors import SafetensorError, safe_open

    total = 0
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as weights:
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged ({error}); remove the model and pull it again.") from error
    if total == 0:
        raise ModelError(f"{directory} holds no safetensors weights; choose a model directory or pull a model.")
    return total
