"""The message layer: every request gets exactly one response, also the ones that pygls would let fall.

pygls raises while it reads a malformed message, before anything knows the request's id; it answers nothing after
``shutdown``, and takes a second ``initialize``. Here each of these gets the protocol's error.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol, lsp_method

log = logging.getLogger(__name__)


class _MalformedError(Exception):
    """A message that is JSON but not one of the protocol's."""

    def __init__(self, code: types.ErrorCodes, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class IntractProtocol(LanguageServerProtocol):
    """pygls' protocol with an answer for every message that asks for one."""

    _initialized = False

    @property
    def shut_down(self) -> bool:
        """Whether the client has sent ``shutdown``."""
        return self._shutdown

    @lsp_method(types.SHUTDOWN)
    def lsp_shutdown(self, *args: Any) -> Generator[Any, Any, None]:
        """Answer what is at work as cancelled, then shut down.

        pygls does so itself, but stumbles over requests that are answered as they are cancelled (its issue 606).
        """
        for id_, future in list(self._request_futures.items()):
            if id_ != self.msg_id:
                future.cancel()
        yield from super().lsp_shutdown(*args)

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Leave an object as it is: the JSON reader calls this for each object within a message too."""
        return data

    def handle_message(self, message: Any) -> None:
        """Give a message its type and dispatch it, unless its time has not come or is over."""
        if not isinstance(message, dict) or not message.keys() & {"method", "result", "error"}:
            id_ = message.get("id") if isinstance(message, dict) else None
            self.answer_with_error(id_, types.ErrorCodes.InvalidRequest, "A message must be one JSON-RPC 2.0 object.")
            return
        is_request = "method" in message and "id" in message
        try:
            typed = self._typed(message)
        except _MalformedError as error:
            log.warning("%s", error)
            if is_request:
                self.answer_with_error(message["id"], error.code, str(error))
            return
        if is_request:
            refusal = self._refusal(message["method"])
            if refusal is not None:
                self.answer_with_error(message["id"], *refusal)
                return
        elif "method" in message and not self._initialized and message["method"] != types.EXIT:
            return
        if message.get("method") == types.INITIALIZE:
            self._initialized = True
        super().handle_message(typed)

    def _typed(self, message: dict[str, Any]) -> Any:
        """Return lsprotocol's object for a message; raises ``_MalformedError`` where it has none of the right form."""
        method = message.get("method", "")
        id_ = message.get("id", "")
        has_usable_id = isinstance(id_, (int, str)) and not isinstance(id_, bool)
        if message.get("jsonrpc") != self.VERSION or not isinstance(method, str) or not has_usable_id:
            raise _MalformedError(types.ErrorCodes.InvalidRequest, "A message must be one JSON-RPC 2.0 object.")
        if self.get_message_type(method) is None:
            message = {"params": None, **message}
        try:
            return super().structure_message(message)
        except JsonRpcException as error:
            sentence = f"The parameters of {method or 'a response'} are not of the protocol's form."
            raise _MalformedError(types.ErrorCodes.InvalidParams, sentence) from error

    def answer_with_error(self, id_: Any, code: types.ErrorCodes, sentence: str) -> None:
        """Send an error response; ``id_`` is ``None`` where the request's could not be read."""
        # Not by `_send_response`: it leaves out an id of `None`, which JSON-RPC wants as `null`.
        self._send_data({"jsonrpc": self.VERSION, "id": id_, "error": {"code": code.value, "message": sentence}})

    def answer_unreadable(self, error: Exception) -> None:
        """Answer a body that is no JSON."""
        # A number of thousands of digits is a `ValueError`, as the two other decoding errors are.
        if isinstance(error, (ValueError, RecursionError)):
            self.answer_with_error(None, types.ErrorCodes.ParseError, "The message's body is not valid JSON.")

    def _send_data(self, data: Any) -> None:
        """Send a message. To a client that is gone there is nothing to send; its end of stdin ends the session."""
        try:
            super()._send_data(data)
        except BrokenPipeError:
            log.warning("the client is gone; a message to it was dropped")

    def _refusal(self, method: str) -> tuple[types.ErrorCodes, str] | None:
        if self._shutdown:
            return types.ErrorCodes.InvalidRequest, "The server has been shut down; only `exit` may follow."
        if method == types.INITIALIZE:
            if self._initialized:
                return types.ErrorCodes.InvalidRequest, "The server is initialized already; `initialize` comes once."
        elif not self._initialized:
            return types.ErrorCodes.ServerNotInitialized, "Send `initialize` first."
        return None
