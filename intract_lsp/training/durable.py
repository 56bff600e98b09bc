"""Directories and files that are whole or not there, whatever is killed, and that a power cut leaves so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def replace_directory(target: Path, fill: Callable[[Path], None]) -> None:
    """Put a directory that ``fill`` fills in the place of ``target``: at any moment the old or the new one is whole.

    Raises ``OSError``; then the old one is there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = _beside(target, "new"), replaced(target)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        fill(new)
        for path in [*new.rglob("*"), new]:
            sync(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists():
        # A leftover is only of use while the target is missing.
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    new.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def replace_file(path: Path, text: str) -> None:
    """Put a text file in the place of ``path``: at any moment the old or the new one is whole. Raises ``OSError``.

    Lone surrogates, which a document may hold and no file takes, become question marks.
    """
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8", errors="replace")
    sync(unfinished)
    unfinished.replace(path)
    sync(path.parent)


def replaced(target: Path) -> Path:
    """Return where the old directory lies if its replacement was cut off between the two renames."""
    return _beside(target, "old")


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}")


def sync(path: Path) -> None:
    """Have the system write a file, or a directory's entries, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open directories
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
