"""One folder on the index's thread: watched, indexed a slice at a time, and opened anew after a failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import format_tb
from types import MappingProxyType

from intract_lsp.errors import IndexingError, IntractError
from intract_lsp.index.folder import IndexFolder
from intract_lsp.index.indexer import FolderIndexer
from intract_lsp.index.pending import RULE_FILES, Batch, Gathered, Pace, folds_case, settle
from intract_lsp.index.policy import refuse_folder, refuse_path
from intract_lsp.index.recent import LiveSnippet
from intract_lsp.index.status import IndexedFolder, IndexState, IndexStatus
from intract_lsp.index.unfinished import unfinished
from intract_lsp.index.watcher import WorkspaceWatcher
from intract_lsp.state import StateDatabase, open_state

log = logging.getLogger(__name__)

READ_SECONDS = 3.0
"""Between two looks at what another process writes."""

QUIET_SECONDS = 5.0
"""Without a change, after which the table may be compacted."""

RETRY_SECONDS = 30.0
"""After which what failed is tried again where no watcher tells of changes."""

REST_SHARE = 4.0
"""Times as long as a listing took, nothing is listed again: a build that writes thousands of files asks each second."""

_ONLY_READS = (
    "Another server keeps the index of {root} up to date, or its directory cannot be written; this one only reads it."
)
_CAPPED = (
    "{root} has more than {max_files} files; only those nearest to its top are indexed: raise index.max_files, or "
    "leave folders out in .intractignore."
)
_REBUILT = "The index of {root} was damaged and is built anew."
_MISSING = "The workspace folder {root} is not there, or cannot be read: its index waits until it is back."
_UNEXPECTED = "The index of {root} failed unexpectedly ({error}): see the log; the next change of a file tries again."
_MOVED = "The state database was damaged and a new one was begun; the old one is kept as {path}."


@dataclass(frozen=True, slots=True)
class FolderSetup:
    """What all folders of a worker have in common."""

    cache: Path
    """Holds a directory with tables for each folder."""
    state: Path
    """The state database."""
    max_files: int
    watch: bool
    """Whether changes on disk are looked out for; else the folder is listed once, and when asked to."""
    on_batch: Callable[[Path, Batch], None]
    """Told of changes, on a thread of the watcher."""
    on_notice: Callable[[str], None]
    """Given sentences that the user should see."""


class WorkspaceFolder:
    """The index of one folder, for one thread. Nothing is raised: what fails is in the status."""

    def __init__(self, root: Path, setup: FolderSetup) -> None:
        self._root = root
        self._setup = setup
        self._folder: IndexFolder | None = None
        self._database: StateDatabase | None = None
        self._indexer: FolderIndexer | None = None
        self._watcher: WorkspaceWatcher | None = None
        self._updates: list[Batch] = []
        self._scan_wanted = True
        self._awaits_watcher = False
        """Whether the watches are being set up; the first listing comes after that."""
        self._start_over = False
        self._unfinished: tuple[LiveSnippet, ...] | None = None
        """``None`` until git was asked, once everything is indexed."""
        self._failure = ""
        self._polled = ""
        self._noticed: set[str] = set()
        self._no_scan_before = 0.0
        self._failed_at = 0.0
        self._updated_at: float | None = None
        self.worked_at = 0.0
        """When, on the monotonic clock, a slice of work was last begun."""
        self.searched: IndexedFolder | None = None
        """What can be searched; what was is kept when something fails."""

    def take(self, batch: Batch) -> None:
        """Take what the watcher tells; whatever failed before is tried again."""
        self._awaits_watcher = False
        self._take(batch)

    def take_paths(self, paths: Iterable[str]) -> None:
        """Take paths (relative, with ``/``) that something happened to; what it was is looked up on the disk."""
        wanted = {path for path in paths if not _passed_over(path)}
        if wanted:
            root = str(self._root)
            self._take(settle(root, Gathered(touched=wanted), _is_ignored, Pace().most, folds_case(root)))

    def start_over(self) -> None:
        """Drop what is indexed and build it anew. Raises ``IndexingError`` where another process writes."""
        if self._indexer is not None and not self._indexer.writable:
            raise IndexingError(f"Another server keeps the index of {self._root} up to date: reindex there.")
        self._start_over = True
        self._failure = ""

    @property
    def state(self) -> IndexState:
        """What is being done; nothing more is to come where it is idle or failed."""
        if self._failure:
            return IndexState.FAILED
        indexer = self._indexer
        if indexer is None or self._start_over:
            return IndexState.SCANNING
        if not indexer.writable:
            return IndexState.IDLE
        if indexer.waiting or self._updates:
            return IndexState.INDEXING
        return IndexState.SCANNING if self._scan_wanted or self._awaits_watcher else IndexState.IDLE

    def due(self) -> float | None:
        """Return when, on the monotonic clock, there is work; ``None`` where only a change brings some."""
        if self._failure:
            # Where nothing is watched, no change will have it tried again.
            return self._failed_at + RETRY_SECONDS if self._setup.watch and self._watcher is None else None
        indexer = self._indexer
        if indexer is None or self._start_over:
            return 0.0
        if not indexer.writable:
            return self.worked_at + READ_SECONDS
        if indexer.waiting or self._updates:
            return 0.0
        if self._scan_wanted and not self._awaits_watcher:
            return self._no_scan_before
        if self._unfinished is None:
            return 0.0
        return self.worked_at + QUIET_SECONDS if indexer.needs_compaction else None

    def work(self, hurry: Callable[[], bool]) -> None:
        """Do one slice of what is due; reading leaves off behind the next file where ``hurry`` says so."""
        self.worked_at = time.monotonic()
        self._failure = ""
        try:
            self._work(hurry)
        except IntractError as error:
            # A folder that is gone leaves the table as it is; anything else is found out by opening it anew.
            if self._root.is_dir():
                log.warning("the index failed: %s", type(error.__cause__ or error).__name__)
                self._fail(str(error))
                self._let_go()
            else:
                self._fail(_MISSING.format(root=self._root))
        except Exception as error:  # noqa: BLE001 - reported
            name = type(error).__name__
            log.error("the index failed unexpectedly: %s\n%s", name, "".join(format_tb(error.__traceback__)))
            self._fail(_UNEXPECTED.format(root=self._root, error=name))
            self._let_go()

    def status(self) -> IndexStatus:
        """Return where the index of the folder stands."""
        searched, indexer = self.searched, self._indexer
        return IndexStatus(
            root=str(self._root),
            state=self.state,
            files=0 if searched is None else len(searched.symbols.files),
            chunks=0 if searched is None else searched.store.chunk_count,
            symbols=0 if searched is None else searched.symbols.symbol_count,
            done=0 if indexer is None else indexer.done,
            total=0 if indexer is None else indexer.total,
            updated_at=self._updated_at,
            disk_bytes=0 if searched is None else searched.store.size_on_disk(),
            message=" ".join(self._messages()),
            refused=MappingProxyType({} if indexer is None else dict(indexer.refused)),
        )

    def close(self) -> None:
        """End the watching and let another process write."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        self._let_go()
        self.searched = None

    def _work(self, hurry: Callable[[], bool]) -> None:
        indexer = self._indexer
        if indexer is None:
            self._open()
        elif not indexer.writable:
            self._start_over = False
            self._read_on(indexer)
        elif self._start_over:
            self._start_over = False
            indexer.start_over()
            self._let_go()
            self._scan_wanted = True
        else:
            self._write_on(indexer, hurry)

    def _open(self) -> None:
        """Open everything; the watches come last, as they ask for a listing when they are in place."""
        self._folder = folder = IndexFolder(self._setup.cache, self._root)
        self._database = database = open_state(self._setup.state)
        if database.moved_aside is not None:
            self._notice(_MOVED.format(path=database.moved_aside))
        self._indexer = indexer = FolderIndexer(self._root, folder, database, self._setup.max_files)
        self.searched = indexer.searched
        if indexer.rebuilt:
            self._notice(_REBUILT.format(root=self._root))
        if not indexer.writable:
            self._updated_at = time.time()
        elif self._setup.watch and self._watcher is None:
            self._awaits_watcher = True
            self._watcher = WorkspaceWatcher(
                self._root, lambda batch: self._setup.on_batch(self._root, batch), _is_ignored, self._poll
            )
            self._watcher.start()

    def _read_on(self, indexer: FolderIndexer) -> None:
        """Take over what another process wrote, or its place."""
        self._scan_wanted = True
        self._updates.clear()
        if indexer.is_outdated or (self._folder is not None and self._folder.try_to_write()):
            self._let_go()
        elif indexer.refresh():
            self._updated_at = time.time()

    def _write_on(self, indexer: FolderIndexer, hurry: Callable[[], bool]) -> None:
        if self._updates:
            batch = self._updates.pop(0)
            indexer.update(batch.changed, batch.removed)
        elif indexer.waiting:
            indexer.step(hurry)
        elif self._scan_wanted:
            self._scan_wanted = False
            indexer.find_changes()
            self._no_scan_before = time.monotonic() + REST_SHARE * (time.monotonic() - self.worked_at)
        elif self._unfinished is None:
            self._unfinished = unfinished(self._root, indexer.searched.symbols.files)
        elif indexer.needs_compaction:
            indexer.compact()
        self.searched = replace(indexer.searched, unfinished=self._unfinished or ())
        if self.state is IndexState.IDLE:
            self._updated_at = time.time()
        if indexer.capped:
            self._notice(_CAPPED.format(root=self._root, max_files=self._setup.max_files))

    def _take(self, batch: Batch) -> None:
        if batch.vanished:
            self._fail(_MISSING.format(root=self._root))
            return
        if batch.rescan or self._failure:
            self._scan_wanted = True
        else:
            self._updates.append(batch)
        self._failure = ""

    def _fail(self, sentence: str) -> None:
        self._failure = sentence
        self._failed_at = time.monotonic()
        self._updates.clear()
        self._scan_wanted = True

    def _let_go(self) -> None:
        """Close what is open; the lock, too, so that a process that can write may do so."""
        indexer, self._indexer = self._indexer, None
        database, self._database = self._database, None
        folder, self._folder = self._folder, None
        if indexer is not None:
            indexer.close()
        if database is not None:
            database.close()
        if folder is not None:
            folder.close()

    def _messages(self) -> list[str]:
        indexer = self._indexer
        found = [self._failure, self._polled]
        if indexer is not None and not indexer.writable:
            found.append(_ONLY_READS.format(root=self._root))
        if indexer is not None and indexer.capped:
            found.append(_CAPPED.format(root=self._root, max_files=self._setup.max_files))
        if indexer is not None and indexer.rebuilt:
            found.append(_REBUILT.format(root=self._root))
        return [sentence for sentence in found if sentence]

    def _notice(self, sentence: str) -> None:
        if sentence not in self._noticed:
            self._noticed.add(sentence)
            self._setup.on_notice(sentence)

    def _poll(self, sentence: str) -> None:
        """Called on the watcher's thread."""
        self._polled = sentence
        self._setup.on_notice(sentence)


def _is_ignored(path: str) -> bool:
    """Return whether what happens to a file, or below a directory (``/`` at the end), is of no interest, by name."""
    name = path.rstrip("/").rpartition("/")[2]
    if path.endswith("/"):
        return refuse_folder(name) is not None
    return name not in RULE_FILES and refuse_path(path) is not None


def _passed_over(path: str) -> bool:
    folders = path.split("/")[:-1]
    return any(refuse_folder(folder) is not None for folder in folders) or "\0" in path
