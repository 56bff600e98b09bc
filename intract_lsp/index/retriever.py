"""Answers the pipeline's questions from the index, open documents and the document itself: the pieces to show.

One thread looks; the event loop only hands it the question and what is in memory.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from intract_lsp.completion.generation import Chunk
from intract_lsp.completion.request import Retrieved
from intract_lsp.completion.retrieval import Question
from intract_lsp.index.open_documents import Changes, OpenDocument, OpenDocuments
from intract_lsp.index.own_document import LEAST_LIKENESS, SHOWN_ABOVE, SHOWN_BELOW, elsewhere
from intract_lsp.index.query import CursorLines, query_weights
from intract_lsp.index.ranking import Candidate, Ranked, Selection, Source, select
from intract_lsp.index.recent import LiveSnippet
from intract_lsp.index.status import IndexedFolder

if TYPE_CHECKING:
    from intract_lsp.index.corpus import Corpus
    from intract_lsp.index.open_files import OpenFiles
    from intract_lsp.index.store import ChunkStore

FOUND = 60
"""Chunks that the search returns."""

LEAST_SCORE = 4.0
"""Of the best one, by BM25, for each power of e in the number of chunks: a rare word scores more among many. Below it
nothing of the workspace resembles the place, and pieces only distract. On commit replay lines that need nothing from
elsewhere lose less with it, and those that do gain as much."""

CERTAIN_SHARE = 0.8
"""Of the likeness of equal lines: surroundings this much alike count whatever their words, which in a small project
are too common to score."""

COMPARED = 16
"""The best of them in the document's language, of which excerpts are taken."""

LIKENESS_WEIGHT = 3.0
"""What a likeness of the surroundings counts beside a BM25 score."""

FAMILIES = MappingProxyType(
    {
        **dict.fromkeys(("typescript", "typescriptreact", "javascript", "javascriptreact"), "typescript"),
        **dict.fromkeys(("c", "cpp"), "cpp"),
    }
)

CHARACTERS_PER_TOKEN = 3.0
"""Fewer than code has on average, so that the pieces fit; the prompt counts exactly."""


class WorkspaceRetriever:
    """Finds pieces of other files of the workspace; see ``completion.retrieval.Retriever``."""

    def __init__(self, folder_of: Callable[[str], IndexedFolder | None]) -> None:
        """``folder_of`` returns the indexed folder that a document's address lies in, at once and from any thread."""
        self._folder_of = folder_of
        self._thread = ThreadPoolExecutor(1, "intract-retrieval")
        self._passed_on = OpenDocuments()
        self._changes: deque[Changes] = deque()
        """Not taken over yet: a question may be dropped before it is looked at, what it came with must not be."""
        self._open: dict[Path, OpenFiles] = {}
        """By folder; of the thread alone, as is the next one."""
        self._places: dict[str, tuple[Path, str]] = {}
        """Folder and path of the open documents, by address."""
        self._unplaced: dict[str, str] = {}
        """Texts of open documents that are in no index, or not searchable yet."""
        self.documents: Callable[[], Iterable[OpenDocument]] = lambda: ()
        """What the editor has open; asked on the thread that asks the questions."""
        self.recent: Callable[[str], Sequence[LiveSnippet]] = lambda uri: ()
        """Where the user was lately outside of a document; asked on the same thread."""

    def ask(self, question: Question) -> Future[tuple[Retrieved, ...]]:
        """Begin to look for pieces."""
        self._changes.append(self._passed_on.changes(self.documents()))
        return self._thread.submit(self._look, question, self.recent(question.uri))

    def close(self) -> None:
        """Let the thread go; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self, question: Question, recent: Sequence[LiveSnippet]) -> tuple[Retrieved, ...]:
        while self._changes:
            self._follow(self._changes.popleft())
        self._place_others(question.uri)
        if question.need.tokens <= 0:
            return ()
        above, below = question.above.splitlines(), question.below.splitlines()
        place = CursorLines(above)
        folder = self._folder_of(question.uri)
        own = question.path
        found: Iterator[Candidate] = iter(())
        if folder is not None:
            # By the index's own root: the editor's folders may be others, and the document must not find itself.
            own = _path_in(folder.root, question.uri) or own
            open_files = self._open.get(folder.root)
            overlay = None if open_files is None else open_files.corpus
            found = _searched(folder.store, overlay, own, question.language_id, above, below, place)
            # What the editor holds is told as it is now, and the document itself not at all.
            open_now = {own} if overlay is None else {own, *overlay.files}
            before = [one for one in folder.unfinished if _path_in(folder.root, one.path) not in open_now]
            found = chain(found, _lately(folder, [*recent, *before], place))
            if question.need.definitions:
                # Imported on this thread, as are parsers and tables.
                from intract_lsp.index.definitions import definitions_in_use

                used = definitions_in_use(folder.symbols, own, question.language_id, above, below)
                found = chain(found, used)
        candidates = [*found, *elsewhere(own or _name(question.uri), above, below, place)]
        shown = (*above[-SHOWN_ABOVE:], *below[:SHOWN_BELOW])
        present = [_candidate(piece) for piece in question.present]
        chosen = select(candidates, shown, _tokens, Selection(question.need.tokens), present)
        return tuple(_retrieved(ranked) for ranked in chosen)

    def _follow(self, changes: Changes) -> None:
        """Take over what was edited, opened or closed."""
        for uri in changes.closed:
            self._unplaced.pop(uri, None)
            if uri in self._places:
                root, path = self._places.pop(uri)
                self._open[root].drop(path)
        self._unplaced.update(changes.texts)

    def _place_others(self, asking: str) -> None:
        """Make open documents searchable; files that the index refuses stay out here, too.

        All but the one that asks: it is not searched for its own sake, and changes with every line that is typed.
        """
        for uri, text in list(self._unplaced.items()):
            if uri == asking:
                continue
            folder = self._folder_of(uri)
            found = None if folder is None else _path_in(folder.root, uri)
            if folder is not None and found is not None and found in folder.symbols.files:
                del self._unplaced[uri]
                self._places[uri] = folder.root, found
                self._open_files(folder.root).put(found, text)

    def _open_files(self, root: Path) -> OpenFiles:
        # Imported on this thread: parsers and tables take a while.
        from intract_lsp.index.open_files import OpenFiles

        return self._open.setdefault(root, OpenFiles())


def _path_in(root: Path, uri: str) -> str | None:
    """Return the path of a document inside a folder, with ``/``; ``None`` where it is no file in it."""
    address = urlsplit(uri)
    path = Path(url2pathname(address.path))
    return path.relative_to(root).as_posix() if address.scheme == "file" and path.is_relative_to(root) else None


def _searched(
    store: ChunkStore,
    overlay: Corpus | None,
    path: str,
    language_id: str,
    above: Sequence[str],
    below: Sequence[str],
    place: CursorLines,
) -> Iterator[Candidate]:
    """Yield excerpts of the chunks that full-text search finds, scored by how much they resemble the cursor's place."""
    found = store.search(query_weights(above, below), FOUND, (path,), overlay)
    hits = [hit for hit in found if _family(hit.chunk.language) == _family(language_id)][:COMPARED]
    excerpts = [place.excerpt(hit.chunk.text.splitlines()) for hit in hits]
    likest, most = max((excerpt.likeness for excerpt in excerpts), default=0.0), place.most
    certain = most > 0 and likest >= CERTAIN_SHARE * most
    if not certain and (not hits or hits[0].score < LEAST_SCORE * math.log1p(store.chunk_count)):
        return
    for hit, excerpt in zip(hits, excerpts, strict=True):
        text = "\n".join(hit.chunk.text.splitlines()[excerpt.start : excerpt.end]).strip("\n")
        score = hit.score + LIKENESS_WEIGHT * excerpt.likeness
        yield Candidate(hit.chunk.path, text, hit.chunk.start_line + excerpt.start, Source.SEARCH, score)


def _lately(folder: IndexedFolder, recent: Sequence[LiveSnippet], place: CursorLines) -> Iterator[Candidate]:
    """Yield excerpts of where the user was, in files of which the index makes use, without what may hold a secret."""
    from intract_lsp.index.secrets import has_secret

    for snippet in recent:
        path = _path_in(folder.root, snippet.path)
        if path is None or path not in folder.symbols.files:
            continue
        lines = snippet.text.split("\n")
        excerpt = place.excerpt(lines)
        if excerpt.likeness >= LEAST_LIKENESS and not has_secret(snippet.text):
            text = "\n".join(lines[excerpt.start : excerpt.end]).strip("\n")
            yield Candidate(path, text, snippet.start_line + excerpt.start, Source.LIVE, excerpt.likeness)


def _name(uri: str) -> str:
    """Return a document's own name, for one that is in no folder."""
    return Path(url2pathname(urlsplit(uri).path)).name


def _family(language_id: str) -> str:
    """Return one name for languages whose code helps in each other's."""
    return FAMILIES.get(language_id, language_id)


def _tokens(text: str) -> int:
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def _candidate(piece: Retrieved) -> Candidate:
    source = Source(piece.sources[0])
    return Candidate(piece.chunk.path, piece.chunk.text, piece.start_line, source, piece.score)


def _retrieved(ranked: Ranked) -> Retrieved:
    candidate = ranked.candidate
    sources = tuple(source.value for source in ranked.sources)
    return Retrieved(Chunk(candidate.path, candidate.text), candidate.start_line, sources, ranked.score, ranked.tokens)
