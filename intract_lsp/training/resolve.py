"""From the settings, the machine and the model to what a run is asked to do: pure, so that defaults can be tested.

Where the defaults come from: "LoRA Learns Less and Forgets Less" (Biderman et al. 2024) for ``alpha = 2 r``, "LoRA
Without Regret" (Thinking Machines 2025) for small batches and, where there are many steps, small ranks, QLoRA (Dettmers
et al. 2023), and what was measured on two CPU cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from intract_lsp.errors import TrainingError
from intract_lsp.models.hardware import Hardware
from intract_lsp.settings import ModelSettings, TrainingSettings
from intract_lsp.training.spec import DataSpec, LoraSpec, Method, QuantizationSpec, RunSpec, TrainerSpec

QLORA_BELOW = 3.0
"""Times the weights in 16 bits: with less GPU memory than that, ``auto`` takes ``qlora``."""

CHECKPOINTING_ABOVE = 0.6
"""Share of the GPU's memory that weights, gradients and the optimiser's state fill before ``auto`` computes activations
twice."""

STANDARD_RATE = 0.1
"""Of the learning rate, where all weights are trained: low-rank matrices take about ten times as much."""

RATE, RANK, SCALE = 2e-4, 16, 1.0
"""Learning rate, rank, and what an adapter is weighed by in the end: on a GPU."""
RATE_OF_FEW_STEPS, RANK_OF_FEW_STEPS, SCALE_OF_FEW_STEPS = 2e-4, 64, 0.4
"""The same on a CPU, which takes some dozens of steps in its time. In these the gradient is followed in little more
than the random directions that the matrices begin with: what is learnt grows with their number, the noise with its
root, so that a lower rank has a rate higher by that root."""

_BYTES_OF_16_BITS = {Method.STANDARD: 8.0, Method.LORA: 1.1, Method.QLORA: 0.4}
"""Bytes that a method keeps in memory for each byte of the weights in 16 bits, activations aside."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model to train on."""

    name: str
    directory: Path
    """With ``config.json``, safetensors and a tokenizer."""
    fim_family: str
    """Key of the prompt format; empty = by the tokenizer's tokens."""
    weight_bytes: int
    """Of its weights in 16 bits."""


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Which run it is, and where."""

    id: str
    workspace: Path
    """The folder to learn from."""
    folder: Path
    """The run's own directory."""


def resolve(
    training: TrainingSettings, model: ModelSettings, machine: Hardware, base: BaseModel, place: RunPlace
) -> RunSpec:
    """Return the run that these settings mean on this machine; zeros and ``auto`` become numbers.

    Raises ``TrainingError`` where the settings leave nothing to train on, or fine-tuning is switched off.
    """
    _check(training)
    on_gpu = machine.gpu_kind == "cuda" and model.device in ("auto", "cuda")
    method = _method(training.method, on_gpu, machine, base)
    rank = training.lora_r or (RANK if on_gpu else RANK_OF_FEW_STEPS)
    context = training.context_length or (2048 if on_gpu else 512)
    return RunSpec(
        id=place.id,
        workspace=str(place.workspace),
        folder=str(place.folder),
        model=base.name,
        model_directory=str(base.directory),
        fim_family=base.fim_family,
        precision=model.precision,
        data=DataSpec(
            context_length=context,
            use_ntp=training.use_ntp,
            use_fim=training.use_fim,
            ntp_share=training.ntp_share,
            held_out=training.held_out,
            exclude=training.exclude,
        ),
        trainer=TrainerSpec(
            method=method,
            lora=LoraSpec(rank, training.lora_alpha or 2 * rank, training.lora_dropout, training.target_modules),
            quantization=QuantizationSpec(training.bits, training.double_quant, training.quant_type),
            optimiser=_optimiser(training.optim, method, on_gpu),
            learning_rate=_rate(training.learning_rate, method, on_gpu, rank),
            scale=SCALE if on_gpu else SCALE_OF_FEW_STEPS,
            minutes=_minutes(training, on_gpu),
            steps=training.steps,
            epochs=training.epochs,
            batch_size=training.batch_size or (16 if on_gpu else 4),
            context_length=context,
            gradient_checkpointing=_checkpointing(training.gradient_checkpointing, method, on_gpu, machine, base),
            device="cuda" if on_gpu else "cpu",
            processes=_processes(training.gpus, machine) if on_gpu else 1,
            threads=model.threads,
            seed=training.seed,
        ),
    )


def _check(training: TrainingSettings) -> None:
    if not training.enabled:
        raise TrainingError("Fine-tuning is switched off: set training.enabled to true.")
    if not training.train_on_code:
        raise TrainingError("There is nothing to train on: set training.train_on_code to true.")
    if not training.use_ntp and not training.use_fim:
        raise TrainingError("There is nothing to train on: set training.use_fim or training.use_ntp to true.")


def _method(asked: str, on_gpu: bool, machine: Hardware, base: BaseModel) -> Method:
    if asked != "auto":
        return Method(asked)
    tight = on_gpu and machine.gpu_memory_bytes < QLORA_BELOW * base.weight_bytes
    return Method.QLORA if tight else Method.LORA


def _processes(asked: int, machine: Hardware) -> int:
    if asked > max(1, machine.gpus):
        raise TrainingError(f"training.gpus is {asked}, and this machine has {machine.gpus}: set it to no more.")
    return asked or max(1, machine.gpus)


def _optimiser(asked: str, method: Method, on_gpu: bool) -> str:
    if asked != "auto":
        return asked
    if not on_gpu:
        return "adamw_torch"
    return "paged_adamw_8bit" if method is Method.QLORA else "adamw_8bit"


def _rate(asked: float, method: Method, on_gpu: bool, rank: int) -> float:
    if method is Method.STANDARD:
        return STANDARD_RATE * (asked or RATE)
    return asked or (RATE if on_gpu else RATE_OF_FEW_STEPS * math.sqrt(RANK_OF_FEW_STEPS / rank))


def _minutes(training: TrainingSettings, on_gpu: bool) -> float:
    if training.minutes or training.steps or training.epochs:
        return training.minutes
    return 60.0 if on_gpu else 20.0


def _checkpointing(asked: str, method: Method, on_gpu: bool, machine: Hardware, base: BaseModel) -> bool:
    if asked != "auto":
        return asked == "on"
    return on_gpu and base.weight_bytes * _BYTES_OF_16_BITS[method] > CHECKPOINTING_ABOVE * machine.gpu_memory_bytes
