"""From a model directory to a network: the lean decoder, in int8 where the CPU is made for it, else transformers' own.

Imports torch; transformers only where a quantised copy does not make it unnecessary.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.inference import quantized_copy
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.device import Placement, check_memory
from intract_lsp.inference.engine import ReportProgress
from intract_lsp.inference.kv_cache import Network
from intract_lsp.inference.quantize import quantize
from intract_lsp.inference.quantized_copy import QuantizedModel
from intract_lsp.inference.weights import supported, take_over

log = logging.getLogger(__name__)

WORKING_MEMORY = 400 << 20
"""Bytes beside the weights: torch itself, activations, the KV cache of one prompt."""

UNSTATED_CONTEXT = 2048
"""Tokens assumed where a model's configuration does not say how many it takes."""

INT8_BYTES = 1.6
"""Of memory for each weight of an int8 model: the packed matrices, and the embedding as it is looked up."""


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network with what is known of its model."""

    network: Network[Any]
    parameters: int
    precision: str
    context_length: int
    """Most tokens, prompt and answer together, that the model was made for."""
    end_ids: frozenset[int]
    """Tokens that end an answer by the model's own configuration."""
    notes: tuple[str, ...] = ()


def load_network(
    name: str,
    directory: Path,
    copy: Path | None,
    placement: Placement,
    calibration: Callable[[], list[tuple[int, ...]]],
    report: ReportProgress,
    token: CancelToken,
) -> LoadedNetwork:
    """Load the model in ``directory``; its int8 copy lies, or will be kept, at ``copy``.

    ``calibration`` gives prompts for quantising to see the activations' spread on. Raises ``ModelError``.
    """
    parameters = _count_parameters(directory)
    made_from = quantized_copy.fingerprint(directory)
    if placement.int8 and copy is not None:
        quantized = quantized_copy.read(copy, made_from)
        if quantized is not None:
            check_memory(int(parameters * INT8_BYTES) + WORKING_MEMORY, placement, name)
            return _from_int8(quantized, parameters)
    check_memory(parameters * placement.loaded_dtype.itemsize + WORKING_MEMORY, placement, name)
    model = _load_model(directory, placement)
    context_length = getattr(model.config, "max_position_embeddings", None) or UNSTATED_CONTEXT
    ends = _configured_ends(model)
    _stop_if_cancelled(token)
    if not supported(model.config):
        from intract_lsp.inference.transformers_network import TransformersNetwork

        # What int8 was chosen for is the lean forward; transformers' own runs in the CPU's fastest float format.
        model = model.to(placement.dtype)
        precision = str(placement.dtype).removeprefix("torch.")
        kind = model.config.model_type
        note = f"There is no fast path for {kind} models yet: transformers' own runs, in {precision}."
        log.info("no lean forward for the architecture %s", kind)
        return LoadedNetwork(TransformersNetwork(model), parameters, precision, context_length, ends, (note,))
    with torch.inference_mode():
        shape, tensors = take_over(model, context_length)
        del model
        if not placement.int8:
            decoder = LeanDecoder(shape, tensors)
            return LoadedNetwork(decoder, parameters, placement.precision, context_length, ends)
        report(f"Quantising {name}, once", None)
        quantized = QuantizedModel(shape, quantize(shape, tensors, calibration()), ends)
    _stop_if_cancelled(token)
    if copy is not None:
        quantized = _kept(copy, made_from, quantized)
    return _from_int8(quantized, parameters)


def _from_int8(model: QuantizedModel, parameters: int) -> LoadedNetwork:
    shape = model.shape
    with torch.inference_mode():
        decoder = LeanDecoder(shape, model.tensors)
    return LoadedNetwork(decoder, parameters, "int8", shape.context_length, model.end_ids)


def _kept(copy: Path, made_from: str, model: QuantizedModel) -> QuantizedModel:
    """Write the int8 copy and return it as read back, so that no float weights stay; else the model as it is."""
    try:
        quantized_copy.write(copy, made_from, model)
    except OSError as error:
        log.warning("the int8 copy could not be kept (%s): quantising again at the next start", error)
        return model
    read = quantized_copy.read(copy, made_from)
    if read is None:
        return model
    model.tensors.clear()
    gc.collect()
    _return_freed_memory()
    return read


def _return_freed_memory() -> None:
    """Give the float weights' memory back to the system, which glibc would keep for later."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such call
            ctypes.CDLL(None).malloc_trim(0)


def _stop_if_cancelled(token: CancelToken) -> None:
    if token.cancelled:
        raise ModelError("Loading the model was cancelled.")


def _load_model(directory: Path, placement: Placement) -> Any:
    """Load the weights. Raises ``ModelError`` for a broken or unknown model, with the reason."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=placement.loaded_dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"The model in {directory} cannot be loaded ({first_line}); pull it again.") from error
    return model.to(placement.device).eval()


def _configured_ends(model: Any) -> frozenset[int]:
    """Return the end tokens that the model's own configuration names."""
    configured = model.config.eos_token_id
    if configured is None:
        return frozenset()
    return frozenset([configured] if isinstance(configured, int) else configured)


def _count_parameters(directory: Path) -> int:
    """Return the number of weights in a directory's safetensors, read from their headers alone."""
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
