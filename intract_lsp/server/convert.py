"""Between lsprotocol's types and ours; the one place where positions change their units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from intract_lsp.completion.request import Suggestion, TriggerKind
from intract_lsp.text import Place, PositionEncoding, TextBuffer

ACCEPTED_COMMAND = "intract.accepted"
"""Runs in the server when the editor has inserted a suggestion; arguments: ``{"id": ..., "uri": ...}``."""


def position_encoding(negotiated: object) -> PositionEncoding:
    """Return our name of the encoding that ``initialize`` settled on."""
    value = negotiated.value if isinstance(negotiated, types.PositionEncodingKind) else str(negotiated)
    return PositionEncoding(value)


def trigger_kind(context: types.InlineCompletionContext) -> TriggerKind:
    """Return how the request came about."""
    if context.trigger_kind is types.InlineCompletionTriggerKind.Invoked:
        return TriggerKind.INVOKED
    return TriggerKind.AUTOMATIC


def inline_completion_item(
    suggestion: Suggestion, uri: str, buffer: TextBuffer, place: Place, popup: types.SelectedCompletionInfo | None
) -> types.InlineCompletionItem:
    """Return an item with an explicit range and a command that reports acceptance.

    With an item selected in the popup the text starts with that item and takes the place of its range, as VS Code asks.
    """
    end = types.Position(place.line, buffer.units(Place(place.line, place.column + suggestion.replace)))
    start = types.Position(place.line, buffer.units(place))
    text = suggestion.text
    if popup is not None:
        start, text = popup.range.start, popup.text + text
    return types.InlineCompletionItem(
        insert_text=text, range=types.Range(start, end), command=accepted_command(suggestion, uri)
    )


def accepted_command(suggestion: Suggestion, uri: str) -> types.Command:
    """Return what an editor is to run when it has inserted a suggestion."""
    arguments = [{"id": suggestion.id, "uri": uri}]
    return types.Command(title="Suggestion accepted", command=ACCEPTED_COMMAND, arguments=arguments)


def open_folders(server: LanguageServer) -> list[str]:
    """Return the addresses of the workspace's folders; the older ``rootUri`` counts where there are no others."""
    workspace = server.workspace
    addresses = [folder.uri for folder in workspace.folders.values()]
    return addresses or ([workspace.root_uri] if workspace.root_uri else [])


def path_in_workspace(uri: str, folders: Sequence[str]) -> str:
    """Return a document's path inside the innermost folder that holds it.

    Outside all folders the path is the file's name alone; that of a document that is no file is empty.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("file", "vscode-notebook-cell", "vscode-remote"):
        return ""
    path = PurePosixPath(unquote(parts.path))
    roots = [PurePosixPath(unquote(urlsplit(folder).path)) for folder in folders]
    holding = [root for root in roots if path.is_relative_to(root)]
    if not holding:
        return path.name
    root = max(holding, key=lambda folder: len(folder.parts))
    return str(path.relative_to(root))
