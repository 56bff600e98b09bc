"""An index of the project as it was at the cut: what a run is shown of it holds nothing that it is measured at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from pathlib import Path

from intract_lsp.completion.generation import CancelToken, Chunk
from intract_lsp.completion.retrieval import Need, Question
from intract_lsp.errors import TrainingError
from intract_lsp.index.git_files import track
from intract_lsp.index.retriever import WorkspaceRetriever
from intract_lsp.index.search import folder_of
from intract_lsp.index.status import IndexState
from intract_lsp.index.worker import IndexWorker
from intract_lsp.training.project import MOST_FILES, CutTree
from intract_lsp.training.samples import Retrieve
from intract_lsp.training.step import Stopped

LOOK_SECONDS = 0.2
"""Between two looks at the cancel token while the tree is indexed."""


@contextmanager
def indexed(tree: CutTree, folder: Path, token: CancelToken) -> Iterator[Retrieve]:
    """Write the tree below ``folder``, index it, and give what finds pieces in it as serving does.

    It is removed at the end. Raises ``TrainingError`` where that fails, and ``Stopped`` where the token is cancelled.
    """
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / "tree"
    try:
        root.mkdir(parents=True)
        tree.write(root)
        # Which files are used has been decided. Else a repository around the folder would be obeyed, as one in the
        # user's home, and tracked folders left out that are called like a build's output.
        track(root, tree.contents)
    except OSError as error:
        raise TrainingError(
            f"The project cannot be copied to {folder} ({error.strerror or error}): free some disk space."
        ) from error
    index = IndexWorker(folder / "index", folder / "state.db", MOST_FILES, busy=lambda: False, watch=False)
    retriever = WorkspaceRetriever(lambda uri: folder_of(uri, index.folders()))
    try:
        index.set_folders((root,))
        index.start()
        settled = index.settled()
        while not settled.done():
            if token.cancelled:
                raise Stopped
            try:
                settled.result(LOOK_SECONDS)
            except NotYet:
                continue
        failed = [status.message for status in index.statuses() if status.state is IndexState.FAILED]
        if failed:
            raise TrainingError(f"The project cannot be indexed for training: {failed[0]}")

        def retrieve(path: str, language: str, above: str, below: str, tokens: int) -> tuple[Chunk, ...]:
            if token.cancelled:
                raise Stopped
            question = Question((root / path).as_uri(), path, language, above, below, Need(tokens))
            return tuple(found.chunk for found in retriever.ask(question).result())

        yield retrieve
    finally:
        retriever.close()
        index.stop()
        shutil.rmtree(folder, ignore_errors=True)
