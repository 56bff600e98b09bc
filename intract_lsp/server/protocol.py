"""The message layer: every request gets exactly one response, also the ones that pygls would let fall.

pygls raises while it reads a malformed message, before anything knows the request's id; it answers nothing after
``shutdown``, and takes a second ``initialize``. Here each of these gets the protocol's error.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol

log = logging.getLogger(__name__)


class IntractProtocol(LanguageServerProtocol):
    """pygls' protocol with an answer for every message that asks for one."""

    _initialized = False

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Turn a JSON object into a message; one that is none is answered here and handled no further."""
        try:
            return super().structure_message(data)
        except JsonRpcException:
            method = data.get("method")
            log.warning("malformed message %s", method if isinstance(method, str) else "without a method")
            if "id" in data and "method" in data:
                code = types.ErrorCodes.InvalidParams if isinstance(method, str) else types.ErrorCodes.InvalidRequest
                self.answer_with_error(data["id"], code, f"The parameters of {method} are not of the protocol's form.")
            return None

    def handle_message(self, message: Any) -> None:
        """Dispatch a message, unless its time has not come or is over."""
        if message is None:
            return
        if isinstance(message, (dict, list, str, int, float)):
            id_ = message.get("id") if isinstance(message, dict) else None
            self.answer_with_error(id_, types.ErrorCodes.InvalidRequest, "A message must be one JSON-RPC 2.0 object.")
            return
        method = getattr(message, "method", None)
        id_ = getattr(message, "id", None)
        if method is not None and id_ is not None:
            refusal = self._refusal(method)
            if refusal is not None:
                self.answer_with_error(id_, *refusal)
                return
        elif method is not None and not self._initialized and method != types.EXIT:
            return
        if method == types.INITIALIZE:
            self._initialized = True
        super().handle_message(message)

    def answer_with_error(self, id_: Any, code: types.ErrorCodes, sentence: str) -> None:
        """Send an error response; ``id_`` is ``None`` where the request's could not be read."""
        self._send_response(id_, error=types.ResponseError(code=code.value, message=sentence))

    def answer_unreadable(self, error: Exception) -> None:
        """Answer a body that is no JSON."""
        if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, RecursionError)):
            self.answer_with_error(None, types.ErrorCodes.ParseError, "The message's body is not valid JSON.")

    def _refusal(self, method: str) -> tuple[types.ErrorCodes, str] | None:
        if self._shutdown:
            return types.ErrorCodes.InvalidRequest, "The server has been shut down; only `exit` may follow."
        if method == types.INITIALIZE:
            if self._initialized:
                return types.ErrorCodes.InvalidRequest, "The server is initialized already; `initialize` comes once."
        elif not self._initialized:
            return types.ErrorCodes.ServerNotInitialized, "Send `initialize` first."
        return None
