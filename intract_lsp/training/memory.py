"""Whether there is room for a run beside the model that serves, in numbers, before it starts. Imports no torch."""

from __future__ import annotations

import json
import math
import shutil
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from intract_lsp.errors import TrainingError
from intract_lsp.models.free_memory import available_memory
from intract_lsp.training.spec import Method, RunSpec

_GIB = 2**30

RESERVE = 0.1
"""Of the free memory, for what else the machine does."""
_PROGRAM = 700 * 2**20
"""Bytes of the interpreter with its libraries."""
_MICRO_TOKENS = 512
"""Tokens of a micro-batch that a plan counts on, or one sample if it is longer; ``trainer.MICRO_TOKENS`` on a CPU."""
_LOGITS = 1 << 25
"""Most logits at a time, each in float32 and a few times over; what ``layers.head_loss`` makes."""
_SERVED_BYTES = {"int8": 1.3, "nf4": 0.6, "float32": 4.0}
"""For each weight of a model that serves, or is measured as it serves; 2 in the other formats. In nf4 the embeddings
are in 16 bits."""
_SERVED_BESIDE = 600 * 2**20
"""Bytes that such a model takes beside its weights: keys and values, and what a step computes."""
_COPY_BYTES = 1.3
"""Of an int8 copy, for each weight: a head that is the embedding is kept once more."""
_COPIED_BYTES = 4.0
"""Of the float32 weights that it is made from, for each weight."""

_OPTIMISER_BYTES = {"adamw_8bit": 2.1, "paged_adamw_8bit": 2.1, "sgd": 4.0, "adafactor": 0.1}
"""That an optimiser keeps for each trained parameter, where it is not two float32 numbers."""


class Decision(str, Enum):
    """What a run's memory allows."""

    COEXIST = "coexist"
    """The run fits beside the model that serves."""
    PAUSE_SERVING = "pause-serving"
    """It fits once that model is unloaded."""
    REFUSE = "refuse"
    """It does not fit."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What memory depends on, of a model."""

    parameters: int
    vocabulary: int
    layers: int
    width: int
    feed_forward: int
    tied: bool
    """Whether the head is the embedding."""

    @property
    def embeddings(self) -> int:
        """Parameters of the embedding, and of the head where it is another matrix."""
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def linears(self) -> int:
        """Parameters of all else, nearly all of them in linear layers."""
        return max(0, self.parameters - self.embeddings)

    @property
    def sides(self) -> int:
        """Parameters of low-rank matrices for each rank: about the sides of the seven linear layers of each block."""
        return self.layers * (8 * self.width + 3 * (self.width + self.feed_forward))


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a run needs and what there is; bytes."""

    needed: int
    free: int
    disk_needed: int
    disk_free: int
    decision: Decision
    sentence: str
    """For the user, with the numbers."""


def read_sizes(directory: Path) -> Sizes:
    """Read a model's sizes from its configuration and its files' headers. Raises ``TrainingError``."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        parameters = sum(_parameters(path) for path in sorted(directory.glob("*.safetensors")))
        sizes = Sizes(
            parameters=parameters,
            vocabulary=config["vocab_size"],
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            feed_forward=config["intermediate_size"],
            tied=bool(config.get("tie_word_embeddings", True)),
        )
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise TrainingError(
            f"The weights in {directory} cannot be trained: safetensors with a config.json are needed; pull the model "
            "again."
        ) from error
    if not parameters:
        raise TrainingError(f"There are no safetensors in {directory}: pull the model again.")
    return sizes


def _parameters(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def needed_bytes(spec: RunSpec, sizes: Sizes, dtype_bytes: int) -> int:
    """Return the bytes that a run takes at its peak, computing in a format of ``dtype_bytes`` a number.

    Weights, what is trained with gradient and optimiser, the activations of one micro-batch, and a piece of logits.
    The estimate was checked against the peaks of real runs and is meant to be a little high.
    """
    trainer = spec.trainer
    embeddings = sizes.embeddings
    linears = sizes.linears
    state = _OPTIMISER_BYTES.get(trainer.optimiser, 8.0)
    if trainer.method is Method.STANDARD:
        # Float32 weights and gradients, and the head's gradient once more while the loss is computed.
        weights = sizes.parameters * (8.0 + state) + 4.0 * sizes.vocabulary * sizes.width
    else:
        stored = trainer.quantization.bits / 8 + 0.1 if trainer.method is Method.QLORA else dtype_bytes
        weights = linears * stored + embeddings * dtype_bytes + trainer.lora.r * sizes.sides * (8.0 + state)
        if trainer.method is Method.QLORA and trainer.device == "cpu":
            # Loaded dense, quantised layer by layer; for a GPU that is done in the computer's own memory.
            weights = max(weights, sizes.parameters * dtype_bytes)
    tokens = max(trainer.context_length, _MICRO_TOKENS)
    of_layer = tokens * dtype_bytes * (14 * sizes.width + 4 * sizes.feed_forward)
    kept = tokens * dtype_bytes * sizes.width
    layers = of_layer + sizes.layers * kept if trainer.gradient_checkpointing else of_layer * sizes.layers
    logits = 4.0 * 4 * max(_LOGITS, sizes.vocabulary)
    return int(weights + layers + logits + _PROGRAM)


def products_a_token(spec: RunSpec, sizes: Sizes) -> float:
    """Return how many products of two numbers training takes for each token: forwards, backwards, and the head."""
    head = sizes.vocabulary * sizes.width
    again = sizes.linears if spec.trainer.gradient_checkpointing else 0
    if spec.trainer.method is Method.STANDARD:
        return 3.0 * (sizes.linears + head) + again
    # What is frozen passes gradients on and has none of its own.
    return 2.0 * (sizes.linears + head) + 3.0 * spec.trainer.lora.r * sizes.sides + again


def served_bytes(spec: RunSpec, sizes: Sizes, *, at_least: bool = False) -> int:
    """Return the bytes that a version of the model takes while it is measured, as a server has it.

    ``auto`` is the format that a server prefers, or ``at_least`` the one that it takes where memory is short.
    """
    precision = _served_in(spec, at_least)
    apart = sizes.embeddings if precision == "nf4" else 0
    return int((sizes.parameters - apart) * _SERVED_BYTES.get(precision, 2.0) + 2.0 * apart) + _SERVED_BESIDE


def _served_in(spec: RunSpec, at_least: bool = False) -> str:
    """Return the format that versions are measured in, see ``served_bytes``."""
    if spec.precision != "auto":
        return spec.precision
    return "int8" if spec.trainer.device == "cpu" else "nf4" if at_least else "bfloat16"


def copying_bytes(spec: RunSpec, sizes: Sizes) -> int:
    """Return the bytes that making a version's int8 copy takes, 0 where it is measured in another format."""
    if not _in_int8(spec):
        return 0
    return int(sizes.parameters * (_COPIED_BYTES + _COPY_BYTES)) + _PROGRAM


def _in_int8(spec: RunSpec) -> bool:
    """Return whether versions are measured in int8 on a CPU, which has a copy on the disk."""
    return spec.trainer.device == "cpu" and _served_in(spec) == "int8"


def plan(
    spec: RunSpec,
    *,
    serving: int,
    dtype_bytes: int = 2,
    free: int | None = None,
    disk_free: int | None = None,
) -> MemoryPlan:
    """Decide whether a run can start.

    ``serving`` is what the server's model holds where the run would be, in bytes: what pausing it sets free. ``free``
    is the device's memory that is free now (a GPU's has to be given), ``disk_free`` that of the run's directory; each
    is measured where it is left out. ``dtype_bytes`` are at least 2. Raises ``TrainingError`` where the model cannot be
    trained at all.
    """
    sizes = read_sizes(Path(spec.model_directory))
    # First it is trained, then made ready to serve, then measured.
    needed = max(
        needed_bytes(spec, sizes, dtype_bytes),
        copying_bytes(spec, sizes),
        served_bytes(spec, sizes, at_least=True),
    )
    free = available_memory() if free is None else free
    if disk_free is None:
        disk_free = shutil.disk_usage(_existing(Path(spec.folder))).free
    disk_needed = _disk_bytes(spec, sizes)
    usable = int(free * (1 - RESERVE))
    amounts = f"{needed / _GIB:.1f} GiB of memory, of which {free / _GIB:.1f} GiB are free"
    if disk_needed > disk_free:
        decision = Decision.REFUSE
        sentence = (
            f"The run needs {disk_needed / _GIB:.1f} GiB of disk and {disk_free / _GIB:.1f} GiB are free: free some."
        )
    elif needed <= usable:
        decision, sentence = Decision.COEXIST, f"The run needs about {amounts}: completions go on meanwhile."
    elif needed <= usable + serving:
        decision = Decision.PAUSE_SERVING
        sentence = f"The run needs about {amounts}: completions pause until it is over."
    else:
        decision = Decision.REFUSE
        sentence = f"The run needs about {amounts}: {_advice(spec)}."
    return MemoryPlan(needed, free, disk_needed, disk_free, decision, sentence)


def _advice(spec: RunSpec) -> str:
    if spec.trainer.method is Method.STANDARD:
        return "set training.method to lora, close other programs, or take a smaller model"
    if not spec.trainer.gradient_checkpointing:
        return "set training.gradient_checkpointing to on, close other programs, or take a smaller model"
    return "close other programs, or take a smaller model"


def _disk_bytes(spec: RunSpec, sizes: Sizes) -> int:
    """Return what a run writes at most: two checkpoints, while one replaces the other, the best, the result, its copy.

    The last is in int8, of all weights with what was trained, where a CPU measures.
    """
    copy = int(sizes.parameters * _COPY_BYTES) if _in_int8(spec) else 0
    if spec.trainer.method is Method.STANDARD:
        state = _OPTIMISER_BYTES.get(spec.trainer.optimiser, 8.0)
        return copy + int(sizes.parameters * (2 * (4 + state) + 2 * 4 + 2))
    return copy + int(spec.trainer.lora.r * sizes.sides * 40 + 50 * 2**20)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
