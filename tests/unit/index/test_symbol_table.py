from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.index.imports import Import
from intract_lsp.index.manifest import SymbolRow
from intract_lsp.index.symbol_table import Symbol, SymbolTable


def row(qualified: str, line: int = 0, signature: str = "def f()") -> SymbolRow:
    return SymbolRow(qualified.rpartition(".")[2], qualified, "function", line, line + 2, signature)


def symbol(path: str, found: SymbolRow) -> Symbol:
    return Symbol(path, found.name, found.qualified, found.kind, found.start_line, found.end_line, found.signature)


def test_symbols_come_back_as_they_were_put() -> None:
    table = SymbolTable()
    rows = [row("Paßwort.größe", 3, "def größe(self) -> str\n    ..."), row("größe", 9, ""), row("a.a", 12, "x = 1")]
    table.replace((), {"src/a.py": rows, "b.py": [row("größe")], "empty.py": []})
    assert table.of_file("src/a.py") == [symbol("src/a.py", one) for one in rows]
    assert [(one.path, one.qualified) for one in table.defining("größe")] == [
        ("b.py", "größe"),
        ("src/a.py", "Paßwort.größe"),
        ("src/a.py", "größe"),
    ]
    assert table.of_file("nowhere.py") == table.defining("Paßwort") == []
    assert set(table.files) == {"src/a.py", "b.py", "empty.py"}
    assert table.symbol_count == 4


def test_a_file_takes_the_place_of_itself() -> None:
    table = SymbolTable()
    table.replace((), {"a.py": [row("old"), row("kept")], "b.py": [row("kept")]})
    table.replace(("b.py",), {"a.py": [row("kept", 7)]})
    assert table.defining("old") == []
    assert [(one.path, one.start_line) for one in table.defining("kept")] == [("a.py", 7)]
    table.replace(("a.py", "never.py"), {})
    assert (len(table.files), table.symbol_count, table.defining("kept")) == (0, 0, [])


NAMES = st.sampled_from(["a", "b", "C.a", "C.b", "D.a"])
CHANGES = st.lists(
    st.tuples(
        st.sets(st.sampled_from("xyz")),
        st.dictionaries(st.sampled_from("xyz"), st.lists(NAMES, max_size=4), max_size=3),
    ),
    max_size=8,
)


@given(CHANGES)
def test_what_is_found_does_not_depend_on_how_it_came(changes: list[tuple[set[str], dict[str, list[str]]]]) -> None:
    table = SymbolTable()
    expected: dict[str, list[SymbolRow]] = {}
    for gone, added in changes:
        rows = {path: [row(name, line) for line, name in enumerate(names)] for path, names in added.items()}
        table.replace(gone, rows)
        expected = {path: old for path, old in expected.items() if path not in gone} | rows
    fresh = SymbolTable()
    fresh.load(expected, ((path, one) for path, rows in sorted(expected.items()) for one in rows))
    for one in (table, fresh):
        check(one, expected)


def check(table: SymbolTable, expected: Mapping[str, list[SymbolRow]]) -> None:
    assert set(table.files) == set(expected)
    everything = [symbol(path, one) for path, rows in sorted(expected.items()) for one in rows]
    assert table.symbol_count == len(everything)
    for path in "xyz":
        assert table.of_file(path) == [one for one in everything if one.path == path]
    for name in "ab":
        assert table.defining(name) == [one for one in everything if one.name == name]


def test_loading_forgets_what_was() -> None:
    table = SymbolTable()
    table.replace((), {"old.py": [row("old")], "a.py": [row("a")]})
    table.load(["a.py", "empty.py"], [("a.py", row("b"))])
    assert set(table.files) == {"a.py", "empty.py"}
    assert table.defining("old") == table.defining("a") == []
    assert [one.path for one in table.defining("b")] == ["a.py"]


def test_imports_are_resolved_to_the_files_of_the_last_renewal() -> None:
    table = SymbolTable()
    wanted = Import("python", "pkg.mod")
    table.replace((), {"pkg/mod.py": [], "main.py": []})
    assert table.resolver.resolve(wanted, "main.py") == []
    table.renew_resolver()
    first = table.resolver
    assert first.resolve(wanted, "main.py") == ["pkg/mod.py"]
    table.replace((), {"pkg/mod.py": [row("changed")]})
    table.renew_resolver()
    assert table.resolver is first, "the set of files is as it was"
    table.replace(("pkg/mod.py",), {})
    table.renew_resolver()
    assert table.resolver.resolve(wanted, "main.py") == []


def test_a_reader_sees_one_state() -> None:
    table = SymbolTable()
    states = [{path: [row("name", number)] for path in "ab"} for number in (1, 2)]
    table.replace((), states[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for state in states:
                table.replace((), state)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        lines = [tuple(one.start_line for one in table.defining("name")) for _ in range(5000)]
    finally:
        stop.set()
        writer.join()
    assert set(lines) <= {(1, 1), (2, 2)}


def test_fifty_thousand_symbols_take_little_memory() -> None:
    signature = "def name(self, first: int, second: str = '', *, third: bool = False) -> Mapping[str, Sequence[int]]"

    def rows() -> list[tuple[str, SymbolRow]]:
        return [
            (f"package/module{file:04}.py", row(f"Class{file}.method{file}_{number}", number, f"{signature}  # {file}"))
            for file in range(2000)
            for number in range(25)
        ]

    given_rows = rows()
    tracemalloc.start()
    try:
        table = SymbolTable()
        table.load({path for path, _ in given_rows}, iter(given_rows))
        used, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.symbol_count == 50_000
    assert used < 30 * 2**20
    assert peak < 40 * 2**20
