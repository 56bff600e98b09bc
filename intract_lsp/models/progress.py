"""What long work on models shares: progress reports, cancellation, and sentences about disk space."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError

ReportProgress = Callable[[str, float | None], None]
"""Called with a short sentence and the fraction done (0..1), where it is known."""


class PullCancelled(ModelError):
    """The user stopped a pull; what is complete is kept for the next one."""

    def __init__(self) -> None:
        super().__init__("Fetching the model was cancelled; pull it again to go on from there.")


def stop_if_cancelled(token: CancelToken) -> None:
    """Raise ``PullCancelled`` where a stop was asked for."""
    if token.cancelled:
        raise PullCancelled


def stage(report: ReportProgress, start: float, end: float) -> ReportProgress:
    """Return a report for one stage, whose fraction fills the share between ``start`` and ``end`` of the whole."""

    def report_stage(sentence: str, fraction: float | None) -> None:
        report(sentence, None if fraction is None else start + fraction * (end - start))

    return report_stage


def mebibytes(size: int) -> str:
    """Return a size in bytes as text in MiB, rounded up."""
    return f"{-(-size // 2**20):,} MiB"


def require_space(directory: Path, needed: int, what: str) -> None:
    """Raise ``ModelError`` unless the file system of ``directory`` (which exists) has ``needed`` bytes free."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ModelError(
            f"{what} needs {mebibytes(needed)} of disk space and {directory} has {mebibytes(free)} free: "
            "make room, or set INTRACT_HOME to a directory on a larger disk."
        )


@contextmanager
def explain_full_disk(directory: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into a ``ModelError``; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(directory) from error
        raise


def full_disk(directory: Path) -> ModelError:
    """Return the error for a disk that filled up while writing below ``directory``."""
    return ModelError(
        f"The disk of {directory} is full: make room and pull the model again; what is complete has been kept."
    )
