from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from intract_lsp.errors import IndexingError
from intract_lsp.index import store as store_module
from intract_lsp.index.chunk import ChunkKind, SourceChunk
from intract_lsp.index.folder import IndexFolder
from intract_lsp.index.manifest import FileRecord, IndexedFile, Manifest
from intract_lsp.index.recovery import Recovered, reconcile
from intract_lsp.index.rows import FileChunks
from intract_lsp.index.store import ChunkStore, drop_tables
from intract_lsp.state import open_state


def file_of(path: str, content_hash: str, *texts: str) -> FileChunks:
    chunks = [
        SourceChunk(path, 10 * number, 10 * number + 9, ChunkKind.DEFINITION, "python", f"C.f{number}", text)
        for number, text in enumerate(texts)
    ]
    return FileChunks(content_hash, chunks)


def opened(directory: Path, recipe: str = "r1", *, writable: bool = True) -> ChunkStore:
    return ChunkStore(directory, recipe, writable=writable)


def test_files_are_replaced_and_removed_in_one_commit_each(tmp_path: Path) -> None:
    store = opened(tmp_path)
    reader = opened(tmp_path, writable=False)
    first = {path: file_of(path, "h1", "def one(): pass", "def two(): pass") for path in ("a.py", "it's.py", "ü/ß.py")}
    commits = []
    changes = (
        lambda: store.replace_files(first),
        lambda: store.replace_files(
            {"it's.py": file_of("it's.py", "h2", "x = 1"), "n.py": file_of("n.py", "h", "new")}
        ),
        lambda: store.replace_files({"a.py": FileChunks("h3", [])}),
        lambda: store.remove(["ü/ß.py", "never seen.py"]),
    )
    for change in changes:
        before = store._table.version
        change()
        commits.append(store._table.version - before)
        assert reader.refresh()
        assert reader.files == store.files
        assert reader.rows() == store.rows()
    assert commits == [1, 1, 1, 1]
    assert [(row["path"], row["ordinal"], row["content_hash"]) for row in store.rows()] == [
        ("it's.py", 0, "h2"),
        ("n.py", 0, "h"),
    ]
    assert not reader.refresh()
    store.remove(["never seen.py"])
    assert not reader.refresh()


def test_chunks_come_back_as_they_went_in_and_survive_a_restart(tmp_path: Path) -> None:
    chunks = [
        SourceChunk("d/ü.md", 3, 8, ChunkKind.PROSE, "markdown", "", "# Título 🎉\r\nhalf \ud83d pair\x00"),
        SourceChunk("d/ü.md", 8, 9, ChunkKind.CODE, "python", "größe", "size_of_things = 1"),
    ]
    opened(tmp_path).replace_files({"d/ü.md": FileChunks("h", chunks)})
    again = opened(tmp_path)
    assert again.chunks_of("d/ü.md") == chunks
    assert [hit.chunk for hit in again.search({"size_of_things": 1.0}, 5)] == [chunks[1]]
    assert not again.rebuilt
    assert again.chunk_count == 2
    assert again.size_on_disk() > 1000


def test_the_order_of_writing_leaves_no_trace_in_the_rows(tmp_path: Path) -> None:
    final = {f"{name}.py": file_of(f"{name}.py", f"h-{name}", f"{name} = 1", "pass") for name in "abcdef"}
    clean, worn = opened(tmp_path / "clean"), opened(tmp_path / "worn")
    clean.replace_files(final)
    worn.replace_files({path: file_of(path, "old", "old", "older", "oldest") for path in [*final, "gone.py"]})
    for path in reversed(final):
        worn.replace_files({path: final[path]})
    worn.remove(["gone.py"])
    assert worn.rows() == clean.rows()
    worn.compact()
    assert worn.rows() == clean.rows() == opened(tmp_path / "worn").rows()
    assert worn.search({"old": 1.0}, 5) == []


def test_compaction_is_due_after_many_changes_and_keeps_searches_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FRAGMENTS_BEFORE_COMPACTION", 5)
    store, reader = opened(tmp_path), opened(tmp_path, writable=False)
    for number in range(5):
        assert not store.needs_compaction
        store.replace_files({f"{number}.py": file_of(f"{number}.py", "h", "needle")})
    reader.refresh()
    assert store.needs_compaction
    store.compact()
    assert not store.needs_compaction
    reader.refresh()
    assert len(reader.search({"needle": 1.0}, 9)) == len(store.search({"needle": 1.0}, 9)) == 5


def test_a_compaction_that_fails_is_told_and_leaves_the_table_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    store.replace_files({"a.py": file_of("a.py", "h", "needle")})
    monkeypatch.setattr(store, "_name", "chunks-none")
    with pytest.raises(IndexingError, match=r"could not be written .*chunks-none"):
        store.compact()
    monkeypatch.undo()
    store.replace_files({"b.py": file_of("b.py", "h", "needle")})
    store.compact()
    assert {row["path"] for row in opened(tmp_path).rows()} == {"a.py", "b.py"}


def test_a_compaction_ends_with_the_process_that_wanted_it(tmp_path: Path) -> None:
    opened(tmp_path).replace_files({"a.py": file_of("a.py", "h", "needle")})
    (table,) = tmp_path.glob("*.lance")
    command = [sys.executable, "-m", "intract_lsp.index.compaction", str(tmp_path), table.stem, "0"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert [row["path"] for row in opened(tmp_path).rows()] == ["a.py"]


def test_old_versions_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "OLD_VERSIONS_KEPT", store_module.timedelta(milliseconds=1))
    store = opened(tmp_path)
    sizes = []
    for _ in range(3):
        for number in range(6):
            texts = [f"{number} " + os.urandom(8000).hex()]
            store.replace_files({"a.py": file_of("a.py", f"h{number}", *texts)})
        store.compact()
        sizes.append(store.size_on_disk())
    assert sizes[-1] < 1.5 * sizes[0]


def test_a_reader_writes_nothing_and_waits_for_a_first_table(tmp_path: Path) -> None:
    reader = opened(tmp_path, writable=False)
    assert (reader.chunk_count, reader.search({"x1": 1.0}, 5), reader.refresh()) == (0, [], False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IndexingError, match="Another server keeps"):
        reader.replace_files({"a.py": file_of("a.py", "h", "x1")})
    opened(tmp_path).replace_files({"a.py": file_of("a.py", "h", "x1")})
    assert reader.refresh()
    with pytest.raises(IndexingError, match="Another server keeps"):
        reader.remove(["a.py"])
    assert [hit.chunk.path for hit in reader.search({"x1": 1.0}, 5)] == ["a.py"]


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "gone"])
def test_a_table_that_cannot_be_read_is_begun_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path)
    secret = "code that no log may show"
    store.replace_files({"a.py": file_of("a.py", "h", secret)})
    for file in (store.path / "data").iterdir():
        content = {"empty": b"", "half": file.read_bytes()[:400], "noise": os.urandom(file.stat().st_size), "gone": b""}
        file.write_bytes(content[damage])
        if damage == "gone":
            file.unlink()
    with caplog.at_level(logging.DEBUG):
        again = opened(tmp_path)
    assert again.rebuilt
    assert secret not in caplog.text
    assert again.chunk_count == 0
    again.replace_files({"a.py": file_of("a.py", "h", secret)})
    assert not opened(tmp_path).rebuilt
    assert opened(tmp_path).chunk_count == 1


def test_a_broken_table_stops_no_reader(tmp_path: Path) -> None:
    store, reader = opened(tmp_path), opened(tmp_path, writable=False)
    store.replace_files({"a.py": file_of("a.py", "h", "alpha")})
    reader.refresh()
    store.replace_files({"b.py": file_of("b.py", "h", "beta")})
    for file in (store.path / "data").iterdir():
        file.unlink()
    with pytest.raises(IndexingError, match="index could not be read"):
        reader.refresh()
    assert len(reader.search({"alpha": 1.0}, 5)) == 1
    with pytest.raises(IndexingError, match="index could not be read"):
        opened(tmp_path, writable=False)


def test_recipes_lie_side_by_side(tmp_path: Path) -> None:
    old, new = opened(tmp_path, "r1"), opened(tmp_path, "r2")
    old.replace_files({"a.py": file_of("a.py", "h", "old_rows")})
    new.replace_files({"a.py": file_of("a.py", "h", "new_rows")})
    assert [hit.chunk.text for hit in old.search({"rows": 1.0}, 5)] == ["old_rows"]
    assert [hit.chunk.text for hit in new.search({"rows": 1.0}, 5)] == ["new_rows"]
    drop_tables(tmp_path, keep=[new.path])
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [new.path]
    # The old rows go on answering from memory until the new store takes its place.
    assert len(old.search({"rows": 1.0}, 5)) == 1


def test_a_name_that_is_no_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(IndexingError, match="valid UTF-8"):
        store.replace_files({"a.py": file_of("a.py", "h", "x"), "\udce4.py": file_of("\udce4.py", "h", "x")})
    assert store.rows() == []


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    code = """
import os, resource, sys
from pathlib import Path
from intract_lsp.errors import IndexingError
from intract_lsp.index.chunk import ChunkKind, SourceChunk
from intract_lsp.index.rows import FileChunks
from intract_lsp.index.store import ChunkStore
def change(path, text):
    store.replace_files({path: FileChunks("h", [SourceChunk(path, 0, 1, ChunkKind.CODE, "python", "", text)])})
store = ChunkStore(Path(sys.argv[1]), "r1", writable=True)
change("a.py", "alpha")
before = store.rows()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    change("a.py", os.urandom(50_000).hex())
except IndexingError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.rows() == before and len(store.search({"alpha": 1.0}, 5)) == 1
change("a.py", "beta")
assert len(store.search({"beta": 1.0}, 5)) == 1 and not store.refresh()
"""
    child = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(child, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "The index could not be written" in done.stdout and "space left" in done.stdout


def test_searches_go_on_while_files_are_replaced(tmp_path: Path) -> None:
    store = opened(tmp_path)
    paths = [f"{number}.py" for number in range(8)]
    store.replace_files({path: file_of(path, "0", "needle version_0", "needle version_0") for path in paths})
    ended = threading.Event()
    wrong = []

    def search() -> None:
        while not ended.is_set():
            # Each file is whole and of one version in every answer.
            hits = store.search({"needle": 1.0}, 100)
            versions = {path: {hit.chunk.text for hit in hits if hit.chunk.path == path} for path in paths}
            if len(hits) != 16 or any(len(found) != 1 for found in versions.values()):
                wrong.append(versions)

    searching = threading.Thread(target=search)
    searching.start()
    for version in range(1, 25):
        path = paths[version % 8]
        text = f"needle version_{version}"
        store.replace_files({path: file_of(path, str(version), text, text)})
    ended.set()
    searching.join(timeout=30)
    assert not wrong


def test_one_process_writes_and_the_next_takes_over(tmp_path: Path) -> None:
    root = tmp_path / "wörk"
    root.mkdir()
    code = """
import sys; from pathlib import Path; from intract_lsp.index.folder import IndexFolder
folder = IndexFolder(Path(sys.argv[1]), Path(sys.argv[2]))
print(folder.writable, flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "cache"), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        folder = IndexFolder(tmp_path / "cache", root)
        assert not folder.writable
        assert not folder.try_to_write()
        assert IndexFolder(tmp_path / "cache", tmp_path).writable
    finally:
        child.kill()
        child.communicate(timeout=30)
    assert folder.try_to_write()
    assert folder.writable
    folder.close()
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert IndexFolder(tmp_path / "cache", tmp_path / "link").path == folder.path


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(IndexingError, match=r"make .* writable"):
        IndexFolder(tmp_path / "cache", tmp_path)


def test_reconciling_keeps_what_both_know_and_nothing_else(tmp_path: Path) -> None:
    store = opened(tmp_path)
    rows = {path: file_of(path, "h", "x", "y") for path in ("both.py", "rows only.py", "newer rows.py", "fewer.py")}
    store.replace_files(rows)
    state = open_state(tmp_path / "state.db")
    manifest = Manifest(state, "/root", "r1")
    known = {"both.py": ("h", 2), "newer rows.py": ("old", 2), "fewer.py": ("h", 3), "no rows.py": ("h", 1)}
    known["empty.py"] = ("h", 0)
    manifest.put(IndexedFile(FileRecord(path, *key[:1], 1, 1, key[1], 0.0)) for path, key in known.items())
    assert reconcile(store, manifest) == Recovered(rows_dropped=3, files_forgotten=3)
    assert sorted(manifest.files()) == ["both.py", "empty.py"]
    assert {row["path"] for row in store.rows()} == set(store.files) == {"both.py"}
    assert reconcile(store, manifest) == Recovered(0, 0)
    state.close()
