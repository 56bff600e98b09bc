"""From a model directory to a network: in int8 where the CPU is made for it, else in floats through torch.

Where an int8 copy is there already, neither torch nor transformers is imported: they take seconds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from intract_lsp.completion.generation import CancelToken, PromptBudget
from intract_lsp.errors import ModelError
from intract_lsp.inference import quantized_copy
from intract_lsp.inference.adapted import check_adapter, int8_copy
from intract_lsp.inference.engine import LoadOrder, ModelFiles, ReportProgress
from intract_lsp.inference.int8_decoder import Int8Decoder
from intract_lsp.inference.kv_cache import Network
from intract_lsp.inference.quantized_copy import QuantizedModel
from intract_lsp.inference.team import Team
from intract_lsp.models.free_memory import available_memory
from intract_lsp.models.hardware import has_gpu

log = logging.getLogger(__name__)

WORKING_MEMORY = 400 << 20
"""Bytes beside the weights: libraries, activations, the KV cache of one prompt."""

INT8_BYTES = 1.1
"""Of memory for each weight of an int8 model: all matrices, and of the embedding only what is looked up."""

CPU_BUDGET = PromptBudget(512, 128, 256)
GPU_BUDGET = PromptBudget(2048, 512, 1024)


class NoRoomError(ModelError):
    """Memory does not hold a model beside what else is in it now."""


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network with what is known of its model."""

    network: Network[Any]
    parameters: int
    device: str
    precision: str
    context_length: int
    """Most tokens, prompt and answer together, that the model was made for."""
    end_ids: frozenset[int]
    """Tokens that end an answer by the model's own configuration."""
    notes: tuple[str, ...] = ()
    weight_bytes: int = 0
    """As in ``ModelCard``."""

    @property
    def budget(self) -> PromptBudget:
        """The default prompt budget on this device."""
        return CPU_BUDGET if self.device == "cpu" else GPU_BUDGET


Calibration = Callable[[], list[tuple[int, ...]]]
"""Gives prompts for quantising to see the activations' spread on."""


def load_network(
    order: LoadOrder,
    files: ModelFiles,
    threads: int,
    calibration: Calibration,
    report: ReportProgress,
    token: CancelToken,
) -> LoadedNetwork:
    """Load a model as the order says, for at most ``threads`` threads on a CPU.

    Raises ``ModelError``, and ``AdapterError`` where it is the order's adapter that cannot be used.
    """
    parameters = count_parameters(files.directory)
    if order.adapter is not None:
        check_adapter(order.adapter, files)
    copy, made_from = int8_copy(files, order.adapter)
    if copy is not None and _may_be_int8(order):
        report(f"Loading {files.name}", None)
        quantized = quantized_copy.read(copy, made_from)
        if quantized is not None:
            needed = int(parameters * INT8_BYTES) + WORKING_MEMORY
            check_memory(needed, available_memory(), "cpu", files.name)
            return _from_int8(quantized, parameters, threads)
    report("Starting torch", None)
    from intract_lsp.inference import torch_loading

    found = torch_loading.load(order, files, parameters, threads, calibration, report, token)
    if isinstance(found, LoadedNetwork):
        return found
    kept = found if copy is None else _kept(copy, made_from, found)
    held = int(parameters * INT8_BYTES) if kept is found else 0
    return _from_int8(kept, parameters, threads, held)


def check_memory(needed: int, free: int, device: str, model: str) -> None:
    """Refuse, with the numbers, to load what does not fit: ``needed`` bytes of weights and working memory.

    Raises ``NoRoomError``.
    """
    if needed > free:
        raise NoRoomError(
            f"{model} needs {needed >> 20} MiB on the {device} and {free >> 20} MiB are free: "
            "close other programs or choose a smaller model (`intract-lsp models list`)."
        )


def _may_be_int8(order: LoadOrder) -> bool:
    """Whether an int8 copy, where there is one, is what the order asks for."""
    if order.precision not in ("auto", "int8"):
        return False
    return order.device == "cpu" or (order.device == "auto" and not has_gpu())


def _from_int8(model: QuantizedModel, parameters: int, threads: int, held: int = 0) -> LoadedNetwork:
    decoder = Int8Decoder(model.shape, model.arrays, Team(threads))
    length = model.shape.context_length
    return LoadedNetwork(decoder, parameters, "cpu", "int8", length, model.end_ids, weight_bytes=held)


def _kept(copy: Path, made_from: str, model: QuantizedModel) -> QuantizedModel:
    """Write the int8 copy and return it as read back, mapped; else the model as it is."""
    try:
        quantized_copy.write(copy, made_from, model)
    except OSError as error:
        log.warning("the int8 copy could not be kept (%s): quantising again at the next start", error)
        return model
    return quantized_copy.read(copy, made_from) or model


def count_parameters(directory: Path) -> int:
    """Return the number of weights in a directory's safetensors, read from their headers alone."""
    total = 0
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as weights:
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged ({error}); remove the model and pull it again.") from error
    if total == 0:
        raise ModelError(f"{directory} holds no safetensors weights; choose a model directory or pull a model.")
    return total
