"""Types items' lines key by key: through the real server, and the same keystrokes through llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from keystrokes import Answered, Keystroke, RivalTime, TypedLine, how_answered, used_tokens
from server_session import FOLDER, ServerSession

from intract_lsp.completion.context import CompletionContext, Extent, build_context
from intract_lsp.completion.generation import CancelToken, Limits
from intract_lsp.completion.request import CompletionRequest
from intract_lsp.completion.service import Policy
from intract_lsp.completion.stop import stop_rule
from intract_lsp.errors import IntractError

if TYPE_CHECKING:
    from llama_engine import LlamaEngine

PATIENCE = 120.0
"""Seconds that any generation may take: speed is measured, so nothing is cut short."""


def type_line(session: ServerSession, line: TypedLine, number: int, uri: str = "") -> Iterator[Keystroke]:
    """Type a line, each key after the answer to the one before it; without a ``uri`` into a document of its own."""
    uri = uri or f"{FOLDER}/{number}/{quote(line.item.path, errors='replace')}"
    session.open(uri, line.item.language_id, line.before + line.item.suffix)
    row, column, typed = line.line_number, 0, ""
    for index, key in enumerate(line.keys):
        began = time.perf_counter()
        session.insert(uri, row, column, key)
        ends_line = key[0] in "\r\n"
        row, column = (row + 1, len(key.lstrip("\r\n"))) if ends_line else (row, column + len(key))
        suggestion = session.complete(uri, row, column)
        latency = (time.perf_counter() - began) * 1000
        typed += key
        why = session.command("intract.why", uri=uri)
        try:
            answered = how_answered(why)
        except ValueError as error:
            raise IntractError(str(error)) from error
        decoded = why["generatedTokens"] if answered is Answered.MODEL else 0
        yield Keystroke(
            line=number,
            key=index,
            typed=typed,
            answered=answered,
            shown=bool(suggestion),
            latency_ms=latency,
            decode_ms=why["timings"]["decode"],
            retrieve_ms=why["timings"]["retrieve"] if answered is Answered.MODEL else 0.0,
            decoded=decoded,
            used=used_tokens(decoded, suggestion, line.truth[len(typed) :]),
        )
    session.close(uri)


def with_rival(
    llama: LlamaEngine, line: TypedLine, strokes: Sequence[Keystroke], policy: Policy
) -> Iterator[Keystroke]:
    """Ask llama.cpp at exactly the keystrokes that reached our model, in order, its KV cache kept between them."""
    for stroke in strokes:
        if stroke.answered is not Answered.MODEL:
            yield stroke
            continue
        context = _context(line, stroke, policy)
        began = time.perf_counter()
        generation = llama.generate(context, policy.shape, limits(context, policy), CancelToken(), lambda text: None)
        total = (time.perf_counter() - began) * 1000
        rival = RivalTime(total, total - generation.decode_ms, bool(generation.text.strip()))
        yield replace(stroke, rival=rival)


def limits(context: CompletionContext, policy: Policy) -> Limits:
    """Return the limits that the service sets for a context, with more time."""
    most = policy.max_block_tokens if context.extent is Extent.BLOCK else policy.max_line_tokens
    return Limits(most, time.monotonic() + PATIENCE, stop_rule(context))


def _context(line: TypedLine, stroke: Keystroke, policy: Policy) -> CompletionContext:
    """Return the context that the server had at a keystroke."""
    request = CompletionRequest(
        uri="",
        version=1,
        language_id=line.item.language_id,
        prefix=line.before + stroke.typed,
        suffix=line.item.suffix,
        path=f"{stroke.line}/{line.item.path}",
    )
    context = build_context(request, policy.multi_line)
    if not isinstance(context, CompletionContext):
        raise IntractError(f"The server asked its model where the gates refuse with {context.value}.")
    return context
