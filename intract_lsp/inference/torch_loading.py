"""A model as torch computes it, or quantised from there: for GPUs, float formats and each model's first start."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from intract_lsp.allocator import return_freed_memory
from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import AdapterError, ModelError
from intract_lsp.inference import four_bit
from intract_lsp.inference.decoder import LeanDecoder, Transform
from intract_lsp.inference.device import Placement, choose, flash_attention, free_memory, look
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, LoadOrder, ModelFiles, ReportProgress
from intract_lsp.inference.graphs import USUAL_POSITIONS, GraphedDecoder, cuda_recorder
from intract_lsp.inference.loading import WORKING_MEMORY, Calibration, LoadedNetwork, check_memory
from intract_lsp.inference.merging import merge
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

    Raises ``ModelError``, and ``AdapterError`` for the order's adapter.
    """
    torch.set_num_threads(threads)
    machine = look()
    placement = choose(machine, order.device, order.precision, parameters)
    device = placement.device.type
    log.info("%s on the %s in %s: %s", files.name, device, placement.precision, placement.reason)
    report(f"Loading {files.name}", None)
    _check_fits(files, placement, parameters)
    flash, note = flash_attention(machine, placement, order.flash_attention)
    notes = (note,) if note else ()
    if device == "cuda":
        torch.backends.cuda.enable_flash_sdp(order.flash_attention != "off")
        torch.set_float32_matmul_precision("high")  # TF32: as exact as the 16-bit formats, several times as fast
    model = _load_adapted(files, order.adapter, placement)
    context_length = getattr(model.config, "max_position_embeddings", None) or UNSTATED_CONTEXT
    ends = _configured_ends(model)
    _stop_if_cancelled(token)
    if not supported(model.config):
        from intract_lsp.inference.transformers_network import TransformersNetwork

        # What int8 was chosen for is the lean forward; transformers' own runs in the CPU's fastest float format.
        model = model if placement.nf4 else model.to(placement.dtype)
        precision = "nf4" if placement.nf4 else str(placement.dtype).removeprefix("torch.")
        kind = model.config.model_type
        note = f"There is no fast path for {kind} models yet: transformers' own runs, in {precision}."
        log.info("no lean forward for the architecture %s", kind)
        network = TorchNetwork(TransformersNetwork(model))
        held = _weight_bytes(files, placement, parameters)
        return LoadedNetwork(network, parameters, device, precision, context_length, ends, (note, *notes), held)
    with torch.inference_mode():
        shape, tensors = take_over(model, context_length)
        del model
        if not placement.int8:
            linears: dict[str, Transform] = {}
            if placement.nf4:
                report(f"Quantising {files.name}", None)
                tensors, linears = four_bit.quantize(tensors, placement.device)
            network = _short_steps(LeanDecoder(shape, tensors, linears, flash), report)
            held = _weight_bytes(files, placement, parameters)
            return LoadedNetwork(network, parameters, device, placement.precision, context_length, ends, notes, held)
        report(f"Quantising {files.name}, once", None)
        quantized = QuantizedModel(shape, pack(shape, quantize(shape, tensors, calibration())), ends)
    gc.collect()
    return_freed_memory()
    _stop_if_cancelled(token)
    return quantized


def _weight_bytes(files: ModelFiles, placement: Placement, parameters: int) -> int:
    """Return the memory that the weights take once they are loaded, in floats or in 4 bits."""
    if placement.nf4:
        return four_bit.bytes_needed(_configuration(files.directory), parameters)
    return parameters * placement.loaded_dtype.itemsize


def _check_fits(files: ModelFiles, placement: Placement, parameters: int) -> None:
    """Refuse a model that memory does not hold. Raises ``ModelError``."""
    needed = parameters * placement.loaded_dtype.itemsize + WORKING_MEMORY
    loaded_on = torch.device("cpu") if placement.nf4 else placement.device
    check_memory(needed, free_memory(loaded_on), loaded_on.type, files.name)
    if placement.nf4 and placement.device.type != "cpu":
        quantized = _weight_bytes(files, placement, parameters) + WORKING_MEMORY
        check_memory(quantized, free_memory(placement.device), placement.device.type, files.name)


def _short_steps(decoder: LeanDecoder, report: ReportProgress) -> TorchNetwork[Any]:
    """Return a decoder as a network; on a CUDA GPU its short passes are recorded now."""
    if decoder.device.type != "cuda":
        return TorchNetwork(decoder)
    graphed = GraphedDecoder(decoder, cuda_recorder(decoder.device))
    graphed.prepare(USUAL_POSITIONS, lambda fraction: report("Recording CUDA graphs", fraction))
    return TorchNetwork(graphed)


def _stop_if_cancelled(token: CancelToken) -> None:
    if token.cancelled:
        raise ModelError("Loading the model was cancelled.")


def _load_adapted(files: ModelFiles, adapter: AdapterFiles | None, placement: Placement) -> Any:
    """Load the weights, an adapter merged into them in the number format of the placement."""
    if adapter is None:
        return _load_model(files.directory, placement)
    if adapter.kind is AdapterKind.STANDARD:
        try:
            return _load_model(adapter.directory, placement)
        except ModelError as error:
            raise AdapterError(f"The adapter {adapter.id} cannot be loaded: {error}") from error
    model = _load_model(files.directory, placement)
    if placement.nf4 and not supported(model.config):
        raise AdapterError(
            f"The adapter {adapter.id} cannot be merged into {model.config.model_type} weights of 4 bits: "
            "set model.precision to auto."
        )
    merge(model, adapter)
    return model


def _load_model(directory: Path, placement: Placement) -> Any:
    """Load the weights. Raises ``ModelError`` for a broken or unknown model, with the reason."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    device, options = placement.device, {}
    if placement.nf4 and supported(_configuration(directory)):
        device = torch.device("cpu")  # adapters are merged before the matrices are quantised
    elif placement.nf4:
        options["quantization_config"] = four_bit.transformers_config(placement.dtype)
    if device.type == "cuda" or options:
        options["device_map"] = {"": device}  # a large model may not fit into the machine's own memory
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=placement.loaded_dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"The model in {directory} cannot be loaded ({first_line}); pull it again.") from error
    return (model if options else model.to(device)).eval()


def _configuration(directory: Path) -> Any:
    """Read a model's configuration. Raises ``ModelError`` where it is broken or unknown."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(f"The model in {directory} cannot be loaded ({first_line}); pull it again.") from error


def _configured_ends(model: Any) -> frozenset[int]:
    """Return the end tokens that the model's own configuration names."""
    configured = model.config.eos_token_id
    if configured is None:
        return frozenset()
    return frozenset([configured] if isinstance(configured, int) else configured)
