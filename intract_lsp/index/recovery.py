"""Bring the store and the manifest to agree, after a process was killed between its two commits."""

from __future__ import annotations

from dataclasses import dataclass

from intract_lsp.index.corpus import StoredFile
from intract_lsp.index.manifest import Manifest
from intract_lsp.index.store import ChunkStore


@dataclass(frozen=True)
class Recovered:
    """What had to go."""

    rows_dropped: int
    """Files whose rows the manifest does not vouch for."""
    files_forgotten: int
    """Files whose rows, as the manifest describes them, are not all there; they are to be indexed again."""


def reconcile(store: ChunkStore, manifest: Manifest) -> Recovered:
    """Drop the rows that the manifest does not describe, and forget the files whose rows are not as it describes them.

    The law of writing is: rows first, manifest second. So the manifest never promises rows that were not written, and
    a file that is neither in one nor in the other is simply a new one. Call it once before the first change.
    """
    described = {path: StoredFile(file.content_hash, file.chunks) for path, file in manifest.files().items()}
    stored = dict(store.files)
    stray = {path for path, file in stored.items() if described.get(path) != file}
    lost = {path for path, file in described.items() if file.chunks and stored.get(path) != file}
    lost |= stray & described.keys()
    # In this order: killed between the two, the rest is found again, as files whose rows are missing.
    store.remove(stray)
    manifest.forget(lost)
    return Recovered(len(stray), len(lost))
