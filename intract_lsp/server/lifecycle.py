"""From ``initialize`` to ``exit``, and the settings that come with it and later."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from intract_lsp.app import App
from intract_lsp.server import copied, cursor
from intract_lsp.server.asking import Asking
from intract_lsp.server.convert import open_folders
from intract_lsp.server.documents import Documents
from intract_lsp.server.index import IndexSession
from intract_lsp.server.inline_completion import handler
from intract_lsp.server.popup import Popup
from intract_lsp.server.status import StatusPublisher
from intract_lsp.server.training import TrainingSession

log = logging.getLogger(__name__)

SECTION = "intract"
"""Name of our section in the editor's settings."""

CLIENT_WAITS = {"neovim": 0.2}
"""Seconds that an editor waits for further keystrokes before it asks, by the first word of its name."""

REGISTRATION = "intract-inline-completion"
WATCH_REGISTRATION = "intract-watched-files"


class Lifecycle:
    """Reacts to the session's events; the state of the session itself is pygls'."""

    def __init__(
        self,
        server: LanguageServer,
        app: App,
        documents: Documents,
        publisher: StatusPublisher,
        index: IndexSession,
        training: TrainingSession,
        problems: list[str],
    ) -> None:
        self._server = server
        self._app = app
        self._documents = documents
        self._publisher = publisher
        self._index = index
        self._training = training
        self._problems = list(problems)
        self._dynamic = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = Asking(app, documents, self._folders)
        self._popup = Popup(server, self._asking)

    def register(self) -> None:
        """Take the session's events. pygls sets attributes on what it registers, so bound methods cannot be."""
        feature = self._server.feature

        @feature(types.INITIALIZE)
        def initialize(params: types.InitializeParams) -> None:
            self._initialize(params)

        @feature(types.INITIALIZED)
        def initialized(params: types.InitializedParams) -> None:
            self._initialized()

        @feature(types.SHUTDOWN)
        def shutdown(params: None) -> None:
            # Not waited for: the loop still has to answer. `serve` waits when the loop has ended.
            self._index.stop()
            self._training.stop()
            self._app.worker.stop(timeout=0)

        @feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
        def did_change_configuration(params: types.DidChangeConfigurationParams) -> None:
            self._did_change_configuration(params)

        def leave(params: None) -> None:
            self._server.shutdown()  # type: ignore[no-untyped-call]

        cursor.register(self._server, self._app, self._documents, self._folders)
        copied.register(self._server, self._app, self._documents)
        # In place of pygls' own, whose SystemExit leaves a traceback over TCP and exit code 0 in any case over stdio.
        self._server.protocol.fm.add_builtin_feature(types.EXIT, leave)

    def _initialize(self, params: types.InitializeParams) -> None:
        inline = params.capabilities.text_document and params.capabilities.text_document.inline_completion
        self._dynamic = bool(inline and inline.dynamic_registration)
        # Announced in one way only: statically, or later through client/registerCapability.
        options = None if self._dynamic else types.InlineCompletionOptions()
        self._server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, options)(handler(self._asking))
        folders = self._folders()
        if folders and (root := to_fs_path(folders[0])) is not None:
            self._problems += self._app.settings.put_folder(Path(root))
        self._take_client_settings(params.initialization_options, "initializationOptions")
        self._popup.initialize(params.capabilities.text_document)
        self._app.serve_workspace(self._training.folders())
        # As if nothing had changed: the model is loaded once, when the client is ready.
        self._app.apply(self._app.settings.current)
        client = params.client_info.name.strip().partition(" ")[0].lower() if params.client_info else ""
        self._app.service.debounce.client_wait = CLIENT_WAITS.get(client, 0.0)

    def _initialized(self) -> None:
        self._publisher.start(asyncio.get_running_loop())
        self._app.worker.start()
        self._app.load_model()
        self._index.start()
        self._training.start()
        self._show_problems()
        registrations = self._registrations()
        if registrations:
            parameters = types.RegistrationParams(registrations)
            self._spawn(self._server.client_register_capability_async(parameters))
        self._follow_popup()

    def _follow_popup(self) -> None:
        change = self._popup.follow()
        if change is not None:
            self._spawn(change)

    def _did_change_configuration(self, params: types.DidChangeConfigurationParams) -> None:
        before = self._app.settings.current
        settings = params.settings
        if isinstance(settings, Mapping) and SECTION in settings:
            settings = settings[SECTION]
        if settings is not None:
            self._take_client_settings(settings, "the editor's settings")
            self._after_change(before)
        elif _supports_configuration(self._server.client_capabilities):
            self._spawn(self._pull_configuration())

    async def _pull_configuration(self) -> None:
        """Ask for our section: clients without push send the notification empty."""
        before = self._app.settings.current
        items = [types.ConfigurationItem(section=SECTION)]
        answer = await self._server.workspace_configuration_async(types.ConfigurationParams(items=items))
        if answer and answer[0] is not None:
            self._take_client_settings(answer[0], "the editor's settings")
            self._after_change(before)

    def _after_change(self, before: Any) -> None:
        self._app.apply(before)
        self._index.refresh()
        self._follow_popup()
        self._publisher.publish()
        self._show_problems()

    def _take_client_settings(self, values: object, source: str) -> None:
        if values is None:
            return
        if not isinstance(values, Mapping):
            self._problems.append(f'{source} must be an object of sections such as {{"model": {{...}}}}.')
            return
        self._problems += self._app.settings.put("client", source, values)

    def _show_problems(self) -> None:
        for problem in self._problems:
            log.warning("settings: %s", problem)
        if self._problems:
            message = "intract settings: " + " ".join(self._problems)
            self._server.window_show_message(types.ShowMessageParams(types.MessageType.Warning, message))
        self._problems = []

    def _registrations(self) -> list[types.Registration]:
        """Return what this editor wants to be told after ``initialized``."""
        found = []
        if self._dynamic:
            options = {"documentSelector": [{"pattern": "**"}, {"scheme": "untitled"}]}
            found.append(types.Registration(REGISTRATION, types.TEXT_DOCUMENT_INLINE_COMPLETION, options))
        workspace = self._server.client_capabilities.workspace
        watching = workspace and workspace.did_change_watched_files
        if watching and watching.dynamic_registration:
            watchers = {"watchers": [{"globPattern": "**/*"}]}
            found.append(types.Registration(WATCH_REGISTRATION, types.WORKSPACE_DID_CHANGE_WATCHED_FILES, watchers))
        return found

    def _folders(self) -> list[str]:
        return open_folders(self._server)

    def _spawn(self, coroutine: Any) -> None:
        async def run() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                try:
                    await coroutine
                except JsonRpcException as error:
                    log.warning("the editor refused a request of ours: %s", error.message)

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _supports_configuration(capabilities: types.ClientCapabilities) -> bool:
    return bool(capabilities.workspace and capabilities.workspace.configuration)
