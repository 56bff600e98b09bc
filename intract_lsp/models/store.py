"""The models on this machine: a directory each in the cache, complete or absent; and the user's own directories."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from intract_lsp.errors import ModelError
from intract_lsp.models import catalog
from intract_lsp.models.files import check_directory
from intract_lsp.models.gguf_header import MAGIC
from intract_lsp.paths import Paths

MANIFEST = "intract.json"
MANIFEST_FORMAT = 1
_PARTIAL = ".partial"
_CACHE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
SAMPLE_BYTES = 65_536
"""How much of either end of a GGUF file tells it from another; and of a piece of a large safetensors file."""
FINGERPRINT_PIECES = 256
"""Of a safetensors file that are read where it is larger than they are together."""


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model that can be loaded."""

    name: str
    """Its name in the catalogue or in the cache, or the path of the user's directory."""
    directory: Path
    fim_family: str
    """Key of the prompt format; empty = tell it from the tokenizer."""
    source: str
    """Where it came from: ``hub:REPO@REVISION``, ``index:PROJECT==VERSION``, ``gguf:PATH`` or ``path``."""
    sha256: str
    """Of the weights as they were fetched; empty for the user's own directories."""
    size_bytes: int


def installed(paths: Paths) -> list[InstalledModel]:
    """Return the models in the cache, by name; what is no complete model of ours is left out."""
    if not paths.models.is_dir():
        return []
    found = [_read_manifest(directory) for directory in sorted(paths.models.iterdir()) if _is_entry(directory)]
    return [model for model in found if model is not None]


def locate(name: str, paths: Paths) -> InstalledModel | None:
    """Find a model without any network.

    ``name`` is a catalogue name, a name in the cache, a model directory, or a GGUF file that was converted before.
    Returns ``None`` for a known model that is not here. Raises ``ModelError`` for an unknown name, a path that is no
    model, and a model whose files are damaged.
    """
    if is_path(name):
        path = user_path(name)
        if is_gguf(path):
            return in_cache(gguf_cache_name(path), paths)
        check_directory(path)
        return InstalledModel(str(path), path, "", "path", "", _size(path))
    if _CACHE_NAME.fullmatch(name):
        cached = in_cache(name, paths)
        if cached is not None:
            return cached
    return in_cache(catalog.find(name).name, paths)


def in_cache(name: str, paths: Paths) -> InstalledModel | None:
    """Return the cached model of exactly this name; raises ``ModelError`` where its files are damaged."""
    directory = paths.models / name
    if not directory.is_dir():
        return None
    model = _read_manifest(directory)
    try:
        if model is None:
            raise ModelError(f"{directory} has no {MANIFEST} of this version.")
        check_directory(directory)
    except ModelError as error:
        raise ModelError(
            f"The cached model {name} is damaged ({str(error).rstrip('.')}): "
            f"run `intract-lsp models remove {name}`, then `intract-lsp models pull {name}`."
        ) from error
    return model


def remove(name: str, paths: Paths) -> int:
    """Delete a model and what is left of an unfinished pull from the cache; return the bytes freed.

    Raises ``ModelError`` where there is nothing of that name. Paths of the user's own are never deleted.
    """
    if is_path(name):
        path = user_path(name)
        if not is_gguf(path):
            raise ModelError(f"{path} is not in the cache: only fetched and converted models are removed.")
        name = gguf_cache_name(path)
    elif not _CACHE_NAME.fullmatch(name) or not (paths.models / name).exists():
        found = [model.name for model in installed(paths)]
        if name not in found:
            name = catalog.find(name).name
    directories = [path for path in (paths.models / name, partial(name, paths)) if path.is_dir()]
    if not directories:
        raise ModelError(f"{name} is not in the cache: `intract-lsp models list` shows what is.")
    freed = sum(_size(directory) for directory in directories)
    for directory in directories:
        shutil.rmtree(directory)
    copy = quantized_copy(paths.models / name, paths)
    for each in (copy, *adapted_copies(copy)):
        if each.is_file():
            freed += each.stat().st_size
            each.unlink()
    return freed


def quantized_copy(directory: Path, paths: Paths) -> Path:
    """Return where the engine keeps its int8 copy of the model in ``directory``; it need not exist."""
    place = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:8]
    return paths.cache / "int8" / f"{directory.name}-{place}.safetensors"


def adapted_copy(copy: Path, adapter: str) -> Path:
    """Return where the int8 copy with an adapter merged in is kept, beside ``copy``, that of the model alone."""
    return copy.with_name(f"{copy.stem}+{adapter}{copy.suffix}")


def adapted_copies(copy: Path) -> dict[Path, str]:
    """Return the copies with adapters that lie beside ``copy``, that of the model alone, with the adapters' ids."""
    start = f"{copy.stem}+"
    found = (path for path in copy.parent.glob(f"*{copy.suffix}") if path.name.startswith(start))
    return {path: path.stem.removeprefix(start) for path in sorted(found)}


def weights_fingerprint(directory: Path) -> str:
    """Return what tells a directory's weights from others, wherever and whenever they were fetched.

    A sha256 over each safetensors file's size and bytes: all of a small file's, of a large one's the beginning, which
    names all tensors, and pieces throughout. Takes milliseconds. Raises ``OSError``.
    """
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        pieces = FINGERPRINT_PIECES if size > FINGERPRINT_PIECES * SAMPLE_BYTES else 1
        with path.open("rb") as stream:
            for number in range(pieces):
                stream.seek(number * (size // pieces))
                digest.update(stream.read(SAMPLE_BYTES if pieces > 1 else size))
    return digest.hexdigest()


def is_path(name: str) -> bool:
    """Whether ``name`` means a file or directory rather than a model's name (``ORG/NAME`` of the hub is a name)."""
    if any(name.lower() == spec.hub_repo.lower() for spec in catalog.CATALOG):
        return False
    return "/" in name or "\\" in name or name.startswith(("~", ".")) or name.lower().endswith(".gguf")


def user_path(name: str) -> Path:
    """Return an absolute path; raises ``ModelError`` where nothing is there."""
    path = Path(name).expanduser().absolute()
    if not path.exists():
        raise ModelError(f"There is no {path}: give a model directory, a GGUF file or a name from the catalogue.")
    return path


def is_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file; raises ``ModelError`` for any other file."""
    if path.is_dir():
        return False
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) == MAGIC:
            return True
    raise ModelError(f"{path} is no GGUF file: give a GGUF file or a directory with safetensors and a tokenizer.")


def gguf_cache_name(file: Path) -> str:
    """Return the name under which a GGUF file's conversion is cached; it changes with the file's content."""
    import hashlib

    status = file.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with file.open("rb") as stream:
        digest.update(stream.read(SAMPLE_BYTES))
        stream.seek(max(0, status.st_size - SAMPLE_BYTES))
        digest.update(stream.read(SAMPLE_BYTES))
    stem = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._") or "model"
    return f"gguf-{stem[:60]}-{digest.hexdigest()[:12]}"


def partial(name: str, paths: Paths) -> Path:
    """Return the directory in which a model is put together."""
    return paths.models / f"{name}{_PARTIAL}"


def publish(model: InstalledModel, assembled: Path) -> InstalledModel:
    """Check ``assembled``, write its manifest and move it to ``model.directory`` in one step.

    Returns the model with its size. Raises ``ModelError`` where files are missing or damaged.
    """
    check_directory(assembled)
    manifest = {"format": MANIFEST_FORMAT, **asdict(model)}
    manifest["size_bytes"] = size = _size(assembled)
    del manifest["directory"]
    (assembled / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    assembled.replace(model.directory)
    return InstalledModel(model.name, model.directory, model.fim_family, model.source, model.sha256, size)


def _is_entry(directory: Path) -> bool:
    return directory.is_dir() and not directory.name.endswith(_PARTIAL)


def _read_manifest(directory: Path) -> InstalledModel | None:
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != MANIFEST_FORMAT:
            return None
        return InstalledModel(
            name=str(manifest["name"]),
            directory=directory,
            fim_family=str(manifest["fim_family"]),
            source=str(manifest["source"]),
            sha256=str(manifest["sha256"]),
            size_bytes=int(manifest["size_bytes"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
