"""A model as torch computes it, or quantised from there: for GPUs, float formats and each model's first start."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.inference.decoder import LeanDecoder
from intract_lsp.inference.device import Placement, choose_placement, free_memory
from intract_lsp.inference.engine import LoadOrder, ModelFiles, ReportProgress
from intract_lsp.inference.loading import WORKING_MEMORY, Calibration, LoadedNetwork, check_memory
from intract_lsp.inference.packing import pack
from intract_lsp.inference.quantize import quantize
from intract_lsp.inference.quantized_copy import QuantizedModel
from intract_lsp.inference.torch_network import TorchNetwork
from intract_lsp.inference.weights import supported, take_over

log = logging.getLogger(__name__)

UNSTATED_CONTEXT = 2048
"""Tokens assumed where a model's configuration does not say how many it takes."""


def load(
    order: LoadOrder,
    files: ModelFiles,
    parameters: int,
    threads: int,
    calibration: Calibration,
    report: ReportProgress,
    token: CancelToken,
) -> LoadedNetwork | QuantizedModel:
    """Load a model where and in the format that the order says; quantised, it is not yet a network.

    Raises ``ModelError``.
    """
    torch.set_num_threads(threads)
    placement = choose_placement(order.device, order.precision)
    device = placement.device.type
    report(f"Loading {files.name}", None)
    needed = parameters * placement.loaded_dtype.itemsize + WORKING_MEMORY
    check_memory(needed, free_memory(placement.device), device, files.name)
    model = _load_model(files.directory, placement)
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
        network = TorchNetwork(TransformersNetwork(model))
        return LoadedNetwork(network, parameters, device, precision, context_length, ends, (note,))
    with torch.inference_mode():
        shape, tensors = take_over(model, context_length)
        del model
        if not placement.int8:
            decoder = TorchNetwork(LeanDecoder(shape, tensors))
            return LoadedNetwork(decoder, parameters, device, placement.precision, context_length, ends)
        report(f"Quantising {files.name}, once", None)
        quantized = QuantizedModel(shape, pack(shape, quantize(shape, tensors, calibration())), ends)
    gc.collect()
    _return_freed_memory()
    _stop_if_cancelled(token)
    return quantized


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
