from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from intract_lsp.errors import IndexingError
from intract_lsp.index.manifest import FileRecord, IndexedFile, Manifest, SymbolRow, active_recipe
from intract_lsp.state import StateDatabase, open_state

ROOT = "/home/jo/prö ject"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDatabase]:
    opened = open_state(tmp_path / "state.db")
    yield opened
    opened.close()


def symbol(name: str, line: int = 0) -> SymbolRow:
    return SymbolRow(name, f"Outer.{name}", "function", line, line + 3, f"def {name}(self) -> None")


def indexed(path: str, content_hash: str = "aa", *symbols: SymbolRow) -> IndexedFile:
    return IndexedFile(FileRecord(path, content_hash, 120, 1_700_000_000_123_456_789, 4, 1.5), symbols)


def test_files_come_back_as_they_were_put(state: StateDatabase) -> None:
    manifest = Manifest(state, ROOT, "r1")
    files = [indexed("a.py"), indexed("it's/ß.py", "bb")]
    manifest.put(files)
    assert manifest.files() == {file.record.path: file.record for file in files}
    assert Manifest(state, ROOT, "r1").files() == manifest.files()
    assert Manifest(state, "/elsewhere", "r1").files() == {}


def test_a_file_put_again_takes_the_place_of_itself_and_of_its_symbols(state: StateDatabase) -> None:
    manifest = Manifest(state, ROOT, "r1")
    manifest.put([indexed("b.py", "aa", symbol("old"), symbol("older")), indexed("a.py", "aa", symbol("kept"))])
    manifest.put([indexed("b.py", "bb", symbol("z", 9), symbol("y", 1))])
    assert manifest.files()["b.py"].content_hash == "bb"
    expected = [("a.py", symbol("kept")), ("b.py", symbol("z", 9)), ("b.py", symbol("y", 1))]
    assert list(manifest.symbols()) == expected


def test_forgotten_files_take_their_symbols_with_them(state: StateDatabase) -> None:
    manifest = Manifest(state, ROOT, "r1")
    manifest.put([indexed(f"{number}.py", "aa", symbol("f")) for number in range(1200)])
    manifest.forget([f"{number}.py" for number in range(1199)] + ["never seen.py"])
    assert list(manifest.files()) == ["1199.py"]
    assert list(manifest.symbols()) == [("1199.py", symbol("f"))]
    assert state.database.execute("SELECT count(*) FROM symbols").fetchone() == (1,)


def test_a_touched_file_is_unchanged_at_its_new_time(state: StateDatabase) -> None:
    manifest = Manifest(state, ROOT, "r1")
    manifest.put([indexed("a.py", "aa", symbol("f"))])
    manifest.touch("a.py", 120, 2_000)
    record = manifest.files()["a.py"]
    assert record.is_unchanged(120, 2_000)
    assert not record.is_unchanged(121, 2_000)
    assert not record.is_unchanged(120, 2_001)
    assert len(list(manifest.symbols())) == 1


def test_a_new_recipe_is_built_beside_the_old_one_and_swapped(state: StateDatabase) -> None:
    old = Manifest(state, ROOT, "r1")
    old.put([indexed("a.py")])
    assert active_recipe(state, ROOT) is None
    old.mark_complete()
    other = Manifest(state, "/other", "r1")
    other.put([indexed("o.py")])
    new = Manifest(state, ROOT, "r2")
    new.put([indexed("a.py", "aa", symbol("f"))])
    assert active_recipe(state, ROOT) == "r1"
    assert old.complete and not new.complete
    assert len(old.files()) == 1
    new.mark_complete()
    assert active_recipe(state, ROOT) == "r2"
    assert old.files() == {}
    assert list(new.files()) == ["a.py"] and list(other.files()) == ["o.py"]


def test_a_batch_that_fails_leaves_nothing(state: StateDatabase) -> None:
    manifest = Manifest(state, ROOT, "r1")
    manifest.put([indexed("a.py")])
    broken = IndexedFile(indexed("b.py").record, (SymbolRow(None, "", "", 0, 0, ""),))  # type: ignore[arg-type]
    with pytest.raises(IndexingError, match="manifest of the index cannot be written"):
        manifest.put([indexed("a.py", "changed"), broken])
    assert manifest.files() == {"a.py": indexed("a.py").record}
    manifest.put([indexed("c.py")])
    assert sorted(manifest.files()) == ["a.py", "c.py"]


def test_a_full_disk_is_told_in_a_sentence(state: StateDatabase) -> None:
    manifest = Manifest(state, ROOT, "r1")
    pages = state.database.execute("PRAGMA page_count").fetchone()[0]
    state.database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(IndexingError, match=r"full.*free space"):
        manifest.put([indexed(f"{number}.py", "aa", symbol("f")) for number in range(2000)])
    assert manifest.files() == {}


def test_reading_never_waits_for_the_writer(state: StateDatabase, tmp_path: Path) -> None:
    reader = sqlite3.connect(tmp_path / "state.db", timeout=0)
    with state.database.atomic():
        state.database.execute("INSERT INTO generations (root, recipe) VALUES ('/x', 'y')")
        assert reader.execute("SELECT count(*) FROM generations").fetchone() == (0,)
    assert reader.execute("SELECT count(*) FROM generations").fetchone() == (1,)
    reader.close()
