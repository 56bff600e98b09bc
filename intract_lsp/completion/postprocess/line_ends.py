"""Line ends and the white space before them."""

from __future__ import annotations

import re

from intract_lsp.completion.context import CompletionContext

_OTHER_ENDS = re.compile(r"\r\n?")


def use_newlines(text: str, context: CompletionContext) -> str:
    """Inside the pipeline every line ends with a newline alone."""
    return _OTHER_ENDS.sub("\n", text)


def trim_end(text: str, context: CompletionContext) -> str:
    """Drop white space at the end: the cursor should land behind the last visible character."""
    trimmed = text.rstrip()
    # A text of white space alone is left for the filter that says so.
    return trimmed or text


def use_document_ends(text: str, context: CompletionContext) -> str:
    """Give the text the document's line ends; the last thing done to it."""
    return text if context.end_of_line == "\n" else text.replace("\n", context.end_of_line)
