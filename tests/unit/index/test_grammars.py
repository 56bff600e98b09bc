from __future__ import annotations

import threading
import time
import tracemalloc
from dataclasses import replace
from types import MappingProxyType

import pytest
import tree_sitter_python
from tree_sitter import Language, Parser

from intract_lsp.index import grammars as module
from intract_lsp.index.chunker import chunk_file
from intract_lsp.index.grammars import SPECS, Grammars
from intract_lsp.languages import language_id


def test_every_language_of_the_issue_has_a_grammar() -> None:
    grammars = Grammars()
    for suffix in ("py", "js", "jsx", "ts", "tsx", "go", "rs", "java", "c", "h", "cpp", "cs", "rb", "php", "lua", "sh"):
        tree = grammars.parse(language_id(f"a.{suffix}"), b"x")
        assert tree is not None, suffix
    assert grammars.parse("plaintext", b"x") is None


def test_every_node_type_of_the_tables_exists() -> None:
    """A misspelled node type would silently define nothing. C and C++ share a table, as do the scripts."""
    known: dict[str, set[str]] = {}
    languages: dict[str, list[Language]] = {}
    for name, spec in SPECS.items():
        tree = Grammars().parse(name, b"")
        assert tree is not None
        family = {
            "c": "cpp",
            "javascript": "typescript",
            "javascriptreact": "typescript",
            "typescriptreact": "typescript",
        }.get(name, name)
        known.setdefault(family, set()).update(spec.roles)
        languages.setdefault(family, []).append(tree.language)
    for family, types in known.items():
        for type_ in types - {"ERROR", "comment"}:
            ids = [language.id_for_node_kind(type_, True) for language in languages[family]]
            assert any(ids), f"{family} has no {type_}"


def test_parsing_gives_the_same_tree_piece_by_piece_and_across_characters() -> None:
    source = ("# ü" + "é" * 3000 + "\n" + "def f(ä):\n    return 'ö' * 3\n" * 400).encode()
    tree = Grammars().parse("python", source)
    assert tree is not None
    assert not tree.root_node.has_error
    assert tree.root_node.end_byte == len(source)
    assert tree.root_node.named_child_count == 401


def test_a_missing_wheel_means_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    broken = {**SPECS, "go": replace(SPECS["go"], wheel="tree_sitter_that_is_not_there")}
    monkeypatch.setattr(module, "SPECS", MappingProxyType(broken))
    grammars = Grammars()
    for _ in range(3):
        chunks = chunk_file("a.go", "func f() {\n\treturn\n}\n", grammars)
        assert [(chunk.symbol, chunk.start_line, chunk.end_line) for chunk in chunks] == [("", 0, 3)]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("header", "language"),
    [(b"struct a { int b; };\n", "c"), (b"class A {\n};\n", "cpp"), (b"#ifdef X\nnamespace a {}\n#endif", "cpp")],
)
def test_a_header_file_is_c_or_cpp_by_its_text(header: bytes, language: str) -> None:
    assert Grammars().grammar("c", header) == language


def test_other_threads_run_while_a_large_file_is_parsed() -> None:
    source = b"def f(a, b):\n    return [a, b, {'c': a}]\n" * 20_000
    grammars = Grammars()
    grammars.parse("python", b"")
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    grammars.parse("python", source)
    end = time.perf_counter()
    done.set()
    thread.join()
    assert sum(start < at < end for at in ticks) >= 3


def test_what_was_parsed_is_let_go() -> None:
    """The binding keeps a reference to every piece that its reader returned: 100 texts would stay in memory, twice."""
    grammars = Grammars()
    source = b"def f(a, b):\n    return a + b\n\n" * 3000
    tracemalloc.start()
    try:
        grammars.parse("python", source)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            grammars.parse("python", source)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < len(source)


def test_a_text_of_any_length_is_read_whole() -> None:
    parser = Parser(Language(tree_sitter_python.language()))
    grammars = Grammars()
    for lines in (0, 1, 255, 256, 257, 512, 3, 600):
        source = b"x = [1, 2, 3333]\n"[:16] * lines
        tree = grammars.parse("python", source)
        assert tree is not None
        assert str(tree.root_node) == str(parser.parse(source).root_node)
