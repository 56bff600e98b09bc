from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.errors import TrainingError
from intract_lsp.models.hardware import GIB, Hardware
from intract_lsp.settings import ModelSettings, TrainingSettings
from intract_lsp.training.resolve import BaseModel, RunPlace, resolve
from intract_lsp.training.spec import Method, RunSpec, read_spec

CPU = Hardware(16 * GIB, 0, "", 2)
BIG_GPU = Hardware(64 * GIB, 80 * GIB, "cuda", 16)
SMALL_GPU = Hardware(16 * GIB, 6 * GIB, "cuda", 8)
BASE = BaseModel("base", Path("/models/base"), "qwen2.5-coder", 3 * GIB)
PLACE = RunPlace("run", Path("/work"), Path("/runs/run"))


def spec(machine: Hardware = CPU, device: str = "auto", base: BaseModel = BASE, **settings: Any) -> RunSpec:
    training = TrainingSettings.model_validate(settings)
    return resolve(training, ModelSettings.model_validate({"device": device}), machine, base, PLACE)


def test_the_defaults_of_a_cpu() -> None:
    made = spec()
    trainer = made.trainer
    assert (trainer.method, trainer.lora.r, trainer.lora.alpha, trainer.optimiser) == (
        Method.LORA,
        64,
        128,
        "adamw_torch",
    )
    assert (trainer.minutes, trainer.batch_size, trainer.context_length, trainer.device) == (20, 4, 512, "cpu")
    assert made.data.context_length == 512
    assert not trainer.gradient_checkpointing


def test_the_defaults_of_a_gpu() -> None:
    trainer = spec(BIG_GPU).trainer
    assert (trainer.method, trainer.lora.r, trainer.lora.alpha, trainer.optimiser) == (
        Method.LORA,
        16,
        32,
        "adamw_8bit",
    )
    assert (trainer.minutes, trainer.batch_size, trainer.context_length, trainer.device) == (60, 16, 2048, "cuda")


def test_a_small_gpu_trains_beside_a_quantised_base() -> None:
    trainer = spec(SMALL_GPU).trainer
    assert (trainer.method, trainer.optimiser) == (Method.QLORA, "paged_adamw_8bit")


def test_a_gpu_that_the_settings_forbid_is_not_used() -> None:
    assert spec(BIG_GPU, device="cpu").trainer.device == "cpu"


def test_several_gpus_train_together_where_they_are_asked_to() -> None:
    two = replace(BIG_GPU, gpus=2)
    assert [spec(two, gpus=count).trainer.processes for count in (0, 1, 2)] == [2, 1, 2]
    assert spec(gpus=0).trainer.processes == spec(two, device="cpu", gpus=2).trainer.processes == 1
    with pytest.raises(TrainingError, match=r"training\.gpus is 3, and this machine has 2"):
        spec(two, gpus=3)


def test_an_apple_gpu_trains_on_the_cpu() -> None:
    assert spec(Hardware(16 * GIB, 10 * GIB, "mps", 8)).trainer.device == "cpu"


@pytest.mark.parametrize(
    ("limits", "minutes"), [({"steps": 5}, 0), ({"epochs": 2}, 0), ({"steps": 5, "minutes": 3}, 3)]
)
def test_minutes_are_no_limit_where_another_is_set(limits: dict[str, Any], minutes: float) -> None:
    assert spec(**limits).trainer.minutes == minutes


def test_activations_are_computed_twice_where_the_gpu_is_full() -> None:
    assert spec(BIG_GPU, method="standard").trainer.gradient_checkpointing is False
    assert spec(SMALL_GPU, method="standard").trainer.gradient_checkpointing is True
    assert spec(SMALL_GPU, method="standard", gradient_checkpointing="off").trainer.gradient_checkpointing is False
    assert spec(gradient_checkpointing="on").trainer.gradient_checkpointing is True


def test_all_weights_are_trained_at_a_lower_rate() -> None:
    assert spec(method="standard").trainer.learning_rate == pytest.approx(2e-5)
    assert spec(method="standard", learning_rate=1e-3).trainer.learning_rate == pytest.approx(1e-4)
    assert spec(method="lora", learning_rate=1e-3).trainer.learning_rate == pytest.approx(1e-3)


def test_few_steps_are_taken_with_many_directions_and_weighed() -> None:
    cpu, gpu = spec(method="lora").trainer, spec(BIG_GPU, method="lora").trainer
    assert (cpu.lora.r, cpu.learning_rate, cpu.scale) == (64, 2e-4, 0.4)
    assert (gpu.lora.r, gpu.learning_rate, gpu.scale) == (16, 2e-4, 1.0)


def test_a_smaller_rank_is_trained_at_a_higher_rate() -> None:
    assert spec(method="lora", lora_r=16).trainer.learning_rate == pytest.approx(4e-4)
    assert spec(method="lora", lora_r=16, learning_rate=1e-4).trainer.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"enabled": False}, "training.enabled"),
        ({"train_on_code": False}, "training.train_on_code"),
        ({"use_fim": False, "use_ntp": False}, "training.use_fim"),
    ],
)
def test_settings_that_leave_nothing_to_do_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(TrainingError, match=named):
        spec(**settings)


NUMBERS = {
    "lora_r": st.integers(1, 64),
    "lora_alpha": st.integers(1, 64),
    "batch_size": st.integers(1, 64),
    "context_length": st.integers(1, 4096),
    "seed": st.integers(0, 99),
    "steps": st.integers(1, 99),
    "held_out": st.integers(0, 99),
}
CHOICES = {
    "method": st.sampled_from(["standard", "lora", "qlora"]),
    "optim": st.sampled_from(
        ["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "sgd", "adafactor"]
    ),
    "bits": st.sampled_from([4, 8]),
    "quant_type": st.sampled_from(["nf4", "fp4"]),
    "double_quant": st.booleans(),
}


@given(st.fixed_dictionaries({**NUMBERS, **CHOICES}), st.sampled_from([CPU, BIG_GPU, SMALL_GPU]))
def test_what_is_set_is_what_is_done(settings: dict[str, Any], machine: Hardware) -> None:
    made = spec(machine, **settings)
    trainer, quantization = made.trainer, made.trainer.quantization
    assert (trainer.lora.r, trainer.lora.alpha) == (settings["lora_r"], settings["lora_alpha"])
    assert (trainer.batch_size, trainer.seed, trainer.steps) == tuple(
        settings[name] for name in ("batch_size", "seed", "steps")
    )
    assert trainer.context_length == made.data.context_length == settings["context_length"]
    assert (trainer.method.value, trainer.optimiser) == (settings["method"], settings["optim"])
    assert (quantization.bits, quantization.quant_type, quantization.double_quant) == (
        settings["bits"],
        settings["quant_type"],
        settings["double_quant"],
    )
    assert made.data.held_out == settings["held_out"]


def test_a_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = RunPlace("run", tmp_path / "work", tmp_path)
    training = TrainingSettings(method="qlora", target_modules=("q_proj", "v_proj"), epochs=1.5)
    made = resolve(training, ModelSettings(), CPU, BASE, place)
    assert read_spec(made.write()) == made


def test_a_damaged_spec_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text("{")
    with pytest.raises(TrainingError, match=r"start the run again\.$"):
        read_spec(path)
