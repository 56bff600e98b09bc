"""Low-rank adapters beside frozen linear layers: LoRA (Hu et al. 2021), QLoRA (Dettmers et al. 2023) if quantised.

The layers are our own, the files are peft's: peft's layer converts every activation to float32 and keeps the copies,
which on a CPU takes as long as the matrices themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from intract_lsp.errors import TrainingError
from intract_lsp.training.layers import linear
from intract_lsp.training.spec import LoraSpec, QuantizationSpec

PREFIX = "base_model.model."
"""What peft puts before a module's name in an adapter's file."""


class _Linear(torch.autograd.Function):
    """A frozen linear layer plus a low-rank one: ``x W' + b + (x (A * columns)') B'``.

    Of the input one copy is kept, in its own number format, shared with the other layers that see it. ``dense`` gives
    ``W``, which a quantised layer makes anew in each pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dense: Callable[[], Tensor],
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        columns: Tensor,
    ) -> Tensor:
        result = linear(x, dense(), bias)
        low = (a * columns).to(x.dtype)
        high = b.to(x.dtype)
        flat = x.reshape(-1, x.shape[-1])
        middle = flat @ low.t()
        result.view(-1, result.shape[-1]).addmm_(middle, high.t())
        ctx.dense = dense
        ctx.save_for_backward(x, middle, low, high, columns)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, middle, low, high, columns = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        of_middle = flat @ high
        of_b = (flat.t() @ middle).float()
        of_a = (of_middle.t() @ x.reshape(-1, x.shape[-1])).float() * columns
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (flat @ ctx.dense()).addmm_(of_middle, low).view(x.shape)
        return of_x, None, None, of_a, of_b, None


class _Frozen(torch.autograd.Function):
    """A frozen quantised linear layer, whose dense weight is not kept between the passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dense: Callable[[], Tensor], bias: Tensor | None) -> Tensor:
        ctx.dense = dense
        return linear(x, dense(), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient @ ctx.dense(), None, None


class QuantizedLinear(nn.Module):
    """A frozen linear layer in 4 or 8 bits, in bitsandbytes' formats with blocks of 64 values (8 bits: 256)."""

    def __init__(self, linear: nn.Linear, spec: QuantizationSpec, device: torch.device) -> None:
        super().__init__()
        from bitsandbytes import functional as formats

        weight = linear.weight.data.to(device)
        self._dtype = weight.dtype
        self._formats = formats
        if spec.bits == 4:
            packed, state = formats.quantize_4bit(
                weight, blocksize=64, compress_statistics=spec.double_quant, quant_type=spec.quant_type
            )
        else:
            packed, state = formats.quantize_blockwise(weight, blocksize=256, nested=spec.double_quant)
        self._four = spec.bits == 4
        self._state = state
        self.packed = nn.Buffer(packed, persistent=False)
        bias: Any = linear.bias
        self.bias = None if bias is None else nn.Parameter(bias.data.to(device), requires_grad=False)
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def dense(self) -> Tensor:
        """Return the weight, ``[out, in]``, in the format that it had."""
        dequantize = self._formats.dequantize_4bit if self._four else self._formats.dequantize_blockwise
        weight: Tensor = dequantize(self.packed, self._state).to(self._dtype)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        result: Tensor = _Frozen.apply(x, self.dense, self.bias)  # type: ignore[no-untyped-call]
        return result


class LoraLinear(nn.Module):
    """A frozen linear layer with low-rank matrices beside it, in float32.

    Dropout leaves out whole columns of A for a pass, the same for all its tokens (as Gal and Ghahramani 2016 do for
    each time step of a sequence): it costs nothing, where a mask for each activation costs as much as the matrices.
    """

    def __init__(self, base: nn.Linear | QuantizedLinear, spec: LoraSpec, generator: torch.Generator) -> None:
        super().__init__()
        device = base.packed.device if isinstance(base, QuantizedLinear) else base.weight.device
        self.base = base
        bound = 1.0 / math.sqrt(base.in_features)
        start = torch.empty(spec.r, base.in_features).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(start.to(device))
        self.b = nn.Parameter(torch.zeros(base.out_features, spec.r, device=device))
        self.columns = nn.Buffer(torch.full((base.in_features,), spec.alpha / spec.r, device=device), persistent=False)

    def _dense(self) -> Tensor:
        if isinstance(self.base, QuantizedLinear):
            return self.base.dense()
        return self.base.weight.data

    def forward(self, x: Tensor) -> Tensor:
        """Apply the frozen layer and the low-rank one."""
        found = _Linear.apply(x, self._dense, self.base.bias, self.a, self.b, self.columns)  # type: ignore[no-untyped-call]
        result: Tensor = found
        return result


@dataclass(frozen=True, slots=True)
class Adapter:
    """The low-rank layers of a model, by the frozen layers' names."""

    layers: dict[str, LoraLinear]
    spec: LoraSpec

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained, always in the same order."""
        return [matrix for layer in self.layers.values() for matrix in (layer.a, layer.b)]

    def set_scale(self, scale: float) -> None:
        """Weigh the adapter by ``scale`` on top of alpha / r, without dropout; 0 is the base model."""
        for layer in self.layers.values():
            layer.columns.fill_(scale * self.spec.alpha / self.spec.r)

    def drop(self, generator: torch.Generator) -> None:
        """Draw which columns the next pass leaves out; the others weigh so much more."""
        if not self.spec.dropout:
            return
        full = self.spec.alpha / self.spec.r
        for layer in self.layers.values():
            kept = torch.rand(len(layer.columns), generator=generator) >= self.spec.dropout
            layer.columns.copy_(kept * (full / (1.0 - self.spec.dropout)))

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Have the base model's outputs for a while."""
        before = [layer.columns.clone() for layer in self.layers.values()]
        self.set_scale(0.0)
        try:
            yield
        finally:
            for layer, columns in zip(self.layers.values(), before, strict=True):
                layer.columns.copy_(columns)

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the matrices on the CPU, by the names that peft gives them."""
        found = {}
        for name, layer in self.layers.items():
            found[f"{PREFIX}{name}.lora_A.weight"] = layer.a.detach().cpu().clone()
            found[f"{PREFIX}{name}.lora_B.weight"] = layer.b.detach().cpu().clone()
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take matrices over as ``tensors`` gave them. Raises ``TrainingError`` where they are another adapter's."""
        own = self.tensors()
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in tensors.items()}:
            raise TrainingError("The checkpoint is not of this run's adapter: start the run again.")
        with torch.no_grad():
            for name, layer in self.layers.items():
                layer.a.copy_(tensors[f"{PREFIX}{name}.lora_A.weight"])
                layer.b.copy_(tensors[f"{PREFIX}{name}.lora_B.weight"])


def linear_names(model: nn.Module, head: nn.Module | None) -> list[str]:
    """Return the names of all linear layers but the head."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]


def quantize(model: nn.Module, names: list[str], spec: QuantizationSpec, device: torch.device) -> None:
    """Replace linear layers by quantised ones on ``device``, one after another. Raises ``TrainingError``."""
    if spec.bits not in (4, 8) or spec.quant_type not in ("nf4", "fp4"):
        raise TrainingError("QLoRA needs bits of 4 or 8 and a quant_type of nf4 or fp4: change training's settings.")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            "QLoRA needs the package bitsandbytes: install it, or set training.method to lora."
        ) from error
    for name in names:
        parent, _, leaf = name.rpartition(".")
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        setattr(model.get_submodule(parent), leaf, QuantizedLinear(linear, spec, device))


def attach(model: nn.Module, names: list[str], spec: LoraSpec, seed: int) -> Adapter:
    """Put low-rank matrices beside the linear layers ``names`` that the spec targets; at first they change nothing.

    Raises ``TrainingError`` where a target is no linear layer of the model.
    """
    if spec.r < 1 or spec.alpha <= 0 or not 0 <= spec.dropout < 1:
        raise TrainingError(
            "lora_r and lora_alpha must be above 0 and lora_dropout in 0..1: change training's settings."
        )
    kinds = sorted({name.rpartition(".")[2] for name in names})
    unknown = sorted(set(spec.target_modules) - set(kinds) - set(names))
    if unknown:
        raise TrainingError(
            f"The model has no linear layer called {', '.join(unknown)} to adapt; it has {', '.join(kinds)}: "
            "change training.target_modules."
        )
    wanted = set(spec.target_modules)
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for name in names:
        parent, _, leaf = name.rpartition(".")
        if not wanted or leaf in wanted or name in wanted:
            base: Any = model.get_submodule(name)
            layers[name] = LoraLinear(base, spec, generator)
            setattr(model.get_submodule(parent), leaf, layers[name])
    return Adapter(layers, spec)


def write_files(adapter: Adapter, directory: Path, model: str, scale: float) -> None:
    """Write peft's two files into ``directory``, with ``scale`` in the alpha. Raises ``OSError``.

    In float16: it is as precise as the weights that they are added to are on the disk, and at rank 64 they are many.
    """
    from peft import LoraConfig

    spec = adapter.spec
    config = LoraConfig(
        r=spec.r,
        # Alpha need not be whole: what counts is alpha / r.
        lora_alpha=spec.alpha * scale,
        lora_dropout=spec.dropout,
        target_modules=list(spec.target_modules) or sorted({name.rpartition(".")[2] for name in adapter.layers}),
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=model,
        inference_mode=True,
    )
    config.save_pretrained(str(directory))
    halves = {name: tensor.half() for name, tensor in adapter.tensors().items()}
    save_file(halves, directory / "adapter_model.safetensors", {"format": "pt"})
