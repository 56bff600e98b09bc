"""The law of `recovery`: whenever the process is killed, the next start ends with the rows of a clean build.

INTRACT_KILLS sets how often (3 unless told otherwise; 50 takes about two minutes).
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from intract_lsp.index.chunk import ChunkKind, SourceChunk
from intract_lsp.index.manifest import FileRecord, IndexedFile, Manifest, SymbolRow
from intract_lsp.index.recovery import reconcile
from intract_lsp.index.rows import FileChunks
from intract_lsp.index.store import ChunkStore
from intract_lsp.state import open_state

KILLS = int(os.environ.get("INTRACT_KILLS", "3"))
FILES = 80
RECIPE = "r1"


def content(path: str, generation: int) -> str:
    """A file's text; each generation changes a third of the files and leaves some out."""
    last = generation - (generation + int(path[:3])) % 3
    return "" if (int(path[:3]) + last) % 11 == 0 else f"def f_{path[:3]}(): return {last}\n" * (1 + last % 4)


def tree(generation: int) -> dict[str, str]:
    texts = {path: content(path, generation) for path in (f"{number:03}.py" for number in range(FILES))}
    return {path: text for path, text in texts.items() if text}


def index(directory: Path, generation: int, kind: type[Manifest] = Manifest, batch_size: int = 20) -> ChunkStore:
    """Index a tree as the worker does: reconcile, then what differs from the manifest, rows before manifest."""
    state = open_state(directory / "state.db")
    manifest = kind(state, "/root", RECIPE)
    store = ChunkStore(directory, RECIPE, writable=True)
    reconcile(store, manifest)
    wanted = tree(generation)
    known = manifest.files()
    gone = known.keys() - wanted.keys()
    store.remove(gone)
    manifest.forget(gone)
    hashes = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in wanted.items()}
    waiting = [path for path in sorted(wanted) if path not in known or known[path].content_hash != hashes[path]]
    for start in range(0, len(waiting), batch_size):
        batch = waiting[start : start + batch_size]
        files = {}
        for path in batch:
            lines = wanted[path].splitlines()
            chunks = [
                SourceChunk(path, number, number + 1, ChunkKind.CODE, "python", "", line)
                for number, line in enumerate(lines)
            ]
            files[path] = FileChunks(hashes[path], chunks)
        store.replace_files(files)
        manifest.put(
            IndexedFile(
                FileRecord(path, hashes[path], len(wanted[path]), generation, len(files[path].chunks), 0.0),
                (SymbolRow(path, path, "function", 0, 1, ""),),
            )
            for path in batch
        )
        if start // batch_size % 5 == 4:
            store.compact()
    state.close()
    return store


Outcome: TypeAlias = "tuple[list[dict[str, Any]], list[tuple[str, str, int]], list[tuple[str, SymbolRow]]]"


def outcome(directory: Path, generation: int) -> Outcome:
    """Index a tree to its end; return the rows, the manifest and the symbols."""
    store = index(directory, generation)
    rows = store.rows()
    assert not store.rebuilt
    assert store.files == ChunkStore(directory, RECIPE, writable=False).files
    state = open_state(directory / "state.db")
    manifest = Manifest(state, "/root", RECIPE)
    files = [(file.path, file.content_hash, file.chunks) for file in manifest.files().values()]
    symbols = list(manifest.symbols())
    state.close()
    return rows, sorted(files), symbols


def killed_child(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, __file__, str(directory), *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "indexing\n"
    return child


def test_a_killed_process_leaves_what_the_next_start_completes(tmp_path: Path) -> None:
    randomness = random.Random(4)
    generation, interrupted = 0, 0
    clean = {0: outcome(tmp_path / "killed", 0)}
    for _ in range(KILLS):
        # The table lives on from kill to kill, so that one is hit while it adds, replaces, removes and compacts.
        child = killed_child(tmp_path / "killed", str(generation + 1))
        time.sleep(randomness.uniform(0, 0.6))
        child.kill()
        interrupted += "done" not in child.communicate(timeout=30)[0]
        # Until the next start a branch may be switched: back to what the manifest still describes, or to a third tree.
        generation += randomness.randrange(3)
        if generation not in clean:
            clean[generation] = outcome(tmp_path / f"clean-{generation}", generation)
        assert outcome(tmp_path / "killed", generation) == clean[generation]
    assert interrupted >= KILLS / 3


def test_a_process_killed_between_the_two_commits_leaves_no_rows_behind(tmp_path: Path) -> None:
    before = outcome(tmp_path, 0)
    child = killed_child(tmp_path, "1", "between")
    assert child.wait(timeout=60) == -signal.SIGKILL
    child.communicate()
    # The rows of the new tree are there, and the manifest knows nothing of them.
    assert ChunkStore(tmp_path, RECIPE, writable=False).rows() != before[0]
    assert outcome(tmp_path, 0) == before


class KilledManifest(Manifest):
    """Ends the process where a change of the table is committed, and that of the manifest is not."""

    def put(self, files: Iterable[IndexedFile]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    print("indexing", flush=True)
    index(Path(sys.argv[1]), int(sys.argv[2]), KilledManifest if "between" in sys.argv else Manifest, batch_size=2)
    print("done", flush=True)
