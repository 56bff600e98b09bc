"""The index as a session sees it: which folders it holds, what the editor says of their files, what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from intract_lsp.app import App
from intract_lsp.index.search import search
from intract_lsp.index.status import IndexStatus
from intract_lsp.server.convert import open_folders
from intract_lsp.server.progress import IndexProgress
from intract_lsp.server.status import folder_values

PAUSED = "Indexing is paused; it goes on when a file changes, or with the command intract.reindex."
NO_FOLDER = "No folder is open that could be searched: open one, or look at the settings of the section index."


class IndexSession:
    """Keeps the index on the folders that are open. Used on the event loop only."""

    def __init__(self, server: LanguageServer, app: App, publish: Callable[[], None]) -> None:
        """``publish`` is called when the status has changed."""
        self._server = server
        self._app = app
        self._publish = publish
        self._progress = IndexProgress(server, self._pause)
        self._roots: tuple[Path, ...] = ()
        """What the index was told to hold."""
        self._max_files = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening = self._running = self._paused = False

    def start(self) -> None:
        """Begin with the folders that are open; before this nothing is done."""
        self._loop = asyncio.get_running_loop()
        index = self._app.index
        index.on_status = lambda statuses: self._from_index(self._on_status, statuses)
        index.on_notice = lambda sentence: self._from_index(self._tell, types.MessageType.Warning, sentence)
        self._listening = True
        self.refresh()

    def stop(self) -> None:
        """End the index's thread soon; it is not waited for."""
        self._listening = False
        self._progress.stop()
        self._app.index.stop(timeout=0)

    def refresh(self) -> None:
        """Bring the index in line with the folders that are open and with the settings; ends a pause."""
        self._paused = False
        settings = self._app.settings.current.index
        if not settings.enabled:
            self._hold(())
            return
        paths = (to_fs_path(uri) for uri in open_folders(self._server))
        roots = (Path(path) for path in dict.fromkeys(paths) if path)
        self._hold(tuple(root for root in roots if not _is_one_of(root, settings.disabled_folders)))

    def note(self, uris: Iterable[str]) -> None:
        """Take note of files that changed, came or went."""
        uris = list(uris)
        for uri in uris:
            self._app.recent.changed_on_disk(uri)
        paths = [Path(path) for uri in uris if (path := to_fs_path(uri))]
        if paths:
            self.refresh()
            self._app.index.note(paths)

    def reindex(self) -> dict[str, Any]:
        """Begin to index all folders anew."""
        self.refresh()
        if not self._roots:
            return {"message": NO_FOLDER}
        build = self._app.index.reindex()
        build.add_done_callback(self._reindexed)
        self._progress.follow(build, self._title())
        return {"message": f"{self._title()} anew."}

    def status(self) -> dict[str, Any]:
        """Return how each folder stands, and how old what is searched is."""
        now = time.time()
        folders = [
            {
                **folder_values(status),
                "ageSeconds": None if status.updated_at is None else round(max(0.0, now - status.updated_at), 1),
            }
            for status in self._app.index.statuses()
        ]
        return {"folders": folders, "message": self._message()}

    async def search(self, query: str, limit: int) -> dict[str, Any]:
        """Return the chunks of all folders that fit a text best."""
        # A search of a large index takes longer than the event loop may be held up.
        found = await asyncio.to_thread(search, self._app.index.folders(), query, limit)
        return {"results": [one.values() for one in found], "message": self._message()}

    def _reindexed(self, build: Future[None]) -> None:
        """Say why it could not be done; called on the index's thread."""
        error = None if build.cancelled() else build.exception()
        if error is not None:
            self._from_index(self._tell, types.MessageType.Error, str(error))

    def _hold(self, roots: tuple[Path, ...]) -> None:
        max_files = self._app.settings.current.index.max_files
        if not self._listening or (roots, max_files) == (self._roots, self._max_files):
            return
        more = set(roots) - set(self._roots) or max_files > self._max_files
        self._roots, self._max_files = roots, max_files
        self._app.index.set_folders(roots, max_files)
        if roots and not self._running:
            self._app.index.start()
            self._running = True
        if roots and more:
            self._progress.follow(self._app.index.settled(), self._title())

    def _pause(self) -> None:
        """What is indexed by now stays on disk, so that the next start goes on from there."""
        self._hold(())
        self._paused = True
        self._tell(types.MessageType.Info, PAUSED)

    def _from_index(self, call: Callable[..., None], *arguments: object) -> None:
        """Have something called on the event loop, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has closed; nobody is left to tell
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call, *arguments)

    def _on_status(self, statuses: tuple[IndexStatus, ...]) -> None:
        self._progress.update(statuses)
        self._publish()

    def _tell(self, kind: types.MessageType, sentence: str) -> None:
        self._server.window_show_message(types.ShowMessageParams(kind, sentence))

    def _title(self) -> str:
        return f"Indexing {', '.join(root.name or str(root) for root in self._roots)}"

    def _message(self) -> str:
        """Return what explains an answer with less in it than expected."""
        if self._paused:
            return PAUSED
        if not self._roots:
            return NO_FOLDER
        waiting = sum(status.total - status.done for status in self._app.index.statuses())
        return f"{waiting:,} files are still to be indexed." if waiting else ""


def _is_one_of(root: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatch(root.name, pattern) or fnmatch(str(root), pattern) for pattern in patterns)


def register(server: LanguageServer, session: IndexSession) -> None:
    """Take what the editor says of folders and files."""

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: types.DidSaveTextDocumentParams) -> None:
        session.note([params.text_document.uri])

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def did_change_watched_files(params: types.DidChangeWatchedFilesParams) -> None:
        session.note(change.uri for change in params.changes)

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def did_change_workspace_folders(params: types.DidChangeWorkspaceFoldersParams) -> None:
        session.refresh()
