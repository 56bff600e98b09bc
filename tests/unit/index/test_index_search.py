from __future__ import annotations

from pathlib import Path

import pytest

from intract_lsp.index.chunk import ChunkKind, SourceChunk
from intract_lsp.index.rows import FileChunks
from intract_lsp.index.search import folder_of, search
from intract_lsp.index.status import IndexedFolder
from intract_lsp.index.store import ChunkStore
from intract_lsp.index.symbol_table import SymbolTable


def indexed(tmp_path: Path, root: str, **texts: str) -> IndexedFolder:
    store = ChunkStore(tmp_path / root.replace("/", "_"), "test", writable=True)
    for name, text in texts.items():
        path = f"{name.replace('__', '/')}.py"
        chunk = SourceChunk(path, 2, 5, ChunkKind.CODE, "python", name, text)
        store.replace_files({path: FileChunks("0" * 32, [chunk])})
    return IndexedFolder(Path(root), store, SymbolTable())


def test_the_best_of_all_folders_come_first(tmp_path: Path) -> None:
    folders = [
        indexed(tmp_path, "/w/one", a="read the invoice", b="nothing of it"),
        indexed(tmp_path, "/w/two", c="invoice invoice", d="something else"),
    ]
    found = search(folders, "Invoice", 10)
    assert [one.chunk.path for one in found] == ["c.py", "a.py"]
    assert found[0].score >= found[1].score > 0
    assert [one.chunk.path for one in search(folders, "Invoice", 1)] == ["c.py"]
    assert search(folders, "if 42 ...", 10) == []


def test_values_count_lines_as_people_do(tmp_path: Path) -> None:
    (one,) = search([indexed(tmp_path, "/w/one", a="read the invoice")], "invoice", 10)
    values = one.values()
    assert (values["path"], values["start_line"], values["end_line"]) == ("a.py", 3, 5)
    assert (Path(values["root"]), values["symbol"], values["text"]) == (Path("/w/one"), "a", "read the invoice")


def test_a_chunk_of_a_folder_inside_another_comes_once(tmp_path: Path) -> None:
    folders = [indexed(tmp_path, "/w", deep__a="invoice"), indexed(tmp_path, "/w/deep", a="invoice")]
    assert len(search(folders, "invoice", 10)) == 1


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("file:///w/a.py", "/w"),
        ("file:///w/deep/er/a%20b.py", "/w/deep"),
        ("vscode-notebook-cell:/w/deep/a.ipynb#cell", "/w/deep"),
        ("file:///w%20x/a.py", None),
        ("untitled:Untitled-1", None),
        ("file:///elsewhere/a.py", None),
    ],
)
def test_a_document_belongs_to_the_innermost_folder(tmp_path: Path, uri: str, root: str | None) -> None:
    folders = [indexed(tmp_path, "/w"), indexed(tmp_path, "/w/deep")]
    found = folder_of(uri, folders)
    assert (None if found is None else found.root) == (None if root is None else Path(root))
