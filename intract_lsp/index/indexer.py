"""One workspace folder's table, manifest and symbols, brought in line with its files."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from traceback import format_tb

from intract_lsp.allocator import return_freed_memory
from intract_lsp.errors import IndexingError
from intract_lsp.index.extraction import RULES, Extract, extract
from intract_lsp.index.files import FilePolicy, ListedFile, list_files
from intract_lsp.index.folder import IndexFolder
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.manifest import FileRecord, IndexedFile, Manifest, SymbolRow, active_recipe
from intract_lsp.index.policy import Refusal, refuse_path
from intract_lsp.index.recovery import reconcile
from intract_lsp.index.rows import FileChunks
from intract_lsp.index.source import read_source
from intract_lsp.index.status import IndexedFolder
from intract_lsp.index.store import ChunkStore, PreparedRows, drop_tables
from intract_lsp.index.symbol_table import SymbolTable
from intract_lsp.state import StateDatabase

log = logging.getLogger(__name__)

RECIPE = RULES
"""What the manifest calls the rows that this version makes; the table's own layout is part of the table's name."""

SLICE = 0.04
"""Seconds of work after which a completion may go first."""

COMMIT_FILES = 32
COMMIT_CHARACTERS = 300_000
"""Files are committed together from one of these on; such a commit takes about as long as a slice."""

DROPPED_AT_ONCE = 500
"""Files whose rows one commit drops."""

MANY_FILES = 100
"""After reading so many, there is memory to give back."""

COMMITS_BETWEEN_LOOKS = 32
"""Asking the table whether compaction pays takes longer than a commit."""

_NOT_THERE = frozenset(
    {Refusal.VANISHED, Refusal.UNREADABLE, Refusal.SYMLINK, Refusal.NOT_A_FILE, Refusal.OUTSIDE, Refusal.NAME}
)
"""Reasons that the file's content has no part in: it is not remembered, and looked at again in the next listing."""


@dataclass
class _Ready:
    """Files that were read and are to be committed together."""

    rows: dict[str, PreparedRows] = field(default_factory=dict)
    files: list[IndexedFile] = field(default_factory=list)
    touched: list[ListedFile] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    characters: int = 0

    def __len__(self) -> int:
        return len(self.files) + len(self.touched) + len(self.gone)

    @property
    def is_full(self) -> bool:
        return len(self) >= COMMIT_FILES or self.characters >= COMMIT_CHARACTERS


class FolderIndexer:
    """Keeps what is searched of a workspace folder in line with its files, in slices of work; for one thread.

    Whatever touches the table, the manifest or the folder raises ``IndexingError`` where that fails. Then it is to be
    closed and another one opened, which finds out what is whole. Where another process writes, it only reads.
    """

    def __init__(self, root: Path, folder: IndexFolder, state: StateDatabase, max_files: int) -> None:
        self._root = root
        self._folder = folder
        self._state = state
        self._max_files = max_files
        self._policy = FilePolicy(root)
        self._grammars = Grammars()
        self._waiting: dict[str, tuple[ListedFile, str]] = {}
        """Files to be read, with the hash of what is known of them."""
        self._ready = _Ready()
        self._scanned = False
        """Whether a listing is being worked off, or was."""
        self._commits = 0
        """Since the table was last asked whether compaction pays."""
        self.writable = folder.writable
        """Whether this process keeps the index up to date; others only read it."""
        self.done = 0
        """Files read since nothing was waiting."""
        self.capped = False
        """Whether the folder has more files than are indexed."""
        self.refused: Counter[Refusal] = Counter()
        """See `IndexStatus.refused`."""
        active = active_recipe(state, folder.root)
        self._recipe = RECIPE if self.writable or active is None else active
        self._manifest = Manifest(state, folder.root, self._recipe)
        self._store = ChunkStore(folder.path, self._recipe, writable=self.writable)
        self.rebuilt = self._store.rebuilt
        """Whether the table was damaged and is begun anew."""
        self._symbols = SymbolTable()
        if self.writable:
            recovered = reconcile(self._store, self._manifest)
            log.info("dropped %d files' rows, forgot %d files", recovered.rows_dropped, recovered.files_forgotten)
        self._load_symbols(self._symbols, self._manifest)
        self.searched = IndexedFolder(root, self._store, self._symbols)
        """What can be searched: the rows of the old recipe, until all of the new one's are there."""
        if self.writable and self._manifest.complete:
            drop_tables(folder.path, (self._store.path,))
        elif active is not None and active != self._recipe:
            self.searched = self._open_old(active)

    @property
    def waiting(self) -> int:
        """Files that were found and are not committed yet."""
        return len(self._waiting) + len(self._ready)

    @property
    def total(self) -> int:
        """Files read since nothing was waiting, and those to be read."""
        return self.done + len(self._waiting)

    @property
    def needs_compaction(self) -> bool:
        """Whether the table is to be compacted once nobody waits."""
        return self._commits >= COMMITS_BETWEEN_LOOKS

    def scan(self, progress: Callable[[int, int], None], pause: Callable[[], None]) -> None:
        """Bring everything in line with the folder: `find_changes`, and `step` until nothing waits.

        ``progress`` is told how many files were read, of how many; ``pause`` is called after each slice of work.
        """
        self.find_changes()
        while self.waiting:
            pause()
            self.step()
            progress(self.done, self.total)

    def find_changes(self) -> None:
        """List the folder, drop what is gone, and have what is new or was written wait to be read.

        Reads no file. Takes in the order of a second for 20,000 files.
        """
        self._begin()
        started = time.perf_counter()
        listing = list_files(self._root, self._max_files)
        known = self._manifest.files()
        changed = [file for file in listing.files if not _is_known(known.get(file.path), file)]
        # What the user works on comes first.
        changed.sort(key=lambda file: -file.mtime_ns)
        self._waiting = {file.path: (file, _hash_of(known.get(file.path))) for file in changed}
        self.capped = listing.capped
        self.refused = Counter(listing.refused)
        gone = known.keys() - {file.path for file in listing.files}
        log.info(
            "listed %d files in %.2f s: %d to be read, %d gone",
            *(len(listing.files), time.perf_counter() - started, len(changed), len(gone)),
        )
        self._drop(gone)
        self._scanned = True
        self._rest()

    def update(self, changed: Collection[str], removed: Collection[str]) -> None:
        """Have files wait to be read, before all others, and drop those that are gone or no longer used.

        Paths are relative to the folder, with ``/``. What was removed may be directories, and comes before the
        changes; each is looked at on the disk.
        """
        self._begin()
        changed = {path for path in changed if refuse_path(path) is None}
        removed = {path for path in removed if _is_storable(path)}
        found = {path: file for path in changed if (file := self._look(path)) is not None}
        known = self._manifest.records(changed)
        gone = (self._manifest.paths_below(removed) | known.keys()) - found.keys()
        fresh = {path: file for path, file in found.items() if not _is_known(known.get(path), file)}
        # What is known and as it was has been admitted, and a change of the rules lists everything again.
        refused = self._policy.refused(fresh) if fresh else {}
        gone |= refused.keys() & known.keys()
        for path in (*self._below(removed), *changed):
            self._waiting.pop(path, None)
        room = self._max_files - len(self._symbols.files) - len(self._waiting) + len(gone)
        admitted: dict[str, tuple[ListedFile, str]] = {}
        for path in fresh.keys() - refused.keys():
            if path not in known and room <= 0:
                self.capped = True
                continue
            room -= path not in known
            admitted[path] = fresh[path], _hash_of(known.get(path))
        self._waiting = admitted | self._waiting
        self._drop(gone)
        self._rest()

    def step(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Read files that wait for `SLICE` seconds at most, or commit those that were read.

        ``hurry`` is asked behind each file whether the rest can wait.
        """
        end = time.monotonic() + SLICE
        while self._waiting and not self._ready.is_full:
            path = next(iter(self._waiting))
            file, content_hash = self._waiting.pop(path)
            self._read(file, content_hash)
            self.done += 1
            if time.monotonic() >= end or hurry():
                break
        if self._ready.is_full or not self._waiting:
            self._flush()
        self._rest()

    def compact(self) -> None:
        """Compact the table if that pays; it cannot be stopped and takes some seconds for 100,000 chunks."""
        self._commits = 0
        if self._store.needs_compaction:
            started = time.perf_counter()
            self._store.compact()
            log.info("compacted the table in %.2f s", time.perf_counter() - started)

    @property
    def is_outdated(self) -> bool:
        """Whether the process that writes has built other rows; then this is to be closed and another one opened."""
        active = active_recipe(self._state, self._folder.root)
        return active is not None and active != self._recipe

    def refresh(self) -> bool:
        """Take over what the process that writes has changed; return whether it has."""
        changed = self._store.refresh()
        if changed:
            self._load_symbols(self._symbols, self._manifest)
        return changed

    def start_over(self) -> None:
        """Drop everything that is indexed; then this is to be closed and another one opened."""
        if not self.writable:
            raise IndexingError("Another server keeps this workspace's index up to date: run the command there.")
        self._manifest.forget(self._manifest.files().keys())
        self._store.close()
        drop_tables(self._folder.path, ())

    def close(self) -> None:
        """Let go of the table; what was searched stays searchable in memory."""
        self._store.close()
        self.searched.store.close()

    def _open_old(self, recipe: str) -> IndexedFolder:
        """Return what is searched while another recipe is built; nothing where the old table cannot be read."""
        symbols = SymbolTable()
        try:
            store = ChunkStore(self._folder.path, recipe, writable=False)
        except IndexingError as error:
            log.warning("the table of the last version cannot be read: %s", error.__cause__)
            return self.searched
        self._load_symbols(symbols, Manifest(self._state, self._folder.root, recipe))
        return IndexedFolder(self._root, store, symbols)

    @staticmethod
    def _load_symbols(symbols: SymbolTable, manifest: Manifest) -> None:
        symbols.load(manifest.files(), manifest.symbols())

    def _look(self, path: str) -> ListedFile | None:
        try:
            found = os.lstat(self._root / path)
        except OSError:
            return None
        return None if stat.S_ISDIR(found.st_mode) else ListedFile(path, found.st_size, found.st_mtime_ns)

    def _below(self, paths: Collection[str]) -> list[str]:
        """Return the files waiting to be read that some paths, or directories of such paths, stand for."""
        if not paths or not self._waiting:
            return []
        starts = tuple(f"{path}/" for path in paths)
        return [path for path in self._waiting if path in paths or path.startswith(starts)]

    def _read(self, file: ListedFile, content_hash: str) -> None:
        text = read_source(self._root, file.path)
        if isinstance(text, Refusal):
            self.refused[text] += 1
            if text in _NOT_THERE:
                self._ready.gone.add(file.path)
            else:
                self._make_ready(file, "", Extract((), ()))
            return
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        if digest == content_hash:
            self._ready.touched.append(file)
            return
        self._make_ready(file, digest, self._extract(file, text))
        self._ready.characters += len(text)

    def _extract(self, file: ListedFile, text: str) -> Extract:
        """A file that no part of the analysis expected must not keep the others out of the index for ever."""
        try:
            return extract(file.path, text, self._grammars)
        except Exception as error:  # noqa: BLE001 - reported
            trace = "".join(format_tb(error.__traceback__))
            log.error("a file of %d bytes is left out: %s\n%s", file.size, type(error).__name__, trace)
            return Extract((), ())

    def _make_ready(self, file: ListedFile, digest: str, found: Extract) -> None:
        self._ready.rows[file.path] = self._store.prepare(file.path, FileChunks(digest, found.chunks))
        record = FileRecord(file.path, digest, file.size, file.mtime_ns, len(found.chunks), time.time())
        self._ready.files.append(IndexedFile(record, found.symbols))

    def _begin(self) -> None:
        if not self.waiting:
            self.done = 0
        self._flush()

    def _flush(self) -> None:
        """Commit what was read: rows first, manifest second (see `recovery`)."""
        if not self._ready:
            return
        ready, self._ready = self._ready, _Ready()
        self._store.replace_prepared(ready.rows)
        self._manifest.put(ready.files)
        for file in ready.touched:
            self._manifest.touch(file.path, file.size, file.mtime_ns)
        symbols: Mapping[str, tuple[SymbolRow, ...]] = {file.record.path: file.symbols for file in ready.files}
        self._symbols.replace((), symbols)
        self._commits += 1
        self._drop(ready.gone)

    def _drop(self, paths: Collection[str]) -> None:
        left = iter(sorted(paths))
        while batch := set(islice(left, DROPPED_AT_ONCE)):
            self._store.remove(batch)
            self._manifest.forget(batch)
            self._symbols.replace(batch, {})
            self._commits += 1

    def _rest(self) -> None:
        """Finish what has to wait until everything that was found is committed."""
        if self.waiting:
            return
        self._symbols.renew_resolver()
        if self._scanned and not self._manifest.complete:
            self._manifest.mark_complete()
            self.searched = IndexedFolder(self._root, self._store, self._symbols)
            drop_tables(self._folder.path, (self._store.path,))
        if self.done >= MANY_FILES:
            return_freed_memory()


def _is_known(record: FileRecord | None, file: ListedFile) -> bool:
    return record is not None and record.is_unchanged(file.size, file.mtime_ns)


def _hash_of(record: FileRecord | None) -> str:
    return "" if record is None else record.content_hash


def _is_storable(path: str) -> bool:
    """Return whether a database can hold a path; one that it cannot is in none."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
