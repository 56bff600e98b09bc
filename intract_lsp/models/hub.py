"""Fetch a model's safetensors and tokenizer from the Hugging Face hub. Nothing pickled, no code."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models.catalog import ModelSpec
from intract_lsp.models.progress import (
    PullCancelled,
    ReportProgress,
    explain_full_disk,
    mebibytes,
    require_space,
    stop_if_cancelled,
)

WANTED = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""Names of the files fetched, all at the repository's top."""

ANSWER_SECONDS = 10.0
"""How long the hub may take to answer at all. Timed here, because the client's own timeout holds for each of the
host's addresses and is tried on one after the other."""

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class HubUnreachableError(ModelError):
    """The hub does not answer from here; another source may."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository at one revision."""

    name: str
    size: int
    sha256: str
    """Empty for small files, whose checksum the hub does not give."""


@dataclass(frozen=True, slots=True)
class HubRevision:
    """What a repository holds that we want."""

    revision: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        """Of the weights file; with several, of their checksums joined by line ends."""
        sums = [file.sha256 for file in self.files if file.name.endswith(".safetensors")]
        return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def hub_is_off() -> bool:
    """Whether the user's environment forbids the hub."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE_VARIABLES)


def fetch_from_hub(spec: ModelSpec, directory: Path, report: ReportProgress, token: CancelToken) -> HubRevision:
    """Download a model into ``directory``; what an earlier call left there is gone on from.

    Raises ``HubUnreachableError`` where the hub does not answer, ``ModelError`` for a licence that must be accepted
    first, a full disk or a wrong checksum, ``PullCancelled`` on a cancel.
    """
    report(f"Asking the Hugging Face hub for {spec.name}", None)
    _switch_telemetry_off()
    found = _ask(spec, token)
    directory.mkdir(parents=True, exist_ok=True)
    here = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    require_space(directory, max(found.size - here, 0), f"Fetching {spec.name}")
    done = 0
    for file in found.files:
        stop_if_cancelled(token)
        path = directory / file.name
        if not (path.is_file() and path.stat().st_size == file.size):
            _download(spec, found.revision, file, directory, _share(spec, report, token, done, found.size))
            _check(spec, file, path, report)
        done += file.size
        report(f"Downloading {spec.name} from the Hugging Face hub", done / found.size)
    # huggingface_hub keeps what it needs for resuming there.
    shutil.rmtree(directory / ".cache", ignore_errors=True)
    return found


def _switch_telemetry_off() -> None:
    """Keep huggingface_hub to what was asked for: by itself it also fetches a list of agents."""
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True


def _ask(spec: ModelSpec, token: CancelToken) -> HubRevision:
    """List the repository's files, giving up after ``ANSWER_SECONDS``."""
    answer: list[Any] = []
    failure: list[Exception] = []
    ended = threading.Event()

    def ask() -> None:
        from huggingface_hub import HfApi

        try:
            answer.append(HfApi().model_info(spec.hub_repo, files_metadata=True, timeout=ANSWER_SECONDS))
        except Exception as error:  # noqa: BLE001 (handed to the caller below)
            failure.append(error)
        ended.set()

    threading.Thread(target=ask, name="intract-hub", daemon=True).start()
    waited = 0.0
    while not ended.wait(0.1):
        stop_if_cancelled(token)
        waited += 0.1
        if waited > ANSWER_SECONDS:
            raise HubUnreachableError(f"no answer within {ANSWER_SECONDS:.0f} s")
    if failure:
        raise _explain(spec, failure[0]) from failure[0]
    files = tuple(
        HubFile(sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else "")
        for sibling in answer[0].siblings
        if any(fnmatch.fnmatchcase(sibling.rfilename, pattern) for pattern in WANTED)
    )
    if not any(file.name.endswith(".safetensors") for file in files):
        raise ModelError(f"{spec.hub_repo} on the hub has no safetensors: choose another model.")
    return HubRevision(answer[0].sha, files)


def _download(
    spec: ModelSpec, revision: str, file: HubFile, directory: Path, on_bytes: Callable[[float], None]
) -> None:
    from huggingface_hub import hf_hub_download
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        """Counts for us in place of drawing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.received = float(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self.received += n or 0
            on_bytes(self.received)

    try:
        with explain_full_disk(directory):
            hf_hub_download(spec.hub_repo, file.name, revision=revision, local_dir=directory, tqdm_class=Bar)
    except ModelError:
        raise
    except Exception as error:
        raise _explain(spec, error) from error


def _share(
    spec: ModelSpec, report: ReportProgress, token: CancelToken, done: int, total: int
) -> Callable[[float], None]:
    """Return a function that reports a file's bytes as a fraction of all files and stops the download on a cancel."""

    def on_bytes(received: float) -> None:
        stop_if_cancelled(token)
        report(f"Downloading {spec.name} from the Hugging Face hub", min((done + received) / total, 1.0))

    return on_bytes


def _check(spec: ModelSpec, file: HubFile, path: Path, report: ReportProgress) -> None:
    """Compare a downloaded file with the checksum that the hub gave for it."""
    if not file.sha256:
        return
    report(f"Checking {file.name} ({mebibytes(file.size)})", None)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(4 * 2**20):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        path.unlink()
        raise ModelError(
            f"{file.name} of {spec.name} as fetched has the wrong checksum (sha256 {digest.hexdigest()}, "
            f"not {file.sha256}) and was deleted: pull it again."
        )


def _explain(spec: ModelSpec, error: Exception) -> ModelError:
    """Return what to raise for a failure of the hub's client."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, PullCancelled):
        return error
    if isinstance(error, GatedRepoError) or (spec.gated and isinstance(error, RepositoryNotFoundError)):
        return ModelError(
            f"{spec.name} is given out only to those who accept its licence ({spec.licence}): accept it at "
            f"https://huggingface.co/{spec.hub_repo}, set HF_TOKEN to a token of that account, and pull again."
        )
    if isinstance(error, HfHubHTTPError):
        # Proxies that block the hub answer for it, mostly with 403.
        return HubUnreachableError(f"it answered with HTTP status {error.response.status_code}")
    return HubUnreachableError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'}")
