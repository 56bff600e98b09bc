"""The model that a run trains: loaded, made lean, with what is trained of it; hidden states and losses of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from intract_lsp.errors import TrainingError
from intract_lsp.inference.threads import ThreadCount, physical_cores
from intract_lsp.training import lora
from intract_lsp.training.batches import Micro, pack
from intract_lsp.training.layers import (
    PACKED,
    GatedFeedForward,
    head_loss,
    last_feed_forward,
    make_lean,
    packed_attention,
)
from intract_lsp.training.sample import Sample, SampleKind
from intract_lsp.training.spec import Method, RunSpec

_PROBE = (9, 7)
"""Lengths of the two samples on which the lean forward is compared with transformers' own."""


@dataclass(frozen=True, slots=True)
class Base:
    """A loaded model without anything to train yet; ``attach`` makes a ``Trainable`` of it, once."""

    model: Any
    """A transformers causal language model."""
    device: torch.device
    dtype: torch.dtype
    """What is computed in."""
    threads: ThreadCount | None = None
    """Follows the load that other programs put on the CPU; ``None`` where the number of threads is fixed."""
    last: GatedFeedForward | None = None
    """The last layer's, which is computed where its outputs are asked for alone; ``None`` where it is not known."""

    @property
    def head(self) -> nn.Linear:
        """The output head."""
        head: nn.Linear = self.model.get_output_embeddings()
        return head

    def hidden(self, micro: Micro) -> Tensor:
        """Return the last hidden states of the rows whose successors are targets, ``[targets, width]``.

        Before it, and until the next time, the cores are left alone that other programs have taken.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads.look())
        if self.last is not None:
            self.last.rows = micro.rows
        with self._casts():
            found = self.model.base_model(
                input_ids=micro.ids, position_ids=micro.positions, use_cache=False, starts=micro.starts
            )
        hidden: Tensor = found.last_hidden_state[0].index_select(0, micro.rows)
        return hidden.to(self.dtype)

    def losses(self, hidden: Tensor, micro: Micro, weights: Tensor, **divergence: Any) -> tuple[Tensor, Tensor]:
        """Return ``head_loss`` of hidden states through this model's head."""
        head = self.head
        scaling = float(getattr(self.model.config, "logits_scaling", 1.0))
        return head_loss(hidden, head.weight, head.bias, micro.targets, weights, scaling=scaling, **divergence)

    @torch.no_grad()
    def sample_loss(self, sample: Sample) -> tuple[float, int]:
        """Return the summed negative log-likelihood (nats) of a sample's supervised tokens, and how many they are."""
        micro = pack([sample], [False], self.device)
        total, _ = self.losses(self.hidden(micro), micro, torch.ones_like(micro.weights))
        return float(total), len(micro.targets)

    def text_loss(
        self, encode: Callable[[str], list[int]], shown: int = 64, judged: int = 128
    ) -> Callable[[str], float]:
        """Return a function from a text to its mean negative log-likelihood a token, over ``judged`` of its tokens.

        Before them stand ``shown`` others: the first tokens of any text are hard to guess, and say nothing of it. A
        shorter text has a third of its tokens shown; 0.0 for one of fewer than two tokens.
        """

        def loss(text: str) -> float:
            # A token has seldom more than eight characters: the rest need not be tokenised.
            most = shown + judged
            ids = tuple(encode(text[: most * 8])[:most])
            if len(ids) < 2:
                return 0.0
            total, count = self.sample_loss(Sample(ids, max(1, min(shown, len(ids) // 3)), SampleKind.TEXT))
            return total / count

        return loss

    def _casts(self) -> AbstractContextManager[Any]:
        """Weights that are trained lie in float32 and are cast as they are used."""
        if self.head.weight.dtype == self.dtype:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model with what is trained of it."""

    base: Base
    adapter: lora.Adapter | None
    """``None`` where every weight is trained."""

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained, always in the same order."""
        if self.adapter is not None:
            return self.adapter.parameters()
        return [parameter for parameter in self.base.model.parameters() if parameter.requires_grad]

    def tensors(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Return copies of what is trained, on the CPU, by name; in their own format (float32) or in ``dtype``."""
        if self.adapter is not None:
            return self.adapter.tensors()
        return {
            name: parameter.detach().to("cpu", dtype or parameter.dtype, copy=True)
            for name, parameter in self.base.model.named_parameters()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what ``tensors`` gave. Raises ``TrainingError`` where it is of another model or adapter."""
        if self.adapter is not None:
            self.adapter.load(tensors)
            return
        own = dict(self.base.model.named_parameters())
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in tensors.items()}:
            raise TrainingError("The checkpoint is not of this run's model: start the run again.")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    def set_scale(self, scale: float) -> None:
        """Weigh the adapter, without dropout; a model trained as a whole has no scale."""
        if self.adapter is not None:
            self.adapter.set_scale(scale)

    @contextmanager
    def base_only(self) -> Iterator[None]:
        """Have the base model's outputs for a while, without gradients; only with an adapter."""
        assert self.adapter is not None
        with torch.no_grad(), self.adapter.disabled():
            yield


def compute_dtype(device: torch.device, method: Method = Method.LORA) -> torch.dtype:
    """Return the number format that a device computes fastest and training by a method bears."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        # Gradients of all weights would underflow in float16.
        return torch.float32 if method is Method.STANDARD else torch.float16
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            return torch.bfloat16
    # Without instructions of its own, bfloat16 is many times slower than float32 on a CPU.
    return torch.float32


def load_base(spec: RunSpec, dtype: torch.dtype | None = None) -> Base:
    """Load the base model of a run, in ``dtype`` or what its device computes fastest.

    Raises ``TrainingError`` where the device is not there, the files are broken or the architecture cannot be trained.
    """
    method = spec.trainer.method
    try:
        device = torch.device(spec.trainer.device)
    except RuntimeError as error:
        raise TrainingError(
            f"There is no device {spec.trainer.device}: set training's device to cpu or cuda."
        ) from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise TrainingError(
            f"Nothing can be trained on the device {device} here: set it to cpu, or to cuda with a GPU."
        )
    cores = physical_cores()
    torch.set_num_threads(spec.trainer.threads or cores)
    follows = device.type == "cpu" and not spec.trainer.threads and spec.trainer.processes == 1
    dtype = dtype or compute_dtype(device, method)
    AutoModel = _library()
    try:
        model = AutoModel.from_pretrained(
            Path(spec.model_directory),
            dtype=torch.float32 if method is Method.STANDARD else dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(f"{spec.model} cannot be loaded for training ({reason}): pull it again.") from error
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # dropout is the adapter's, as set; some configurations bring their own
    probe = pack([_probe(model, length) for length in _PROBE], [False, False], torch.device("cpu"))
    with torch.no_grad():
        expected = torch.cat([_plain_losses(model, _probe(model, length)) for length in _PROBE])
        model.set_attn_implementation(PACKED)
        lean = method is not Method.STANDARD
        if lean:
            make_lean(model, getattr(model.config, "hidden_act", ""))
        last = last_feed_forward(model)
        base = Base(model, torch.device("cpu"), dtype if lean else torch.float32, last=last)
        # Some architectures have attention of their own, which cannot be replaced.
        fits = model.config._attn_implementation == PACKED
        found = base.losses(base.hidden(probe), probe, probe.weights)[1] if fits else expected
    if not fits or not torch.allclose(expected, found, rtol=0.05, atol=0.1):
        raise TrainingError(
            f"{spec.model} is of a kind ({model.config.model_type}) that cannot be fine-tuned yet: choose another one."
        )
    if method is Method.QLORA:
        names = lora.linear_names(model, model.get_output_embeddings())
        lora.quantize(model, names, spec.trainer.quantization, device)
    model.to(device)
    return Base(model, device, dtype, ThreadCount(cores) if follows else None, last)


def attach(base: Base, spec: RunSpec) -> Trainable:
    """Make trainable what the run's method trains. Raises ``TrainingError`` for settings that do not fit the model."""
    trainer = spec.trainer
    if trainer.gradient_checkpointing:
        checkpoint_gradients(base)
    base.model.train()
    if trainer.method is Method.STANDARD:
        base.model.requires_grad_(True)
        return Trainable(base, None)
    names = [
        name
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear | lora.QuantizedLinear) and module is not base.head
    ]
    return Trainable(base, lora.attach(base.model, names, trainer.lora, trainer.seed))


def checkpoint_gradients(base: Base) -> None:
    """Keep only each layer's input for the backward pass and compute the layer again there."""
    base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _library() -> Any:
    from transformers import AttentionInterface, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    AttentionInterface.register(PACKED, packed_attention)
    return AutoModelForCausalLM


def _probe(model: Any, length: int) -> Sample:
    size = model.get_input_embeddings().weight.shape[0]
    return Sample(tuple((7 + 31 * index * length) % size for index in range(length)), 1, SampleKind.TEXT)


def _plain_losses(model: Any, sample: Sample) -> Tensor:
    ids = torch.tensor([sample.ids])
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    return nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
