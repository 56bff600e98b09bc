"""The language server as a child of scripts/try, spoken to as an editor does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient
from rich.progress import Progress
from try_places import ROOT, Place, TryError

LOAD_SECONDS = 600
ANSWER_SECONDS = 120
LANGUAGES = {"py": "python", "js": "javascript", "ts": "typescript", "rs": "rust", "rb": "ruby", "sh": "shellscript"}
"""Language identifiers that are not the file's suffix itself."""


@dataclass(frozen=True)
class Answer:
    """What the server said about one place."""

    text: str
    replaced: int
    """Characters behind the cursor that the text takes the place of."""
    seconds: float
    why: dict[str, Any]
    """The server's account of the request, as the command intract.why gives it."""


class Server:
    """The language server as a child, spoken to over its standard streams."""

    def __init__(self, command: Path) -> None:
        self._command = command
        self._client = LanguageClient("intract-try", "1")
        self._errors: deque[str] = deque(maxlen=5)
        self._status: asyncio.Queue[Any] = asyncio.Queue()
        self._drain: asyncio.Task[None] | None = None
        self._encoding: str = lsp.PositionEncodingKind.Utf16.value
        self._client.feature("intract/status")(lambda params: self._status.put_nowait(params))
        self._client.feature(lsp.WINDOW_SHOW_MESSAGE)(lambda params: self._errors.append(params.message))
        # What the status says already; without a handler pygls would complain of each.
        for method in (lsp.WINDOW_WORK_DONE_PROGRESS_CREATE, lsp.PROGRESS, lsp.WINDOW_LOG_MESSAGE):
            self._client.feature(method)(lambda params: None)

    async def start(self) -> None:
        """Start the process and open the session on this repository."""
        # An editor's user would rather see nothing than wait that long; here the wait is what is to be seen.
        patience = f"completion.deadline_ms={ANSWER_SECONDS * 1000 // 2}"
        await self._client.start_io(str(self._command), "serve", "--set", patience, cwd=ROOT)
        self._drain = asyncio.create_task(self._read_errors())
        capabilities = lsp.ClientCapabilities(
            general=lsp.GeneralClientCapabilities(
                position_encodings=[lsp.PositionEncodingKind.Utf32, lsp.PositionEncodingKind.Utf16]
            ),
            text_document=lsp.TextDocumentClientCapabilities(
                inline_completion=lsp.InlineCompletionClientCapabilities()
            ),
            window=lsp.WindowClientCapabilities(work_done_progress=True),
        )
        folder = lsp.WorkspaceFolder(uri=ROOT.as_uri(), name=ROOT.name)
        reply = await self._answer(
            self._client.initialize_async(
                lsp.InitializeParams(capabilities=capabilities, root_uri=folder.uri, workspace_folders=[folder])
            )
        )
        self._encoding = str(getattr(reply.capabilities.position_encoding, "value", self._encoding))
        self._client.initialized(lsp.InitializedParams())

    async def wait_ready(self, progress: Progress) -> str:
        """Wait until the model is loaded, drawing how far it is, and return the model's name."""
        task = progress.add_task("Starting the server", total=None)
        while True:
            status = await self._answer(self._status.get(), LOAD_SECONDS)
            engine = status.engine
            if engine.state == "failed":
                raise TryError(f"The model could not be loaded: {engine.message}")
            if engine.state in ("ready", "busy"):
                progress.update(task, description=f"{engine.model} is loaded", total=1, completed=1)
                return str(engine.model)
            fraction = getattr(engine, "fraction", None)
            text = engine.message or f"Loading {engine.model}"
            progress.update(task, description=text, total=None if fraction is None else 1, completed=fraction or 0)

    async def complete(self, place: Place) -> Answer:
        """Open the place's document, ask for a completion at its cursor as if invoked by a key, and close it."""
        uri = place.path.as_uri()
        suffix = place.path.suffix.lstrip(".")
        language = LANGUAGES.get(suffix, suffix or "plaintext")
        self._client.text_document_did_open(
            lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri, language, 1, place.before + place.behind))
        )
        position = lsp.Position(place.line, self._units(place.line_prefix))
        began = time.monotonic()
        reply = await self._answer(
            self._client.text_document_inline_completion_async(
                lsp.InlineCompletionParams(
                    context=lsp.InlineCompletionContext(lsp.InlineCompletionTriggerKind.Invoked),
                    text_document=lsp.TextDocumentIdentifier(uri),
                    position=position,
                )
            )
        )
        seconds = time.monotonic() - began
        why = await self._answer(
            self._client.workspace_execute_command_async(lsp.ExecuteCommandParams("intract.why", arguments=[]))
        )
        self._client.text_document_did_close(lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(uri)))
        items = getattr(reply, "items", reply) or []
        if not items:
            return Answer("", 0, seconds, as_mapping(why))
        text = items[0].insert_text
        shown = text if isinstance(text, str) else text.value
        behind = items[0].range.end.character - position.character if items[0].range else 0
        return Answer(shown, behind, seconds, as_mapping(why))

    async def stop(self) -> None:
        """End the session and the process; a server that already died is no error."""
        process = self._client._server  # pygls keeps the child to itself
        if process is None:
            return
        if process.returncode is None:
            try:
                await asyncio.wait_for(self._client.shutdown_async(None), 10)
                self._client.exit(None)
                await asyncio.wait_for(process.wait(), 10)
            except (RuntimeError, asyncio.TimeoutError):
                process.kill()
        await self._client.stop()  # type: ignore[no-untyped-call]

    async def _answer(self, waiting: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """Wait for one thing from the server; its death or silence ends the run with a sentence."""
        process = self._client._server
        assert process is not None
        answer = asyncio.ensure_future(waiting)
        death = asyncio.ensure_future(process.wait())
        await asyncio.wait({answer, death}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done() and answer.exception() is None:
            death.cancel()
            return answer.result()
        if process.returncode is not None:
            last = "\n".join(self._errors)
            raise TryError(f"The server ended by itself (exit status {process.returncode}). It said last:\n{last}")
        if answer.done():
            raise TryError(f"The server answered with an error: {answer.exception()}")
        raise TryError(f"The server did not answer within {seconds:.0f} s.")

    async def _read_errors(self) -> None:
        process = self._client._server
        assert process is not None and process.stderr is not None
        async for line in process.stderr:
            self._errors.append(line.decode("utf-8", "replace").rstrip())

    def _units(self, text: str) -> int:
        if self._encoding == "utf-16":
            return len(text.encode("utf-16-le", "surrogatepass")) // 2
        return len(text)


def as_mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object as a dictionary, whichever form pygls gave it."""
    if value is None:
        return {}
    return dict(value) if isinstance(value, dict) else dict(value._asdict())
