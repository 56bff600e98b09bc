"""What an adapter was made from and by: ``meta.json`` in its directory, which also names what its files have to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from intract_lsp.errors import AdapterError
from intract_lsp.inference.engine import AdapterKind

META = "meta.json"
FORMAT = 1
LIBRARIES = ("torch", "transformers", "peft", "safetensors", "bitsandbytes", "intract-lsp")
"""Whose versions are kept: an adapter's format may change with them."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an adapter comes from; what is not known is empty."""

    workspace: str
    """Absolute path of the folder that it was trained on."""
    run: str
    base_name: str
    """The base model's name, for people."""
    base: str
    """``models.store.weights_fingerprint`` of the base model."""
    git_head: str = ""
    """Of the newest commit that was trained on or measured with."""
    cut: str = ""
    """The last commit that was trained on: what is newer was kept apart for measuring."""
    data: str = ""
    """Fingerprint of the samples."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The run's spec."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What was measured before it was taken in."""
    files: tuple[tuple[str, str], ...] = ()
    """Each file that was trained on: its path in the workspace, with ``/``, and its content's hash."""


@dataclass(frozen=True, slots=True)
class AdapterMeta:
    """The content of ``meta.json``."""

    id: str
    kind: AdapterKind
    created: float
    """Seconds since 1970, by the clock of that moment: for people."""
    provenance: Provenance
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    """Of the libraries that made it."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Of each file beside ``meta.json``."""

    def write(self, directory: Path) -> Path:
        """Write ``meta.json`` and return it. Raises ``OSError``."""
        path = directory / META
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")
        return path

    def verify(self, directory: Path) -> None:
        """Raise ``AdapterError`` unless every file is what it was when the adapter was made. Reads all of them."""
        for name, wanted in self.sha256.items():
            try:
                found = sha256_of(directory / name)
            except OSError as error:
                raise AdapterError(
                    f"The adapter {self.id} lacks {name} ({error}): roll back to another one or train again."
                ) from error
            if found != wanted:
                raise AdapterError(
                    f"The adapter {self.id} is damaged: {name} is not what was trained. "
                    "Roll back to another one or train again."
                )


def read_meta(directory: Path) -> AdapterMeta:
    """Read an adapter's ``meta.json``. Raises ``AdapterError``."""
    try:
        values = json.loads((directory / META).read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("it is of another version of intract-lsp")
        given = values.pop("provenance")
        files = tuple((str(path), str(blob)) for path, blob in given.pop("files"))
        return AdapterMeta(kind=AdapterKind(values.pop("kind")), provenance=Provenance(**given, files=files), **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"The adapter {directory.name} cannot be used: {META} is missing or damaged ({error}). "
            "Roll back to another one or train again."
        ) from error


def versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed, by name."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def sha256_of(path: Path) -> str:
    """Return a file's sha256. Raises ``OSError``."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
