"""What a fine-tuning run is asked to do, in plain values: written beside the run as JSON, read by its process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from intract_lsp.errors import TrainingError


class Method(str, Enum):
    """How much of the model is trained, and in which format the rest lies in memory."""

    STANDARD = "standard"
    """Every weight."""
    LORA = "lora"
    """Low-rank matrices beside the linear layers (Hu et al. 2021)."""
    QLORA = "qlora"
    """The same beside a base in 4 or 8 bits (Dettmers et al. 2023)."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """The shape of the low-rank matrices."""

    r: int = 64
    alpha: int = 128
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    """Names of linear layers; empty = all but the head."""


@dataclass(frozen=True, slots=True)
class QuantizationSpec:
    """The base's format under QLoRA, as bitsandbytes names it."""

    bits: int = 4
    double_quant: bool = True
    quant_type: str = "nf4"


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What is taken from the project, and how it becomes samples."""

    context_length: int = 512
    """Most tokens of a sample."""
    use_ntp: bool = True
    """Samples of plain text, each token supervised."""
    use_fim: bool = True
    """Samples with a hole, its middle supervised."""
    ntp_share: float = 0.25
    """Of the tokens, where both kinds are used."""
    context_share: float = 0.5
    """Of the samples with a hole: those that show pieces of other files, as serving does. 0 where serving shows none:
    then the result is measured without, too."""
    replay_share: float = 0.1
    """Of the samples: text that is not the project's, against forgetting."""
    held_out: int = 300
    """Most places in the newest code that are kept apart for measuring; 0 = all of it is trained on, nothing proven."""
    least_held_out: int = 40
    """Where the newest commits give fewer places than that, whole files are held out instead."""
    exclude: tuple[str, ...] = ()
    """Lines of an ignore file at the workspace's root: what they name is neither learnt from nor shown in prompts."""
    largest_base_loss: float = 3.0
    """Mean negative log-likelihood a token under the base model beyond which a file is left out."""


@dataclass(frozen=True, slots=True)
class TrainerSpec:
    """How it is trained. Of minutes, steps and epochs, what is reached first ends the training; 0 = no limit."""

    method: Method = Method.LORA
    lora: LoraSpec = field(default_factory=LoraSpec)
    quantization: QuantizationSpec = field(default_factory=QuantizationSpec)
    optimiser: str = "adamw_torch"
    """As transformers' ``optim`` names them; see ``optimisers.OPTIMISERS``."""
    learning_rate: float = 2e-4
    scale: float = 0.4
    """What an adapter is weighed by at the end, and in validations (WiSE-FT, Wortsman et al. 2022): a part of what a
    high rate has taught brings as much as all of what a low one has, and costs less of what the model knew."""
    minutes: float = 20.0
    steps: int = 0
    epochs: float = 0.0
    batch_size: int = 8
    """Samples of one optimiser step."""
    context_length: int = 512
    """Most tokens of a sample, as in ``DataSpec``."""
    gradient_checkpointing: bool = False
    prompt_weight: float = 0.1
    """Of the loss of a prompt's tokens, beside 1 for an answer's."""
    kl_weight: float = 1.0
    """Of the divergence from the base model on replayed samples."""
    device: str = "cpu"
    processes: int = 1
    """That share each step; on GPUs, each has one of its own."""
    threads: int = 0
    """CPU threads of each; 0 = one for each physical core, less those that other programs keep busy."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run."""

    id: str
    workspace: str
    """Absolute path of the folder to learn from."""
    folder: str
    """Absolute path of the run's own directory."""
    model: str
    """Name of the base model."""
    model_directory: str
    """Where its safetensors, configuration and tokenizer are."""
    fim_family: str
    data: DataSpec = field(default_factory=DataSpec)
    trainer: TrainerSpec = field(default_factory=TrainerSpec)
    precision: str = "auto"
    """As the settings' ``model.precision``: what the versions are measured in."""
    serving: int = 0
    """Bytes on the run's device that the model of the server which began it holds, and may let go of meanwhile."""

    def write(self) -> Path:
        """Write the spec into the run's directory and return the file. Raises ``OSError``."""
        path = Path(self.folder) / "spec.json"
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        return path


def read_spec(path: Path) -> RunSpec:
    """Read a spec that ``RunSpec.write`` has written. Raises ``TrainingError`` where it cannot be used."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        trainer = dict(values.pop("trainer"))
        lora = dict(trainer.pop("lora"))
        return RunSpec(
            **{name: value for name, value in values.items() if name != "data"},
            data=DataSpec(**{**values["data"], "exclude": tuple(values["data"]["exclude"])}),
            trainer=TrainerSpec(
                **{name: value for name, value in trainer.items() if name not in ("method", "quantization")},
                method=Method(trainer["method"]),
                lora=LoraSpec(**{**lora, "target_modules": tuple(lora["target_modules"])}),
                quantization=QuantizationSpec(**trainer["quantization"]),
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"The run's spec {path} cannot be used ({error}): start the run again.") from error
