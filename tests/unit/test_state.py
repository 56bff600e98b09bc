from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from intract_lsp.errors import IntractError
from intract_lsp.state import MIGRATIONS, open_state

OPEN = "import sys, pathlib, intract_lsp.state as s; s.open_state(pathlib.Path(sys.argv[1])).close()"


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_new_database_has_every_migration_and_a_write_ahead_log(tmp_path: Path) -> None:
    state = open_state(tmp_path / "deep" / "state.db")
    assert state.moved_aside is None
    assert state.database.journal_mode == "wal"
    assert {"generations", "files", "symbols"} <= set(state.database.table_names())
    state.close()
    assert version(tmp_path / "deep" / "state.db") == len(MIGRATIONS)


def test_what_is_there_stays_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = open_state(path)
    first.database.execute("INSERT INTO generations (root, recipe) VALUES ('/r', 'a')")
    first.close()
    second = open_state(path)
    assert second.database.execute("SELECT root FROM generations").fetchall() == [("/r",)]
    second.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one" * 20, os.urandom(8192)])
def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    for number in (1, 2):
        path.write_bytes(content)
        state = open_state(path)
        assert state.moved_aside == tmp_path / f"state.db.broken-{number}"
        assert state.moved_aside.read_bytes() == content
        assert "files" in state.database.table_names()
        state.close()


def test_the_database_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_state(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    with pytest.raises(IntractError, match="later version of intract-lsp: update"):
        open_state(path)
    assert path.read_bytes() == before


def test_a_directory_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IntractError, match=r"cannot be used .* set INTRACT_HOME"):
        open_state(tmp_path / "file" / "state.db")


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"broken" * 1000)
    children = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(path)], stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [(child.communicate(timeout=60)[1], child.returncode) for child in children] == [("", 0)] * 4
    assert version(path) == len(MIGRATIONS)
    assert len(list(tmp_path.glob("*.broken-1"))) == 1
    assert not list(tmp_path.glob("*.broken-2"))
