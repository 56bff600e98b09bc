"""Turn a GGUF file into a model directory of float16 safetensors, once, so that every later start is fast.

This is the one module here that needs torch and transformers; both are imported inside the functions.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models.catalog import RUNTIME_BYTES
from intract_lsp.models.free_memory import available_memory
from intract_lsp.models.gguf_header import GgufHeader, read_gguf_header
from intract_lsp.models.gguf_tokenizer import BPE, write_tokenizer
from intract_lsp.models.progress import ReportProgress, explain_full_disk, mebibytes, require_space, stop_if_cancelled

SHARD_BYTES = 4 * 2**30
"""Largest safetensors file written; larger models get several and an index."""


READ_FRACTION, DEQUANTIZE_FRACTION, LOADED_FRACTION = 0.1, 0.6, 0.9
"""Progress when reading, dequantizing and writing begin or end, by how long each takes: the reading is the longest."""


def converted_bytes(parameters: int) -> int:
    """Return about how many bytes a converted model takes on disk."""
    return parameters * 2 + 24 * 2**20


def convert_gguf(
    file: Path, directory: Path, report: ReportProgress, token: CancelToken, adapter: Path | None = None
) -> None:
    """Write ``file`` as a Hugging Face model directory into ``directory``, which exists and is overwritten.

    ``adapter`` is the directory of an adapter in peft's format that is merged in. Needs about 4 bytes of memory a
    parameter while it runs. Raises ``ModelError`` for a damaged file, an architecture that transformers does not
    convert, an adapter that does not fit, too little memory or a full disk.
    """
    header = read_gguf_header(file)
    _require_supported(header, file)
    _require_memory(header, file)
    require_space(directory, converted_bytes(header.parameters), f"Converting {file.name}")
    stop_if_cancelled(token)
    with explain_full_disk(directory):
        report(f"Converting the tokenizer of {file.name}", 0.0)
        if header.text("tokenizer.ggml.model") == BPE:
            write_tokenizer(header, directory)
        else:
            _convert_tokenizer_with_transformers(file, directory)
        stop_if_cancelled(token)
        report(_weights_sentence(file), READ_FRACTION)
        model = _load(file, report, token)
        stop_if_cancelled(token)
        if adapter is not None:
            model = _merged(model, adapter)
        report(f"Writing the converted weights of {file.name}", LOADED_FRACTION)
        _write(model, directory)
    del model
    gc.collect()
    report(f"Converted {file.name}", 1.0)


def _require_supported(header: GgufHeader, file: Path) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    architecture = header.architecture
    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        raise ModelError(
            f"{file.name} has the architecture {architecture!r}, which cannot be converted: "
            "use the model's safetensors instead."
        )


def _require_memory(header: GgufHeader, file: Path) -> None:
    needed = header.parameters * 4 + RUNTIME_BYTES
    free = available_memory()
    if free < needed:
        raise ModelError(
            f"Converting {file.name} needs about {mebibytes(needed)} of memory and {mebibytes(free)} are free: "
            "close programs or use a smaller model."
        )


def _load(file: Path, report: ReportProgress, token: CancelToken) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with _quiet_transformers(), _loop_reports(file, report, token):
        try:
            return AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype=torch.float16, trust_remote_code=False
            )
        except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
            raise ModelError(f"{file.name} cannot be converted ({error}): use the model's safetensors.") from error


def _merged(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise ModelError(
            f"The adapter {adapter} does not fit the model ({error}): install intract-lsp anew."
        ) from error


def _write(model: Any, directory: Path) -> None:
    import torch

    for old in directory.glob("*.safetensors"):
        old.unlink()
    state = model.state_dict()
    seen: set[int] = set()
    names = []
    for name, tensor in state.items():
        # Tied matrices are one tensor under two names; the loader ties them again.
        if tensor.data_ptr() not in seen:
            names.append(name)
            seen.add(tensor.data_ptr())
    shards = _shards(names, state)
    for number, shard in enumerate(shards, 1):
        file_name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        _save({name: state[name].to(torch.float16).contiguous() for name in shard}, directory / file_name)
    if len(shards) > 1:
        weight_map = {
            name: f"model-{number:05}-of-{len(shards):05}.safetensors"
            for number, shard in enumerate(shards, 1)
            for name in shard
        }
        index = {"metadata": {"total_size": sum(state[name].numel() * 2 for name in names)}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    config = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    config["dtype"] = "float16"
    config["architectures"] = [type(model).__name__]
    (directory / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _shards(names: list[str], state: Any) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name in names:
        tensor_bytes = state[name].numel() * 2
        if shards[-1] and size + tensor_bytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor_bytes
    return shards


def _save(tensors: dict[str, Any], file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, str(file), metadata={"format": "pt"})
    except SafetensorError as error:
        # Its I/O errors come without errno; the text has "(os error 28)".
        if "os error 28" in str(error) or "No space" in str(error):
            raise OSError(28, "No space left on device", str(file)) from error
        raise ModelError(f"{file} cannot be written: {error}.") from error


def _convert_tokenizer_with_transformers(file: Path, directory: Path) -> None:
    from transformers import AutoTokenizer

    with _quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
        except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
            raise ModelError(
                f"The tokenizer of {file.name} cannot be converted ({error}): use the model's safetensors."
            ) from error
        tokenizer.save_pretrained(str(directory))


@contextmanager
def _loop_reports(file: Path, report: ReportProgress, token: CancelToken) -> Iterator[None]:
    """Make transformers' loop over the tensors report to us and stop when cancelled, in place of its own bar."""
    from transformers import modeling_gguf_pytorch_utils as loader

    def track(tensors: Sequence[Any], **_: object) -> Iterator[Any]:
        for number, tensor in enumerate(tensors):
            stop_if_cancelled(token)
            done = number / len(tensors)
            report(_weights_sentence(file), DEQUANTIZE_FRACTION + done * (LOADED_FRACTION - DEQUANTIZE_FRACTION))
            yield tensor

    bar = loader.tqdm
    loader.tqdm = track
    try:
        yield
    finally:
        loader.tqdm = bar


def _weights_sentence(file: Path) -> str:
    return f"Converting the weights of {file.name} (once)"


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and advice off the terminal: progress is reported by us."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
