"""FILE:LINE:COL on the command line, read into a completion request."""

from __future__ import annotations

import os
import re
from pathlib import Path

from intract_lsp.completion.request import CompletionRequest, TriggerKind
from intract_lsp.errors import LocationError
from intract_lsp.languages import language_id
from intract_lsp.text import WINDOW, Place, PositionEncoding, TextBuffer

_LOCATION = re.compile(r"(?P<file>.+):(?P<line>\d+):(?P<column>\d+)")


def read_request(location: str, workspace: Path | None = None) -> tuple[CompletionRequest, Path | None]:
    """Read the file and return the request at its place, lines and columns counted from 1, with its workspace folder.

    Without ``workspace`` that is the nearest folder above the file that git keeps, if there is one. Raises
    ``LocationError`` with a sentence that names what is wrong with the location.
    """
    match = _LOCATION.fullmatch(location)
    if match is None:
        raise LocationError(f"{location!r} is no FILE:LINE:COL, such as src/app.py:12:9.")
    path, line, column = Path(match["file"]), int(match["line"]), int(match["column"])
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise LocationError(f"{path} is not UTF-8 text; completions need text.") from error
    except OSError as error:
        raise LocationError(f"{path} cannot be read: {error.strerror}.") from error
    buffer = TextBuffer(text, PositionEncoding.UTF32)
    if not 1 <= line <= buffer.line_count:
        raise LocationError(f"{path} has {buffer.line_count} lines; there is no line {line}.")
    length = len(buffer.line(line - 1))
    if not 1 <= column <= length + 1:
        raise LocationError(f"Line {line} of {path} has {length} characters: COL is 1 to {length + 1}, not {column}.")
    place = Place(line - 1, column - 1)
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a link to the file is not to be followed
    if workspace is None:
        workspace = next((folder for folder in absolute.parents if (folder / ".git").exists()), None)
    inside = workspace is not None and absolute.is_relative_to(workspace)
    request = CompletionRequest(
        uri=absolute.as_uri(),
        version=0,
        language_id=language_id(path.name),
        prefix=buffer.before(place, WINDOW),
        suffix=buffer.behind(place, WINDOW),
        trigger=TriggerKind.INVOKED,
        path=absolute.relative_to(workspace).as_posix() if workspace is not None and inside else path.name,
    )
    return request, workspace if inside else None
