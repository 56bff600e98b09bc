"""Matrices in 4 bits (NF4 of QLoRA, Dettmers et al. 2023) through bitsandbytes, for models that a GPU cannot hold else.

Blocks of 64 weights share a scale, and 256 of those share one again (double quantisation). Embedding, head and norms
stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from intract_lsp.errors import ModelError
from intract_lsp.inference.decoder import Transform
from intract_lsp.inference.device import NF4_BYTES
from intract_lsp.inference.weights import LINEARS, Tensors


@dataclass(slots=True)
class FourBitLinear:
    """A matrix in 4 bits with an optional bias."""

    packed: Tensor
    state: Any
    """bitsandbytes' scales, shape and number format."""
    bias: Tensor | None
    multiply: Any
    """``bitsandbytes.matmul_4bit``."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return (tokens, out) for ``x`` of (tokens, in)."""
        product: Tensor = self.multiply(x, self.packed.t(), self.state, bias=self.bias)
        return product

    @property
    def size_bytes(self) -> int:
        """Memory of the weights and their scales."""
        scales = [self.state.absmax, *([self.state.state2.absmax] if self.state.nested else [])]
        return sum(each.numel() * each.element_size() for each in (self.packed, *scales))


def quantize(tensors: Tensors, device: torch.device) -> tuple[Tensors, dict[str, Transform]]:
    """Quantise the layers' matrices one after the other, each on ``device``; the rest is moved there as it is.

    Returns the rest and the matrices by name, as ``LeanDecoder`` takes them. ``tensors`` is emptied as it goes, so that
    a GPU never holds more than one matrix twice. Raises ``ModelError`` where bitsandbytes cannot be used.
    """
    library = _bitsandbytes()
    matrices = [name for name in tensors if name.rpartition(".")[0].rpartition(".")[2] in LINEARS]
    linears: dict[str, Transform] = {}
    for name in [each.removesuffix(".weight") for each in matrices if each.endswith(".weight")]:
        weight = tensors.pop(f"{name}.weight").to(device).contiguous()
        bias = tensors.pop(f"{name}.bias", None)
        packed, state = library.functional.quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
        linears[name] = FourBitLinear(
            packed, state, None if bias is None else bias.to(device), multiply=library.matmul_4bit
        )
    # Each once: a tied head is the embedding itself.
    moved: dict[int, Tensor] = {}
    kept: Tensors = {}
    for name in list(tensors):
        tensor = tensors.pop(name)
        if tensor.data_ptr() not in moved:
            moved[tensor.data_ptr()] = tensor.to(device)
        kept[name] = moved[tensor.data_ptr()]
    return kept, linears


def bytes_needed(config: Any, parameters: int) -> int:
    """Return the memory of a model's weights with its matrices in 4 bits and the embedding and head in 16."""
    untied = not getattr(config, "tie_word_embeddings", False)
    outside = (1 + untied) * int(config.vocab_size) * int(config.hidden_size)
    return int(max(0, parameters - outside) * NF4_BYTES) + 2 * outside


def transformers_config(dtype: torch.dtype) -> Any:
    """Return the same format as transformers quantises a model to while loading it. Raises ``ModelError``."""
    from transformers import BitsAndBytesConfig

    _bitsandbytes()
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except (ImportError, RuntimeError, OSError) as error:
        raise ModelError(
            f"4-bit weights need the package bitsandbytes, which cannot be used ({error}): "
            "install it again, or set model.precision to auto."
        ) from error
    return bitsandbytes
