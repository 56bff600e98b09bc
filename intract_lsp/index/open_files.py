"""The text of open documents as it is now, searched in place of what the index has of their files."""

from __future__ import annotations

from intract_lsp.index.corpus import Corpus, StoredFile
from intract_lsp.index.extraction import extract
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.rows import FileChunks, part_of_batches, record_batch

LONGEST_TEXT = 400_000
"""Characters of a document that is still cut into chunks while a completion waits for it."""


class OpenFiles:
    """The chunks of the open documents of one folder. For one thread."""

    def __init__(self) -> None:
        self.corpus = Corpus()
        """To lay over the folder's store."""
        self._grammars = Grammars()

    def put(self, path: str, text: str) -> None:
        """Take a document's text, by its path in the folder; one that is too long is left to the index."""
        if len(text) > LONGEST_TEXT:
            self.drop(path)
            return
        chunks = extract(path, text, self._grammars).chunks
        part, files = part_of_batches([record_batch({path: FileChunks("", chunks)})])
        # A file without chunks is held, too, so that what the index has of it is not found.
        self.corpus.replace({path}, part, files or {path: StoredFile("", 0)})

    def drop(self, path: str) -> None:
        """Forget a document that was closed."""
        self.corpus.replace({path}, None, {})
