"""Whenever the process is killed, the next start of the real indexer ends with the rows of a clean build.

INTRACT_KILLS sets how often (3 unless told otherwise; 50 takes some three minutes).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeAlias

from intract_lsp.index import indexer as module
from intract_lsp.index.folder import IndexFolder
from intract_lsp.index.indexer import RECIPE, FolderIndexer
from intract_lsp.index.manifest import Manifest
from intract_lsp.state import open_state

KILLS = int(os.environ.get("INTRACT_KILLS", "3"))
FILES = 60

Outcome: TypeAlias = "tuple[list[dict[str, Any]], list[tuple[str, str, int]], list[tuple[Any, ...]]]"


def write_tree(root: Path, generation: int) -> None:
    """Write what differs in this generation: a third of the files changes, some go, as in a branch switch."""
    for number in range(FILES):
        last = generation - (generation + number) % 3
        file = root / f"package{number % 5}" / f"module{number:02}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        bodies = (f"def f{number}_{one}(x):\n    return x + {last}\n\n\n" for one in range(1 + last % 4))
        text = "" if (number + last) % 11 == 0 else "".join(bodies)
        if not text:
            file.unlink(missing_ok=True)
        elif not file.exists() or file.read_text() != text:
            file.write_text(text)


def outcome(directory: Path, root: Path) -> Outcome:
    """Index to the end, as a start does; return the rows, the manifest and the symbols."""
    state = open_state(directory / "state.db")
    folder = IndexFolder(directory / "index", root)
    indexer = FolderIndexer(root, folder, state, 1000)
    assert not indexer.rebuilt
    indexer.scan(lambda done, total: None, lambda: None)
    manifest = Manifest(state, folder.root, RECIPE)
    assert manifest.complete
    files = sorted((file.path, file.content_hash, file.chunks) for file in manifest.files().values())
    symbols = [(path, *astuple(row)) for path, row in manifest.symbols()]
    table = indexer.searched.symbols
    assert [astuple(one) for path in sorted(table.files) for one in table.of_file(path)] == symbols
    rows = indexer.searched.store.rows()
    indexer.close()
    state.close()
    folder.close()
    return rows, files, symbols


def test_a_killed_indexer_leaves_what_the_next_start_completes(tmp_path: Path) -> None:
    randomness = random.Random(4)
    root = tmp_path / "root"
    generation, interrupted = 0, 0
    write_tree(root, generation)
    outcome(tmp_path / "killed", root)
    for number in range(KILLS):
        generation += 1
        write_tree(root, generation)
        # The table lives on from kill to kill, so that one is hit while it adds, replaces, removes and compacts.
        command = (sys.executable, __file__, str(tmp_path / "killed"), str(root))
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "indexing\n"
        time.sleep(randomness.uniform(0, 0.8))
        child.kill()
        interrupted += "done" not in child.communicate(timeout=30)[0]
        if number % 2:
            # Until the next start a branch may be switched.
            generation += 1
            write_tree(root, generation)
        assert outcome(tmp_path / "killed", root) == outcome(tmp_path / f"clean-{number}", root)
    assert interrupted >= KILLS / 3


def index_in_small_commits(directory: Path, root: Path) -> None:
    state = open_state(directory / "state.db")
    indexer = FolderIndexer(root, IndexFolder(directory / "index", root), state, 1000)
    print("indexing", flush=True)
    indexer.find_changes()
    while indexer.waiting:
        indexer.step()
        if indexer.needs_compaction:
            indexer.compact()
    print("done", flush=True)


if __name__ == "__main__":
    module.COMMIT_FILES = 1
    module.COMMITS_BETWEEN_LOOKS = 5
    index_in_small_commits(Path(sys.argv[1]), Path(sys.argv[2]))
