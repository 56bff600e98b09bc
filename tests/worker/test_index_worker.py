from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from intract_lsp.errors import IndexingError
from intract_lsp.index import workspace_folder
from intract_lsp.index.folder import IndexFolder
from intract_lsp.index.indexer import FolderIndexer
from intract_lsp.index.store import ChunkStore
from intract_lsp.index.worker import IndexedFolder, IndexState, IndexStatus, IndexWorker

PATIENCE = 20.0
"""Seconds after which something that should have happened has not."""


@dataclass
class Bench:
    """A worker, what it told, and the folders that it is given."""

    directory: Path
    watch: bool = False
    max_files: int = 1000
    busy: bool = False
    statuses: list[tuple[IndexStatus, ...]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    worker: IndexWorker = field(init=False)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.worker = self.new_worker()
        self.worker.start()

    def new_worker(self) -> IndexWorker:
        worker = IndexWorker(
            self.directory / "index", self.directory / "state.db", self.max_files, lambda: self.busy, watch=self.watch
        )
        worker.on_status = self._on_status
        worker.on_notice = self.notices.append
        return worker

    def _on_status(self, statuses: tuple[IndexStatus, ...]) -> None:
        self.statuses.append(statuses)
        self.threads.add(threading.current_thread().name)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def write(self, path: str, text: str = "def f():\n    return 1\n") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def settle(self) -> tuple[IndexStatus, ...]:
        self.worker.settled().result(PATIENCE)
        return self.worker.statuses()

    def opened(self, *roots: Path) -> tuple[IndexStatus, ...]:
        self.worker.set_folders(roots or (self.root,))
        return self.settle()

    def files(self) -> set[str]:
        return {path for folder in self.worker.folders() for path in folder.symbols.files}

    def until(self, seen: Callable[[], Any], seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < end, (self.worker.statuses(), self.notices)
            time.sleep(0.005)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.busy = False
    assert made.worker.stop(PATIENCE)


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, watch=True)
    yield made
    assert made.worker.stop(PATIENCE)
    assert not [thread for thread in threading.enumerate() if thread.name == "intract-watcher"]


def one(statuses: tuple[IndexStatus, ...]) -> IndexStatus:
    assert len(statuses) == 1
    return statuses[0]


def test_a_folder_is_indexed_and_searched_from_elsewhere(bench: Bench) -> None:
    bench.write("a.py", "def needle():\n    return 1\n")
    bench.write("b.md", "# Words\n\nAbout hay.\n")
    status = one(bench.opened())
    assert status.state is IndexState.IDLE
    assert (status.root, status.files, status.chunks, status.symbols) == (str(bench.root), 2, 2, 1)
    assert status.done == status.total == 2
    assert status.message == ""
    assert status.disk_bytes > 0
    assert status.updated_at == pytest.approx(time.time(), abs=PATIENCE)
    folder = bench.worker.folders()[0]
    assert isinstance(folder, IndexedFolder)
    assert folder.root == bench.root
    assert [hit.chunk.path for hit in folder.store.search({"needle": 1.0}, 3)] == ["a.py"]
    assert [symbol.path for symbol in folder.symbols.defining("needle")] == ["a.py"]
    assert bench.threads == {"intract-index"}
    assert bench.statuses[-1] == bench.worker.statuses()


def test_noted_paths(bench: Bench) -> None:
    bench.write("a.py")
    bench.write("lib/b.py")
    bench.opened()
    bench.write("a.py", "def changed():\n    return 1\n")
    bench.write("new/c.py")
    (bench.root / "lib/b.py").unlink()
    (bench.root / "lib").rmdir()
    outside = bench.directory / "outside.py"
    outside.write_text("x = 1\n")
    bench.worker.note([bench.root / "a.py", bench.root / "new", bench.root / "lib", outside, bench.root])
    bench.settle()
    assert bench.files() == {"a.py", "new/c.py"}
    assert [symbol.name for symbol in bench.worker.folders()[0].symbols.of_file("a.py")] == ["changed"]


def test_a_noted_ignore_file_has_everything_listed_again(bench: Bench) -> None:
    bench.write("a.py")
    bench.write("b.py")
    bench.opened()
    bench.worker.note([bench.write(".intractignore", "b.py\n")])
    bench.settle()
    assert bench.files() == {"a.py"}


def test_what_changes_on_disk_is_found(watching: Bench) -> None:
    watching.write("a.py")
    assert one(watching.opened()).files == 1
    watching.write("b.py", "def fresh():\n    return 1\n")
    watching.until(lambda: watching.worker.folders()[0].symbols.defining("fresh"))
    (watching.root / "b.py").unlink()
    watching.until(lambda: watching.files() == {"a.py"})
    watching.until(lambda: one(watching.worker.statuses()).state is IndexState.IDLE)


def test_a_root_that_vanishes_and_comes_back(watching: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    watching.write("a.py")
    watching.opened()
    aside = watching.directory / "aside"
    watching.root.rename(aside)
    watching.until(lambda: one(watching.worker.statuses()).state is IndexState.FAILED)
    assert "is not there" in one(watching.worker.statuses()).message
    assert watching.files() == {"a.py"}, "what is known can be searched on"
    (aside / "b.py").write_text("x = 1\n")
    aside.rename(watching.root)
    watching.worker.note([watching.root / "b.py"])
    watching.until(lambda: watching.files() == {"a.py", "b.py"})
    watching.until(lambda: one(watching.worker.statuses()).state is IndexState.IDLE)
    assert one(watching.worker.statuses()).message == ""


def test_folders_come_and_go(bench: Bench) -> None:
    other, missing = bench.directory / "other", bench.directory / "missing"
    other.mkdir()
    (other / "o.py").write_text("def other():\n    return 1\n")
    bench.write("a.py")
    link = bench.directory / "link"
    link.symlink_to(other)
    statuses = bench.opened(bench.root, other, link, missing)
    assert [status.root for status in statuses] == [str(bench.root), str(other), str(missing)]
    assert [status.state for status in statuses] == [IndexState.IDLE, IndexState.IDLE, IndexState.FAILED]
    assert str(missing) in statuses[2].message
    kept = bench.worker.folders()[1]
    assert [status.root for status in bench.opened(other)] == [str(other)]
    assert bench.worker.folders() == (kept,)
    assert bench.opened(bench.root, other)[0].done == 0, "nothing was read again"
    bench.worker.set_folders(())
    bench.settle()
    assert bench.worker.statuses() == ()
    assert bench.worker.folders() == ()
    free = IndexFolder(bench.directory / "index", other)
    assert free.writable
    free.close()


def test_reindexing(bench: Bench) -> None:
    bench.write("a.py")
    bench.opened()
    table = bench.worker.folders()[0].store
    bench.worker.reindex().result(PATIENCE)
    status = one(bench.worker.statuses())
    assert (status.state, status.files, status.done) == (IndexState.IDLE, 1, 1)
    assert bench.worker.folders()[0].store is not table
    assert len(list(table.path.parent.glob("chunks-*"))) == 1


def test_two_servers(bench: Bench) -> None:
    bench.write("a.py")
    bench.opened()
    second = Bench(bench.directory, watch=True)
    try:
        status = one(second.opened())
        assert (status.state, status.files) == (IndexState.IDLE, 1)
        assert "only reads" in status.message
        with pytest.raises(IndexingError, match="Another server"):
            second.worker.reindex().result(PATIENCE)
        bench.worker.note([bench.write("b.py")])
        bench.settle()
        second.until(lambda: second.files() == {"a.py", "b.py"})
        quiet = len(second.statuses)
        assert bench.worker.stop(PATIENCE)
        second.until(lambda: one(second.worker.statuses()).message == "")
        assert len(second.statuses) > quiet
        second.write("c.py")
        second.until(lambda: second.files() == {"a.py", "b.py", "c.py"})
    finally:
        assert second.worker.stop(PATIENCE)


@pytest.fixture
def quick_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_folder, "READ_SECONDS", 0.05)


pytestmark = pytest.mark.usefixtures("quick_reader")


def test_a_completion_goes_first_but_not_for_ever(bench: Bench) -> None:
    bench.write("a.py")
    bench.opened()
    bench.busy = True
    started = time.monotonic()
    bench.worker.note([bench.write("b.py")])
    bench.settle()
    assert 0.4 < time.monotonic() - started < 5
    assert bench.files() == {"a.py", "b.py"}
    bench.worker.note([bench.write("c.py")])
    future = bench.worker.settled()
    bench.until(lambda: one(bench.worker.statuses()).state is not IndexState.IDLE or future.done())
    bench.busy = False
    future.result(PATIENCE)


def test_failures_do_not_end_the_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write("a.py", "def kept():\n    return 1\n")
    bench.opened()
    private = "code of mine"

    def full(*arguments: Any) -> None:
        raise IndexingError("The index could not be written (No space left on device): free some.")

    with monkeypatch.context() as patched:
        patched.setattr(ChunkStore, "replace_prepared", full)
        bench.worker.note([bench.write("b.py", f"word = '{private}'\n")])
        status = one(bench.settle())
        assert status.state is IndexState.FAILED
        assert "No space left" in status.message
        assert bench.worker.folders()[0].symbols.defining("kept"), "what was found is found on"
        with pytest.raises(IndexingError, match="No space left"):
            bench.worker.reindex().result(PATIENCE)
    # The next event, whatever it is about, has everything looked at again.
    bench.worker.note([bench.write("c.py")])
    status = one(bench.settle())
    assert (status.state, status.message) == (IndexState.IDLE, "")
    assert bench.files() == {"a.py", "b.py", "c.py"}

    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError(private)

    with monkeypatch.context() as patched:
        patched.setattr(FolderIndexer, "update", broken)
        bench.worker.note([bench.write("d.py")])
        assert "ZeroDivisionError" in one(bench.settle()).message
    bench.worker.note([bench.write("e.py")])
    assert one(bench.settle()).files == 5
    assert "ZeroDivisionError" in caplog.text
    assert private not in caplog.text


def test_listeners_that_fail(bench: Bench) -> None:
    def failing(told: Any) -> None:
        raise RuntimeError

    bench.worker.on_status = bench.worker.on_notice = failing
    bench.write("a.py")
    assert one(bench.opened()).state is IndexState.IDLE


def test_a_question_that_fails_is_no_reason_to_wait(tmp_path: Path) -> None:
    def failing() -> bool:
        raise RuntimeError

    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.py").write_text("x = 1\n")
    worker = IndexWorker(tmp_path / "index", tmp_path / "state.db", 10, failing, watch=False)
    worker.start()
    worker.set_folders([tmp_path / "root"])
    worker.settled().result(PATIENCE)
    assert one(worker.statuses()).files == 1
    assert worker.stop(PATIENCE)


def test_a_database_that_is_none(bench: Bench) -> None:
    (bench.directory / "state.db").write_bytes(b"this is no database, and has never been one" * 50)
    bench.write("a.py")
    assert one(bench.opened()).state is IndexState.IDLE
    assert [notice for notice in bench.notices if "state database was damaged" in notice]


def test_a_database_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir(parents=True)
    bench = Bench(tmp_path)
    bench.write("a.py")
    status = one(bench.opened())
    assert status.state is IndexState.FAILED
    assert "state database" in status.message
    (tmp_path / "state.db").rmdir()
    bench.worker.note([bench.root / "a.py"])
    assert one(bench.settle()).state is IndexState.IDLE
    assert bench.worker.stop(PATIENCE)


def test_a_damaged_table_is_said_once(bench: Bench) -> None:
    bench.write("a.py")
    bench.opened()
    table = bench.worker.folders()[0].store.path
    bench.opened(bench.directory)
    for file in table.rglob("*"):
        if file.is_file():
            file.write_bytes(b"damage")
    status = one(bench.opened(bench.root))
    assert (status.state, status.files, status.chunks) == (IndexState.IDLE, 1, 1)
    assert "damaged" in status.message
    bench.worker.note([bench.write("b.py")])
    bench.settle()
    assert len([notice for notice in bench.notices if "damaged" in notice]) == 1


def test_a_cap_is_said_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_files=2)
    for number in range(4):
        bench.write(f"{number}.py")
    status = one(bench.opened())
    assert (status.files, status.state) == (2, IndexState.IDLE)
    assert "more than 2 files" in status.message
    bench.worker.note([bench.write("0.py", "x = 1\n")])
    bench.settle()
    assert len(bench.notices) == 1
    assert bench.worker.stop(PATIENCE)


def test_a_cap_that_changes(bench: Bench) -> None:
    for number in range(4):
        bench.write(f"{number}.py")
    bench.worker.set_folders((bench.root,), max_files=3)
    assert one(bench.settle()).files == 3
    bench.opened(bench.root)
    assert one(bench.worker.statuses()).files == 3
    bench.worker.set_folders((bench.root,), max_files=10)
    status = one(bench.settle())
    assert (status.files, status.done, status.message) == (4, 1, "")


def test_states_on_the_way(bench: Bench) -> None:
    for number in range(150):
        bench.write(f"{number}.py", "".join(f"def f{line}():\n    return {line}\n\n\n" for line in range(40)))
    started = time.monotonic()
    bench.opened()
    passed = time.monotonic() - started
    states = [one(statuses).state for statuses in bench.statuses if statuses]
    assert set(states) == {IndexState.SCANNING, IndexState.INDEXING, IndexState.IDLE} or set(states) == {
        IndexState.INDEXING,
        IndexState.IDLE,
    }
    assert states[-1] is IndexState.IDLE
    assert len(states) <= passed / 0.2 + 3
    progress = [one(statuses).done for statuses in bench.statuses if statuses]
    assert progress == sorted(progress)
    assert {one(statuses).total for statuses in bench.statuses if statuses} <= {0, 150}


def test_stopping(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(200):
        bench.write(f"{number}.py", "".join(f"def f{line}():\n    return {line}\n\n\n" for line in range(40)))
    bench.worker.set_folders((bench.root,))
    waiting = bench.worker.settled()
    bench.until(lambda: bench.worker.statuses() and one(bench.worker.statuses()).done > 0)
    started = time.monotonic()
    assert bench.worker.stop(PATIENCE)
    assert time.monotonic() - started < 5
    for future in (waiting, bench.worker.settled(), bench.worker.reindex()):
        with pytest.raises(CancelledError):
            future.result(PATIENCE)
    again = Bench(tmp_path)
    assert one(again.opened()).files == 200
    assert again.worker.stop(PATIENCE)
    assert Bench.new_worker(bench).stop(0.1), "one that was never started"


def test_nothing_happens_while_nothing_happens(watching: Bench) -> None:
    watching.write("a.py")
    watching.opened()
    told = len(watching.statuses)
    before, started = time.process_time(), time.monotonic()
    # Not a wait for something: what is looked at is that nothing comes.
    time.sleep(0.5)
    assert time.process_time() - before < 0.05 * (time.monotonic() - started)
    assert len(watching.statuses) == told


def test_nothing_heavy_is_imported_before_there_is_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom intract_lsp.index.worker import IndexWorker\n"
        f"worker = IndexWorker(Path({str(tmp_path)!r}), Path({str(tmp_path / 's')!r}), 9, lambda: False)\n"
        "worker.start()\nworker.settled().result(20)\nworker.stop()\n"
        "heavy = ('lancedb', 'pyarrow', 'tree_sitter', 'detect_secrets', 'watchdog', 'sqlite_utils', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")
def test_the_thread_has_a_low_priority(bench: Bench) -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    found: list[int] = []
    bench.worker.on_status = lambda statuses: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    bench.opened()
    assert set(found) == {max(own, 10)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_branch_switch(watching: Bench) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ("git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments), cwd=watching.root, check=True, timeout=60
        )

    git("init", "-q", "-b", "main")
    for branch in ("main", "other"):
        for number in range(60):
            watching.write(f"{number}.py", f"def {branch}_{number}():\n    return 1\n")
        watching.write(f"only_{branch}.py")
        git("add", "-A")
        git("commit", "-q", "-m", branch)
        if branch == "main":
            git("checkout", "-q", "-b", "other")
            (watching.root / "only_main.py").unlink()
    watching.opened()
    table = watching.worker.folders()[0].symbols
    assert len(table.defining("other_59")) == 1
    git("checkout", "-q", "main")
    watching.until(lambda: all(table.defining(f"main_{number}") for number in range(60)))
    watching.until(lambda: {"only_main.py"} == {path for path in table.files if path.startswith("only")})
    assert not table.defining("other_59")
