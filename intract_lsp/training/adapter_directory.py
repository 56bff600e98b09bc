"""Adapters on disk: a directory each, whole or absent, and never changed once it is there."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from intract_lsp.errors import AdapterError
from intract_lsp.inference.adapted import LORA_CONFIG, LORA_WEIGHTS
from intract_lsp.inference.engine import AdapterKind
from intract_lsp.training.durable import sync
from intract_lsp.training.provenance import META, AdapterMeta, sha256_of

log = logging.getLogger(__name__)

_HIDDEN = "."
"""Begins the names of directories that are put together or taken apart."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")
_STANDARD = ("config.json", "generation_config.json", "model.safetensors.index.json")


def new_id(base_name: str, clock: float | None = None) -> str:
    """Return an id for an adapter of a model: its name, the date in UTC and four random hex digits."""
    name = re.sub(r"[^a-z0-9._-]+", "-", Path(base_name).name.lower()).strip("-._") or "model"
    day = time.strftime("%Y%m%d", time.gmtime(clock))
    return f"{name[:60]}-{day}-{secrets.token_hex(2)}"


def publish(root: Path, candidate: Path, meta: AdapterMeta) -> None:
    """Copy an adapter's files from ``candidate`` to ``root``/ID: there in one step, once all is on the disk.

    Their hashes are put into ``meta``, which is written beside them. Raises ``AdapterError`` where ``candidate`` is no
    adapter of its kind or the disk does not take it.
    """
    if not _ID.fullmatch(meta.id) or (root / meta.id).exists():
        raise AdapterError(f"{meta.id} cannot be an adapter's name, or is one already: choose another.")
    sources = _files(candidate, meta.kind)
    partial = root / f"{_HIDDEN}{meta.id}.partial"
    try:
        partial.mkdir(parents=True)
        for source in sources:
            shutil.copyfile(source, partial / source.name)
        digests = {source.name: sha256_of(partial / source.name) for source in sources}
        replace(meta, sha256=digests).write(partial)
        for path in partial.iterdir():
            sync(path)
        sync(partial)
        partial.replace(root / meta.id)
        sync(root)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise AdapterError(
            f"The adapter cannot be kept in {root} ({error}): free space there and make it writable."
        ) from error


def discard(root: Path, id_: str) -> None:
    """Delete an adapter's directory, which disappears in one step; one that is not there is no error.

    Raises ``AdapterError`` where it cannot be deleted.
    """
    doomed = root / f"{_HIDDEN}{id_}.removed"
    try:
        with contextlib.suppress(FileNotFoundError):
            (root / id_).replace(doomed)
        sync(root)
    except OSError as error:
        raise AdapterError(f"The adapter {id_} cannot be removed ({error}): end the programs that use it.") from error
    shutil.rmtree(doomed, ignore_errors=True)


def complete(root: Path) -> Iterator[Path]:
    """Yield the directories of adapters."""
    if root.is_dir():
        for path in sorted(root.iterdir()):
            if not path.name.startswith(_HIDDEN) and (path / META).is_file():
                yield path


def remove_leftovers(root: Path) -> None:
    """Remove what killed processes left behind. Whoever calls is alone in writing below ``root``."""
    for path in root.glob(f"{_HIDDEN}*"):
        if path.is_dir():
            log.info("removing the leftover %s", path.name)
            shutil.rmtree(path, ignore_errors=True)


def _files(candidate: Path, kind: AdapterKind) -> list[Path]:
    """Return the files that make an adapter. Raises ``AdapterError`` where one that is needed is missing."""
    if kind is AdapterKind.LORA:
        needed, found = [LORA_CONFIG, LORA_WEIGHTS], [candidate / LORA_CONFIG, candidate / LORA_WEIGHTS]
    else:
        found = [candidate / name for name in _STANDARD] + sorted(candidate.glob("*.safetensors"))
        needed = ["config.json", *([] if len(found) > len(_STANDARD) else ["model.safetensors"])]
    missing = [name for name in needed if not (candidate / name).is_file()]
    if missing:
        raise AdapterError(f"{candidate} is no adapter: it has no {missing[0]}.")
    return [path for path in found if path.is_file()]
