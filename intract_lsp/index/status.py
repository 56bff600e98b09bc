"""What the index tells of itself. Plain values, which any thread may keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from intract_lsp.index.policy import Refusal

if TYPE_CHECKING:
    from intract_lsp.index.recent import LiveSnippet
    from intract_lsp.index.store import ChunkStore
    from intract_lsp.index.symbol_table import SymbolTable


class IndexState(str, Enum):
    """What the index of a workspace folder is doing."""

    IDLE = "idle"
    """Everything is indexed as it was on the disk when it was last looked at."""
    SCANNING = "scanning"
    """The files are being listed and compared with what is known of them."""
    INDEXING = "indexing"
    """Files are being read."""
    FAILED = "failed"
    """It cannot go on, and the message says why; the next change of a file has it try again."""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """Where the index of one workspace folder stands."""

    root: str
    """The folder, as the client named it."""
    state: IndexState
    files: int
    """Files that are known, also those whose content is of no use."""
    chunks: int
    """Chunks that can be found."""
    symbols: int
    """Definitions that can be found."""
    done: int
    """Files read since the index was last idle."""
    total: int
    """Those, and the ones that wait to be read."""
    updated_at: float | None
    """When the index last agreed with the disk, in seconds since 1970."""
    disk_bytes: int
    """Size of the table on disk."""
    message: str = ""
    """What the user should know of this folder: it is capped, only read, polled, failed or was rebuilt."""
    refused: Mapping[Refusal, int] = field(default_factory=lambda: MappingProxyType({}))
    """How many names the last listing left out, and how many files were read since then and left out, by reason."""


@dataclass(frozen=True, slots=True)
class IndexedFolder:
    """What may be searched from any thread."""

    root: Path
    store: ChunkStore
    symbols: SymbolTable
    unfinished: tuple[LiveSnippet, ...] = ()
    """What was not committed when the folder was opened."""
