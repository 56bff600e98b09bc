"""An adapter as the engine takes it: whether it is whole and for this model, and where its int8 copy is. No torch.

Serving an adapter costs nothing, since it is merged into the weights before a network is built from them. In int8 the
merged and quantised weights are kept on disk like the model's own, so that a swap maps a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from intract_lsp.errors import AdapterError, ModelError
from intract_lsp.inference import quantized_copy
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, ModelFiles
from intract_lsp.models.files import check_safetensors
from intract_lsp.models.store import adapted_copies, adapted_copy, weights_fingerprint

LORA_CONFIG = "adapter_config.json"
LORA_WEIGHTS = "adapter_model.safetensors"
"""Names of peft's."""

PAGED_BYTES = 8 << 20
"""Read at a time by ``page_in``: what is read is thrown away."""


def check_adapter(adapter: AdapterFiles, files: ModelFiles) -> None:
    """Raise ``AdapterError`` unless the adapter's files are there, whole by their headers, and made for the model."""
    lora = adapter.kind is AdapterKind.LORA
    needed = [adapter.directory / (LORA_CONFIG if lora else "config.json")]
    needed += [adapter.directory / LORA_WEIGHTS] if lora else sorted(adapter.directory.glob("*.safetensors"))
    try:
        for path in needed:
            if path.suffix == ".safetensors":
                check_safetensors(path)
        if len(needed) < 2 or not needed[0].is_file():
            raise FileNotFoundError(f"no {needed[0].name} or no weights in it")
        own = weights_fingerprint(files.directory) if adapter.base else ""
    except (OSError, ModelError) as error:
        raise AdapterError(
            f"The adapter {adapter.id} in {adapter.directory} is missing or damaged ({str(error).rstrip('.')}): "
            "roll back to another one or train again."
        ) from error
    if adapter.base and adapter.base != own:
        raise AdapterError(
            f"The adapter {adapter.id} was trained on {adapter.base_name or 'another model'} "
            f"(weights {adapter.base[:12]}), not on {files.name} (weights {own[:12]}): "
            "choose that model, or train an adapter for this one."
        )


def int8_copy(files: ModelFiles, adapter: AdapterFiles | None) -> tuple[Path | None, str]:
    """Return where a model's int8 copy is kept, if anywhere, and what names the weights that it has to be made from.

    Both are other ones with an adapter. Raises ``AdapterError`` where the adapter's files cannot be read.
    """
    made_from = quantized_copy.fingerprint(files.directory)
    if adapter is None:
        return files.quantized, made_from
    try:
        digest = hashlib.sha256(f"{made_from} {weights_fingerprint(adapter.directory)}".encode())
        for name in (LORA_CONFIG, "config.json"):
            if (adapter.directory / name).is_file():
                digest.update((adapter.directory / name).read_bytes())
    except OSError as error:
        raise AdapterError(f"The adapter {adapter.id} cannot be read ({error}): roll back to another one.") from error
    copy = adapted_copy(files.quantized, adapter.id) if files.quantized is not None else None
    return copy, digest.hexdigest()


def has_int8_copy(files: ModelFiles, adapter: AdapterFiles | None) -> bool:
    """Return whether the int8 copy is there and fits, so that a swap only has to map it. Raises ``AdapterError``."""
    copy, made_from = int8_copy(files, adapter)
    return copy is not None and quantized_copy.read(copy, made_from) is not None


def page_in(copy: Path) -> None:
    """Read a file once, so that whoever maps it next does not wait for the disk. Raises ``OSError``."""
    with copy.open("rb", buffering=0) as stream:
        while stream.read(PAGED_BYTES):
            pass


def keep_int8_copies(copy: Path, adapters: Collection[str]) -> int:
    """Remove the int8 copies with other adapters than these beside ``copy``, the model's own; return bytes freed.

    A copy that a server has mapped stays usable to it.
    """
    freed = 0
    for path, adapter in adapted_copies(copy).items():
        if adapter not in adapters:
            # Windows refuses while a server maps it: then the next time.
            with suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                freed += size
    return freed
