"""The adapters on this machine: taken in, promoted, rolled back, removed, exported.

Files are in directories that never change; which one serves is a row in the state database. So whatever is killed at
whatever moment, the row names an adapter that is whole, or none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from intract_lsp.errors import AdapterError
from intract_lsp.inference.engine import AdapterFiles, AdapterKind
from intract_lsp.state import StateDatabase
from intract_lsp.training.adapter_directory import complete, discard, new_id, publish, remove_leftovers
from intract_lsp.training.adapter_table import Adapter, AdapterStatus, AdapterTable
from intract_lsp.training.hold_back import Block
from intract_lsp.training.provenance import AdapterMeta, Provenance, read_meta

log = logging.getLogger(__name__)

LOCK_SECONDS = 60.0
"""How long another process may write before this one gives up: copying all weights of a model takes a while."""

KEPT = 5
"""Adapters of a folder and a base that are kept, those that serve or have served not counted."""


class AdapterRegistry:
    """Keeps adapters; may be used from any thread, and from several processes at once.

    What changes something, and what checks files, may take seconds: it is not for an event loop. Every method raises
    ``AdapterError`` with a sentence for the user.
    """

    def __init__(self, data: Path, state: StateDatabase, clock: Callable[[], float] = time.time) -> None:
        """Keep adapters below ``data``/adapters; ``state`` is this object's alone. Nothing is touched yet."""
        self._root = data / "adapters"
        self._table = AdapterTable(state, self._root, clock)
        self._clock = clock
        self._mutex = threading.RLock()
        self._lock = FileLock(self._root / ".lock")

    def close(self) -> None:
        """Close the database."""
        self._table.close()

    def recover(self) -> None:
        """Put in order what killed processes left behind; to be called once at the start.

        Where another process is writing just now, it is left to the next start.
        """
        if not self._root.is_dir():
            return
        try:
            with self._alone(0):
                self._put_in_order()
        except AdapterError:
            log.info("what may be left of adapters stays for now: another process writes")

    def create(
        self,
        candidate: Path,
        kind: AdapterKind,
        provenance: Provenance,
        status: AdapterStatus = AdapterStatus.CANDIDATE,
        id_: str = "",
    ) -> Adapter:
        """Take in the adapter whose files lie in ``candidate``, which stay there, and return it.

        ``id_`` is given where something else goes by it already, such as an int8 copy.
        """
        now = self._clock()
        meta = AdapterMeta(id_ or new_id(provenance.base_name, now), kind, now, provenance)
        with self._alone():
            self._put_in_order()
            publish(self._root, candidate, meta)
            try:
                self._table.add(meta, status)
            except BaseException:
                discard(self._root, meta.id)
                raise
        return self.get(meta.id)

    def list(self, workspace: str | None = None) -> tuple[Adapter, ...]:
        """Return the adapters, those trained on one folder if given; the newest first."""
        return self._table.all(workspace)

    def get(self, id_: str) -> Adapter:
        """Return an adapter."""
        return self._table.get(id_)

    def active(self, workspace: str, base: str) -> Adapter | None:
        """Return the adapter that serves in a folder with a base model, or ``None`` for the base alone.

        ``base`` is the model's ``models.store.weights_fingerprint``.
        """
        return next(iter(self._table.stack(workspace, base)), None)

    def before(self, workspace: str, base: str) -> Adapter | None:
        """Return the adapter that served in a folder before the one that does, or ``None`` for the base alone."""
        below = self._table.stack(workspace, base)[1:]
        return next((one for one in below if self._whole(one)), None)

    def folders(self, base: str) -> tuple[str, ...]:
        """Return the folders in which an adapter of a base serves."""
        return self._table.folders(base)

    def place(self, workspace: str, base: str) -> int | None:
        """Return the number of the promotion by which an adapter serves in a folder; ``None`` where none does."""
        return self._table.place(workspace, base)

    def promotion(self, id_: str) -> int | None:
        """Return the number of the newest promotion of an adapter, which may be over; ``None`` where there was none."""
        return self._table.promotion(id_)

    def trial(self, place: int) -> tuple[Block, ...]:
        """Return what was seen of a promoted adapter in service, and of what stood before it, in order."""
        return self._table.blocks(place)

    def add_block(self, place: int, block: Block) -> None:
        """Record what was seen of either."""
        self._table.add_block(place, block)

    def meta(self, id_: str) -> AdapterMeta:
        """Return what is known of how an adapter was made."""
        return read_meta(self.get(id_).directory)

    def verify(self, id_: str) -> None:
        """Raise unless the adapter's files are what they were when it was made; reads all of them."""
        directory = self.get(id_).directory
        read_meta(directory).verify(directory)

    def files(self, id_: str) -> AdapterFiles:
        """Return what the engine takes, after ``verify``."""
        adapter = self.get(id_)
        self.verify(id_)
        return AdapterFiles(id_, adapter.directory, adapter.kind, adapter.base_name, adapter.base)

    def promote(self, id_: str, workspace: str) -> Adapter:
        """Have an adapter serve in a folder, if its files are whole; the one before it can be rolled back to."""
        with self._alone():
            adapter = self.get(id_)
            self.verify(id_)
            if self.active(workspace, adapter.base) != adapter:
                self._table.push(adapter, workspace)
        return self.get(id_)

    def rollback(self, workspace: str, base: str) -> Adapter | None:
        """Have the adapter serve again that served before the present one, or ``None``: the base model alone.

        One that is damaged is passed over.
        """
        with self._alone():
            stack = self._table.stack(workspace, base)
            if not stack:
                raise AdapterError("There is nothing to roll back: the model serves without an adapter here.")
            whole = (number for number, one in enumerate(stack) if number and one != stack[0] and self._whole(one))
            self._table.pop(workspace, base, next(whole, len(stack)))
        return self.active(workspace, base)

    def mark(self, id_: str, status: AdapterStatus) -> Adapter:
        """Record what has been decided of an adapter that does not serve: ``REJECTED``, ``SHADOW``."""
        with self._alone():
            self._refuse_serving(self.get(id_), "changed")
            self._table.mark(id_, status)
        return self.get(id_)

    def remove(self, id_: str) -> None:
        """Delete an adapter that does not serve."""
        with self._alone():
            self._refuse_serving(self.get(id_), "removed")
            # The files first: a row without files is dropped at the next start, files without a row are taken in.
            discard(self._root, id_)
            self._table.delete([id_])

    def prune(self, workspace: str, base: str, keep: int = KEPT) -> tuple[str, ...]:
        """Remove a folder's oldest adapters for a base beyond ``keep`` and return them; what has served stays."""
        served = (AdapterStatus.ACTIVE, AdapterStatus.RETIRED)
        with self._alone():
            rest = [one.id for one in self.list(workspace) if one.base == base and one.status not in served]
            for id_ in rest[keep:]:
                self.remove(id_)
        return tuple(rest[keep:])

    def worth_keeping(self, base: str) -> frozenset[str]:
        """Return the adapters whose int8 copies are: in each folder the one that serves and the one before it."""
        stacks = (self._table.stack(workspace, base)[:2] for workspace in self._table.folders(base))
        return frozenset(adapter.id for stack in stacks for adapter in stack)

    def saw(self, path: str, workspace: str | None = None) -> tuple[Adapter, ...]:
        """Return the adapters that were trained on a file, or on any below a folder; the newest first.

        ``path`` is one inside the workspace, with ``/``.
        """
        found = self._table.saw(path.strip("/"))
        return tuple(one for one in found if workspace is None or one.workspace == workspace)

    def export(self, id_: str, target: Path, base: Path | None = None) -> None:
        """Write an adapter to a new directory: in peft's format or, with its base model's directory, merged.

        What is merged is a whole model that transformers loads.
        """
        from intract_lsp.training.export import export_adapter, export_merged  # brings torch

        files = self.files(id_)
        if base is None:
            export_adapter(files, target)
        else:
            export_merged(files, base, target)

    def _put_in_order(self) -> None:
        """Take in whole directories without a row, drop rows without a directory, delete what is neither."""
        remove_leftovers(self._root)
        known = {adapter.id: adapter for adapter in self.list()}
        for directory in complete(self._root):
            if directory.name not in known:
                try:
                    self._table.add(read_meta(directory), AdapterStatus.CANDIDATE)
                except AdapterError as error:
                    log.warning("an adapter is left alone: %s", error)
        # What serves stays, so that the user is told what is missing.
        self._table.delete(adapter.id for adapter in known.values() if not adapter.directory.is_dir())

    def _whole(self, adapter: Adapter) -> bool:
        try:
            self.verify(adapter.id)
        except AdapterError as error:
            log.warning("passed over: %s", error)
            return False
        return True

    def _refuse_serving(self, adapter: Adapter, done: str) -> None:
        if adapter.status is AdapterStatus.ACTIVE:
            raise AdapterError(f"The adapter {adapter.id} serves and cannot be {done}: roll back first.")

    @contextmanager
    def _alone(self, patience: float = LOCK_SECONDS) -> Iterator[None]:
        """Let no other thread or process change adapters meanwhile. Nests."""
        with self._mutex:
            try:
                self._root.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=patience)
            except (Timeout, OSError) as error:
                raise AdapterError(
                    f"The adapters in {self._root} cannot be changed ({error}): "
                    "another program is at it, or the directory is not writable."
                ) from error
            try:
                yield
            finally:
                self._lock.release()
