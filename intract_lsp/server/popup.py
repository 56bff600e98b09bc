"""``textDocument/completion``: suggestions in the popup of editors that know no inline completion, where wanted."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Coroutine
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from intract_lsp.completion.request import CompletionResult, RejectReason, TriggerKind
from intract_lsp.server.asking import Asking, Cursor
from intract_lsp.server.documents import Document
from intract_lsp.server.popup_item import popup_item

log = logging.getLogger(__name__)

REGISTRATION = "intract-completion"

TRIGGER_CHARACTERS = (".", "=")
"""Besides the characters of words. A bracket, comma or colon often ends its line, and where the popup's first item is
chosen from the start, the Enter behind it would accept a suggestion in place of ending the line."""

_LASTING = frozenset(
    {
        RejectReason.DISABLED,
        RejectReason.LANGUAGE_OFF,
        RejectReason.UNKNOWN_DOCUMENT,
        RejectReason.BINARY,
        RejectReason.SECRET_FILE,
    }
)
"""Reasons that the next keystroke will not change, so that no editor need ask again while a word is typed."""

_NOTHING = types.CompletionList(is_incomplete=False, items=[])
_NOTHING_YET = types.CompletionList(is_incomplete=True, items=[])


class Popup:
    """Announces the request as the settings have it, now and when they change, and answers it."""

    def __init__(self, server: LanguageServer, asking: Asking) -> None:
        self._server = server
        self._asking = asking
        self._capabilities: types.CompletionClientCapabilities | None = None
        self._has_inline = False
        self._answers = False
        """Whether the request has a handler; it keeps it, and answers with nothing while it is not wanted."""
        self._announced = False
        self._told = False
        self._asked: tuple[weakref.ref[Document], int] | None = None
        """Document and version that were asked about last."""
        self._late: set[asyncio.Task[CompletionResult]] = set()

    @property
    def _is_dynamic(self) -> bool:
        return bool(self._capabilities and self._capabilities.dynamic_registration)

    @property
    def _is_wanted(self) -> bool:
        popup = self._asking.app.settings.current.completion.popup
        return popup == "on" or (popup == "auto" and not self._has_inline)

    def initialize(self, capabilities: types.TextDocumentClientCapabilities | None) -> None:
        """Take note of what the editor can do, and announce the request to one that can be told only now."""
        self._capabilities = capabilities.completion if capabilities else None
        self._has_inline = bool(capabilities and capabilities.inline_completion)
        if self._capabilities is not None and self._is_wanted and not self._is_dynamic:
            self._answer_requests(types.CompletionOptions(trigger_characters=list(TRIGGER_CHARACTERS)))
            self._announced = True

    def follow(self) -> Coroutine[Any, Any, None] | None:
        """Return the request that tells the editor what the settings now want, ``None`` where it knows.

        An editor that cannot be told is asked, once, to start the server again.
        """
        if self._capabilities is None or self._is_wanted == self._announced:
            return None
        if not self._is_dynamic:
            self._ask_for_restart()
            return None
        self._announced = self._is_wanted
        if not self._announced:
            gone = types.Unregistration(REGISTRATION, types.TEXT_DOCUMENT_COMPLETION)
            return self._server.client_unregister_capability_async(types.UnregistrationParams([gone]))
        self._answer_requests(None)
        options = {
            "documentSelector": [{"pattern": "**"}, {"scheme": "untitled"}],
            "triggerCharacters": list(TRIGGER_CHARACTERS),
        }
        new = types.Registration(REGISTRATION, types.TEXT_DOCUMENT_COMPLETION, options)
        return self._server.client_register_capability_async(types.RegistrationParams([new]))

    def _ask_for_restart(self) -> None:
        # Switched off while it runs, the request is answered with nothing, and nobody need be bothered.
        if self._is_wanted and not self._told:
            self._told = True
            message = "intract: completion.popup takes effect when the editor starts the server again."
            self._server.window_show_message(types.ShowMessageParams(types.MessageType.Info, message))

    def _answer_requests(self, options: types.CompletionOptions | None) -> None:
        if self._answers:
            return
        self._answers = True

        @self._server.feature(types.TEXT_DOCUMENT_COMPLETION, options)
        async def completion(params: types.CompletionParams) -> types.CompletionList:
            return await self._answer(params)

    async def _answer(self, params: types.CompletionParams) -> types.CompletionList:
        if not self._is_wanted:
            return _NOTHING
        uri = params.text_document.uri
        cursor = self._asking.locate(uri, params.position)
        if isinstance(cursor, RejectReason):
            self._asking.refuse(uri, cursor)
            return _without(cursor)
        result = await self._in_time(cursor, self._trigger(params.context, cursor))
        if result is None:
            return _NOTHING_YET
        if result.suggestion is None:
            return _without(result.reject_reason)
        capabilities = self._capabilities.completion_item if self._capabilities else None
        item = popup_item(result.suggestion, cursor, capabilities)
        return types.CompletionList(is_incomplete=True, items=[item])

    def _trigger(self, context: types.CompletionContext | None, cursor: Cursor) -> TriggerKind:
        """Return how a request came about. The protocol calls typing a word ``Invoked``, too: asking twice is not."""
        document = cursor.document
        again = self._asked is not None and self._asked[0]() is document and self._asked[1] == document.version
        self._asked = weakref.ref(document), document.version
        invoked = context is None or context.trigger_kind is types.CompletionTriggerKind.Invoked
        return TriggerKind.INVOKED if invoked and again else TriggerKind.AUTOMATIC

    async def _in_time(self, cursor: Cursor, trigger: TriggerKind) -> CompletionResult | None:
        """Return the answer, or ``None`` where it takes so long that it would hold up what other servers found.

        It is then waited for all the same: what was typed through meanwhile comes from the cache.
        """
        seconds = self._asking.app.settings.current.completion.popup_deadline_ms / 1000
        task = asyncio.ensure_future(self._asking.suggest(cursor, trigger))
        try:
            await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            return task.result()
        self._late.add(task)
        task.add_done_callback(lambda done: self._came_late(cursor.document.uri, done))
        return None

    def _came_late(self, uri: str, task: asyncio.Task[CompletionResult]) -> None:
        self._late.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("a late suggestion failed: %s", type(error).__name__)
        elif task.result().suggestion is not None:
            self._asking.refuse(uri, RejectReason.DEADLINE)


def _without(reason: RejectReason | None) -> types.CompletionList:
    return _NOTHING if reason in _LASTING else _NOTHING_YET
