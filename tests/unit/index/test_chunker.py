from __future__ import annotations

import re
import textwrap
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.index.chunk import ChunkKind, SourceChunk
from intract_lsp.index.chunker import LONGEST_LINE, chunk_file
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.splitting import MOST_CHARACTERS, MOST_LINES

GRAMMARS = Grammars()
CLOSES_ONLY = re.compile(r"\W*(?:(?:[\])}]+[;,]?|#\s*endif|\bend)\s*(?:(?://|/\*|#|--).*)?)?")


def chunked(path: str, text: str) -> list[SourceChunk]:
    return chunk_file(path, textwrap.dedent(text), GRAMMARS)


def named(chunks: list[SourceChunk]) -> dict[str, str]:
    return {chunk.symbol: chunk.text for chunk in chunks}


def check_laws(path: str, text: str) -> list[SourceChunk]:
    chunks = chunk_file(path, text, GRAMMARS)
    assert chunks == chunk_file(path, text, GRAMMARS)
    lines = [line[:LONGEST_LINE].rstrip() for line in re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))]
    shown = [False] * len(lines)
    starts = [chunk.start_line for chunk in chunks]
    assert starts == sorted(starts)
    for chunk in chunks:
        assert len(chunk.text) <= MOST_CHARACTERS
        assert chunk.text.count("\n") < MOST_LINES
        assert chunk.text.strip()
        assert 0 <= chunk.start_line < chunk.end_line <= len(lines)
        assert chunk.path == path
        own = set(chunk.text.split("\n"))
        for row in range(chunk.start_line, chunk.end_line):
            shown[row] = shown[row] or lines[row] in own
    missing = [row for row, line in enumerate(lines) if not shown[row] and not CLOSES_ONLY.fullmatch(line)]
    assert not missing, [(row, lines[row]) for row in missing[:3]]
    return chunks


PYTHON = '''
"""Module."""

import os


# Says why.
@cache
def short(a):
    """Doc."""
    return a


class Small:
    """Fits."""

    x: int = 1

    def method(self):
        return self.x
'''


def test_a_function_comes_with_its_comment_and_decorators_and_a_small_class_as_one() -> None:
    chunks = check_laws("a.py", PYTHON)
    assert [(chunk.kind, chunk.symbol, chunk.start_line, chunk.end_line) for chunk in chunks] == [
        (ChunkKind.CODE, "", 1, 4),
        (ChunkKind.DEFINITION, "short", 6, 11),
        (ChunkKind.DEFINITION, "Small", 13, 20),
    ]
    assert chunks[1].text.startswith("# Says why.\n@cache\ndef short(a):")
    assert {chunk.language for chunk in chunks} == {"python"}


def test_line_numbers_are_the_same_whatever_ends_a_line() -> None:
    plain = chunked("a.py", PYTHON)
    for end in ("\r\n", "\r"):
        assert chunk_file("a.py", textwrap.dedent(PYTHON).replace("\n", end), GRAMMARS) == plain
    assert chunk_file("a.py", "\ufeff" + textwrap.dedent(PYTHON), GRAMMARS) == plain


def large_class() -> str:
    method = (
        "    @property\n    def m{0}(self,\n        a: int,\n    ) -> int:\n" + "        x = compute(a, {0})\n" * 12
    )
    return (
        "@dataclass\nclass Large(Base):\n    field: int = 1\n\n    def tiny(self):\n        return 1\n\n"
        + "\n".join((method + "        return {0}\n").format(index) for index in range(6))
    )


def test_a_large_class_shows_fields_small_methods_and_the_headers_of_the_others() -> None:
    chunks = check_laws("a.py", large_class())
    whole = named(chunks)["Large"]
    assert whole.startswith("@dataclass\nclass Large(Base):\n    field: int = 1\n")
    assert "        return 1\n" in whole
    assert "    @property\n    def m3(self, a: int) -> int: ..." in whole
    assert "compute" not in whole
    assert named(chunks)["Large.m3"].startswith(
        "class Large(Base):\n    @property\n    def m3(self,\n        a: int,\n"
    )
    assert named(chunks)["Large.m3"].endswith("return 3")
    assert len(chunks) == 7


def test_a_long_function_is_cut_between_statements_and_each_part_has_the_header() -> None:
    statement = (
        "        if value > {0}:\n            first(value)\n            second(value)\n            third(value)\n"
    )
    body = "".join(statement.format(index) for index in range(40))
    chunks = check_laws("a.py", f"class A:\n    def long(self, value):\n{body}")
    parts = [chunk for chunk in chunks if chunk.symbol == "A.long"]
    assert len(parts) > 3
    assert parts[0].text.startswith("class A:\n    def long(self, value):\n        if value > 0:")
    for part in parts[1:]:
        lines = part.text.split("\n")
        assert lines[:3] == ["class A:", "    def long(self, value):", "        # ..."]
        assert lines[3].startswith("        if value >")
        assert lines[-1].strip() == "third(value)"


SAMPLES = {
    "a.ts": """
    // What it does.
    @Injectable()
    export class Service extends Base {
      private count = 0;
      constructor(private name: string) { super(); }
    }
    export const run = async (x: number): Promise<void> => {
      await x;
    };
    export interface Options {
      a: string;
    }
    """,
    "a.go": """
    package main

    // S is one.
    type S struct {
    \tA int
    }

    func (s *S) Run(a int) error {
    \treturn nil
    }
    """,
    "a.rs": """
    /// What it does.
    #[derive(Debug)]
    pub struct S {
        a: u8,
    }

    impl S {
        fn run(&self) -> u8 {
            self.a
        }
    }
    """,
    "A.java": """
    package a.b;

    /** What it does. */
    @Service
    public class A extends B {
        private int x = 1;
        public int run(int a) { return a; }
    }
    """,
    "a.h": """
    #ifndef A_H
    namespace n {
    // What it does.
    template <typename T>
    class LIB_API A : public B {
     public:
      int run(int a) const;
    };
    }  // namespace n
    #endif  // A_H
    """,
    "a.c": """
    /* What it does. */
    static int run(int a)
    {
        return a;
    }
    """,
    "a.cs": """
    namespace N {
        [Serializable]
        public class A {
            public int Run(int a) { return a; }
        }
    }
    """,
    "a.rb": """
    module M
      # What it does.
      class A < B
        attr_reader :x
        def run(a)
          a
        end
      end
    end
    """,
    "a.php": """
    <?php
    namespace A;
    /** What it does. */
    class F extends G {
        private int $x = 1;
        public function run(int $a): string { return ""; }
    }
    """,
    "a.lua": """
    local M = {}
    -- What it does.
    function M.run(a)
      return a
    end
    return M
    """,
    "a.sh": """
    #!/bin/sh
    X=1

    # What it does.
    run() {
      echo 1
    }
    """,
}


@pytest.mark.parametrize(
    ("path", "symbols"),
    [
        ("a.ts", ["Service", "run", "Options"]),
        ("a.go", ["", "S", "S.Run"]),
        ("a.rs", ["S", "S"]),
        ("A.java", ["", "A"]),
        ("a.h", ["", "A"]),
        ("a.c", ["run"]),
        ("a.cs", ["", "A"]),
        ("a.rb", ["M"]),
        ("a.php", ["", "F"]),
        ("a.lua", ["M", "M.run", ""]),
        ("a.sh", ["X", "run"]),
    ],
)
def test_definitions_of_each_language(path: str, symbols: list[str]) -> None:
    chunks = check_laws(path, textwrap.dedent(SAMPLES[path]))
    assert [chunk.symbol for chunk in chunks] == symbols
    documented = [chunk for chunk in chunks if "What it does." in chunk.text]
    assert all(chunk.symbol for chunk in documented)


def test_a_class_in_a_namespace_stands_below_its_line() -> None:
    chunks = chunked("a.h", SAMPLES["a.h"])
    assert chunks[1].text.startswith("namespace n {\n// What it does.\ntemplate <typename T>\nclass LIB_API A")


def test_markdown_by_headings() -> None:
    section = "word " * 60 + "\n\n"
    text = f"# One\n\n{section * 3}## Two\n\n```sh\n# not a heading\n\nls\n```\n{section * 3}### Three\nshort\n"
    chunks = check_laws("a.md", text)
    assert {chunk.kind for chunk in chunks} == {ChunkKind.PROSE}
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["# One", "## Two", "### Three"]


def test_lines_without_a_grammar_are_cut_at_blank_lines_and_do_not_overlap() -> None:
    text = "".join(f"key{index}: value\nother: {'x' * 60}\n\n" for index in range(200))
    chunks = check_laws("a.yaml", text)
    assert len(chunks) > 5
    for one, other in pairwise(chunks):
        assert one.end_line <= other.start_line
        assert other.text.startswith("key")


NOTEBOOK = """{"nbformat": 4, "metadata": {"kernelspec": {"language": "python"}}, "cells": [
 {"cell_type": "markdown", "source": ["# Title\\n", "text"]},
 {"cell_type": "code", "source": "%matplotlib inline\\nimport a\\ndef f(a):\\n    return a\\n",
  "outputs": [{"text": "SECRET OUTPUT"}]},
 {"cell_type": "code", "source": ["%%bash\\n", "ls"]}, {"cell_type": "raw", "source": "raw"}, 7]}"""


def test_notebooks_by_cell_without_outputs() -> None:
    chunks = chunk_file("a.ipynb", NOTEBOOK, GRAMMARS)
    assert [(chunk.kind, chunk.language, chunk.symbol, chunk.start_line) for chunk in chunks] == [
        (ChunkKind.PROSE, "markdown", "", 0),
        (ChunkKind.CODE, "python", "", 2),
        (ChunkKind.DEFINITION, "python", "f", 4),
        (ChunkKind.CODE, "shellscript", "", 6),
    ]
    assert not any("SECRET" in chunk.text or "raw" in chunk.text for chunk in chunks)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', "[" * 100_000])
def test_a_broken_notebook_has_no_chunks(text: str) -> None:
    assert chunk_file("a.ipynb", text, GRAMMARS) == []


PIECES = st.sampled_from(
    [
        *("def f(a):", "class A(B):", "    def m(self):", "        return 1", "    x: int = 1", "@dec", "# note", ""),
        *(
            "if x:",
            "else:",
            "}",
            "{",
            "/*",
            "*/",
            "// note",
            '"""',
            "(",
            "namespace n {",
            "public class A {",
            "fn f() {",
        ),
        *("impl A for B {", "export const f = () => {", "function f() {", "struct S { int a; };", "#define X(a) a"),
        *(
            "x = '" + "y" * 900 + "'",
            "end",
            "module M",
            "type T struct {",
            "<?php",
            "\tfoo(bar);",
            "é = 'ü'",
            "\x0c",
            "\x00",
        ),
        *("  " * 40 + "deep()", "\ud800", "static int f(void);", "template <class T>", "# Title", "word " * 40, "```"),
    ]
)
PATHS = st.sampled_from(
    [
        *("a.py", "a.ts", "a.tsx", "a.js", "a.go", "a.rs", "A.java", "a.c", "a.h", "a.cpp", "a.cs", "a.rb", "a.php"),
        *("a.lua", "a.sh", "a.md", "a.x"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    PATHS,
    st.lists(PIECES, max_size=200),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_laws_hold_for_any_mixture_of_lines(path: str, lines: list[str], end: str) -> None:
    check_laws(path, end.join(lines))


@settings(max_examples=60, deadline=None)
@given(PATHS, st.text(max_size=400))
def test_laws_hold_for_any_text(path: str, text: str) -> None:
    check_laws(path, text)


@settings(max_examples=30, deadline=None)
@given(PATHS, st.binary(max_size=300))
def test_any_bytes_that_were_decoded_somehow(path: str, content: bytes) -> None:
    check_laws(path, content.decode("utf-8", "replace"))
    chunk_file("a.ipynb", content.decode("latin-1"), GRAMMARS)


@pytest.mark.parametrize(
    "text",
    ["class A:\n    " * 3000, "namespace a { " * 5000, "(" * 50_000, "class A { class B {\n" * 2000, "if x:\n" * 5000],
)
@pytest.mark.parametrize("path", ["a.py", "a.cpp", "a.ts"])
def test_deep_nesting_is_no_error(path: str, text: str) -> None:
    check_laws(path, text)


def test_time_is_linear_in_the_lines() -> None:
    block = "def f{0}(a):\n" + "    a = g(a)\n" * 15 + "    return a + {0}\n\n\nX{0} = 1\n\n"

    def seconds(count: int) -> float:
        text = "".join(block.format(index) for index in range(count))
        start = time.process_time()
        chunks = chunk_file("a.py", text, GRAMMARS)
        taken = time.process_time() - start
        assert len(chunks) == 2 * count
        return taken

    seconds(50)
    small = min(seconds(500), seconds(500))
    lines = 9_600 * (block.count("\n"))
    assert lines > 200_000
    assert seconds(9_600) < small * 19.2 * 3
