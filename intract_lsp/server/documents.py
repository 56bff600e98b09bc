"""The open documents and notebooks, kept in our own buffers in place of pygls' workspace.

pygls splits lines where the protocol does not (see ``text``) and copies the document at each edit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from urllib.parse import unquote

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from intract_lsp.index.recent import RecentContext
from intract_lsp.server.convert import position_encoding
from intract_lsp.text import WINDOW, Place, PositionEncoding, TextBuffer, split_lines

log = logging.getLogger(__name__)


@dataclass
class Document:
    """An open text document, or a notebook's cell."""

    uri: str
    language_id: str
    version: int
    buffer: TextBuffer

    @property
    def text(self) -> str:
        """All of it, as it is now."""
        return self.buffer.text


@dataclass
class _Notebook:
    cells: list[types.NotebookCell] = field(default_factory=list)


class Documents:
    """What the editor has open. Used on the event loop only.

    ``closed`` is called with the address of each document that the editor closes; ``recent`` is told of every edit.
    """

    def __init__(self, closed: Callable[[str], None], recent: RecentContext) -> None:
        self._closed = closed
        self._recent = recent
        self.encoding = PositionEncoding.UTF16
        self._documents: dict[str, Document] = {}
        self._notebooks: dict[str, _Notebook] = {}

    def __len__(self) -> int:
        return len(self._documents)

    def all(self) -> Collection[Document]:
        """Return the open documents, cells of notebooks among them."""
        return self._documents.values()

    def get(self, uri: str) -> Document | None:
        """Return an open document; editors may escape the same address differently."""
        return self._documents.get(unquote(uri))

    def open(self, item: types.TextDocumentItem) -> None:
        """Take a document over from the editor, also where it was open already."""
        buffer = TextBuffer(item.text, self.encoding)
        document = Document(item.uri, item.language_id, item.version, buffer)
        self._documents[unquote(item.uri)] = document
        self._recent.opened(item.uri, lambda: document.buffer)

    def close(self, uri: str) -> None:
        """Forget a document; one that is not open needs no forgetting."""
        document = self._documents.pop(unquote(uri), None)
        if document is not None:
            self._recent.closed(document.uri)
            self._closed(document.uri)

    def change(self, uri: str, version: int, changes: list[types.TextDocumentContentChangeEvent]) -> None:
        """Apply edits in their order. Edits of a document that is not open are dropped with a log line."""
        document = self.get(uri)
        if document is None:
            log.warning("an edit came for a document that is not open; ignored")
            return
        for change in changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                buffer = document.buffer
                start = buffer.place(change.range.start.line, change.range.start.character)
                end = buffer.place(change.range.end.line, change.range.end.character)
                buffer.replace(start, end, change.text)
                last = start.line + len(split_lines(change.text)) - 1
                self._recent.edited(document.uri, start.line, end.line, last, time.monotonic())
            else:
                document.buffer = TextBuffer(change.text, self.encoding)
        document.version = version

    def around(self, document: Document, place: Place) -> tuple[str, str]:
        """Return the text before and behind a place, with a notebook's other code cells on their sides."""
        before = document.buffer.before(place, WINDOW)
        behind = document.buffer.behind(place, WINDOW)
        earlier, later = self._other_cells(document)
        if earlier:
            before = earlier[-WINDOW:] + "\n" + before
        if later:
            behind = behind + "\n" + later[:WINDOW]
        return before, behind

    def open_notebook(self, params: types.DidOpenNotebookDocumentParams) -> None:
        """Take over a notebook and its cells' texts."""
        notebook = params.notebook_document
        self._notebooks[unquote(notebook.uri)] = _Notebook(list(notebook.cells))
        for item in params.cell_text_documents:
            self.open(item)

    def change_notebook(self, params: types.DidChangeNotebookDocumentParams) -> None:
        """Apply changes of a notebook's structure and of its cells' texts."""
        notebook = self._notebooks.get(unquote(params.notebook_document.uri))
        cells = params.change.cells
        if notebook is None or cells is None:
            return
        if cells.structure is not None:
            array = cells.structure.array
            notebook.cells[array.start : array.start + array.delete_count] = array.cells or []
            for item in cells.structure.did_open or []:
                self.open(item)
            for closed in cells.structure.did_close or []:
                self.close(closed.uri)
        for data in cells.data or []:
            notebook.cells = [data if cell.document == data.document else cell for cell in notebook.cells]
        for text in cells.text_content or []:
            self.change(text.document.uri, text.document.version, list(text.changes))

    def close_notebook(self, params: types.DidCloseNotebookDocumentParams) -> None:
        """Forget a notebook and its cells."""
        self._notebooks.pop(unquote(params.notebook_document.uri), None)
        for cell in params.cell_text_documents:
            self.close(cell.uri)

    def _other_cells(self, document: Document) -> tuple[str, str]:
        """Return the notebook's code of the same language above and below a cell; both empty for other documents."""
        own = unquote(document.uri)
        for notebook in self._notebooks.values():
            addresses = [unquote(cell.document) for cell in notebook.cells]
            if own not in addresses:
                continue
            index = addresses.index(own)
            texts = [self._code(cell, document.language_id) for cell in notebook.cells]
            return (
                "\n".join(text for text in texts[:index] if text),
                "\n".join(text for text in texts[index + 1 :] if text),
            )
        return "", ""

    def _code(self, cell: types.NotebookCell, language_id: str) -> str:
        document = self.get(cell.document)
        if cell.kind is not types.NotebookCellKind.Code or document is None or document.language_id != language_id:
            return ""
        text = document.buffer.text
        return text if text.endswith("\n") or not text else text + "\n"


def register(server: LanguageServer, documents: Documents) -> None:
    """Put our documents in the place of pygls' built-in ones; they are announced and decoded as before."""
    builtin = server.protocol.fm.add_builtin_feature

    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        documents.encoding = position_encoding(server.workspace.position_encoding)
        documents.open(params.text_document)

    def did_change(params: types.DidChangeTextDocumentParams) -> None:
        document = params.text_document
        documents.change(document.uri, document.version, list(params.content_changes))

    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        documents.close(params.text_document.uri)

    def notebook_did_open(params: types.DidOpenNotebookDocumentParams) -> None:
        documents.encoding = position_encoding(server.workspace.position_encoding)
        documents.open_notebook(params)

    builtin(types.TEXT_DOCUMENT_DID_OPEN, did_open)
    builtin(types.TEXT_DOCUMENT_DID_CHANGE, did_change)
    builtin(types.TEXT_DOCUMENT_DID_CLOSE, did_close)
    builtin(types.NOTEBOOK_DOCUMENT_DID_OPEN, notebook_did_open)
    builtin(types.NOTEBOOK_DOCUMENT_DID_CHANGE, documents.change_notebook)
    builtin(types.NOTEBOOK_DOCUMENT_DID_CLOSE, documents.close_notebook)
