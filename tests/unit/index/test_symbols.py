from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.index.chunker import chunk_file
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.symbols import Definition, DefinitionKind, definitions, names_used

GRAMMARS = Grammars()


def defined(path: str, text: str) -> dict[str, Definition]:
    return {one.qualified: one for one in definitions(path, textwrap.dedent(text).lstrip("\n"), GRAMMARS)}


PYTHON = '''
LIMIT: int = 3
"""Doc."""
NAMES = {
    "a": 1,
    "b": 2,
    "c": 3,
    "d": 4,
}

@app.route("/")
async def fetch(
    url: str,  # where
    *,
    timeout: float = 1.0,
) -> bytes:
    """Fetch it.

    More.
    """
    return b""

@dataclass(frozen=True)
class Point(Base):
    """Doc."""
    x: int
    y: int = 0
    def __init__(self, z):
        self.z = z
        self.w: list[int] = []
        self.x = 3
        self._cache = {}
    @property
    def length(self) -> float:
        return 1.0
    @classmethod
    def origin(cls) -> Point: return cls()
    class Inner:
        pass

try:
    import json
except ImportError:
    json = None
if True:
    def hidden(): ...
'''


def test_python() -> None:
    found = defined("a.py", PYTHON)
    assert {name: one.kind.value for name, one in found.items()} == {
        "LIMIT": "value",
        "NAMES": "value",
        "fetch": "function",
        "Point": "class",
        "Point.__init__": "method",
        "Point.length": "method",
        "Point.origin": "method",
        "Point.Inner": "class",
        "json": "value",
        "hidden": "function",
    }
    assert found["LIMIT"].signature == "LIMIT: int = 3"
    assert found["NAMES"].signature == 'NAMES = {\n    "a": 1,\n    "b": 2,\n...'
    assert found["fetch"].signature == textwrap.dedent(
        '''\
        async def fetch(
            url: str,  # where
            *,
            timeout: float = 1.0,
        ) -> bytes:
            """Fetch it."""'''
    )
    assert (found["fetch"].start_line, found["fetch"].end_line) == (9, 20)
    assert found["Point"].signature == textwrap.dedent(
        """\
        @dataclass(frozen=True)
        class Point(Base):
            x: int
            y: int = 0
            self.w: list[int]
            # self.z, self._cache
            def __init__(self, z): ...
            @property
            def length(self) -> float: ...
            @classmethod
            def origin(cls) -> Point: ...
            class Inner: ..."""
    )
    assert found["Point.length"].signature == "@property\ndef length(self) -> float: ..."


def test_a_class_with_very_many_members_keeps_fields_and_public_methods() -> None:
    fields = "".join(f"    f{index}: int\n" for index in range(40))
    methods = "".join(f"    def _p{index}(self): ...\n    def m{index}(self): ...\n" for index in range(10))
    lines = defined("a.py", f"class Big:\n{fields}{methods}")["Big"].signature.split("\n")
    assert len(lines) <= 25
    assert "    f0: int" in lines
    assert "    def m0(self): ..." in lines
    assert not any("_p" in line for line in lines)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "a.ts",
            """
            export interface Options<T> { a: string; run(x: number): T }
            export type Id = string | number;
            export enum Color { Red, Green = 2 }
            export const LIMIT = 3;
            export const run = async (x: number): Promise<void> => {
              await x;
            };
            export default class A extends B {
              private x: number = 1;
              constructor(private y: string) { super(); this.z = 1; }
              get w(): number { return 1 }
            }
            export function f<T>(a: T): T { return a }
            exports.g = function (a) { return a };
            """,
            {
                "Options": "export interface Options<T> { a: string; run(x: number): T }",
                "Options.run": "run(x: number): T",
                "Id": "export type Id = string | number;",
                "Color": "export enum Color { Red, Green = 2 }",
                "LIMIT": "export const LIMIT = 3;",
                "run": "export const run = async (x: number): Promise<void> => ...",
                "A": "export default class A extends B {\n    private x: number = 1\n    // this.z\n"
                "    constructor(private y: string);\n    get w(): number;\n}",
                "A.constructor": "constructor(private y: string);",
                "A.w": "get w(): number;",
                "f": "export function f<T>(a: T): T;",
                "g": "exports.g = function (a);",
            },
        ),
        (
            "a.go",
            "\n".join(
                [
                    "package a",
                    "",
                    "type S struct {",
                    '\tA int `json:"a"`',
                    "\tb string",
                    "}",
                    "",
                    "func (s *S) Run(a int) (string, error) {",
                    '\treturn "", nil',
                    "}",
                    "",
                    "func New[T any](a T) *S { return nil }",
                    "",
                    "type Runner interface {",
                    "\tRun(a int) (string, error)",
                    "}",
                    "",
                    "type Id = int",
                    "",
                    "const (",
                    "\tFirst = 1",
                    "\tSecond = 2",
                    ")",
                    "",
                    'var ErrNone = errors.New("none")',
                ]
            ),
            {
                "S": 'type S struct {\n\tA int `json:"a"`\n\tb string\n}\nfunc (s *S) Run(a int) (string, error)',
                "S.Run": "func (s *S) Run(a int) (string, error)",
                "New": "func New[T any](a T) *S",
                "Runner": "type Runner interface {\n\tRun(a int) (string, error)\n}",
                "Runner.Run": "Run(a int) (string, error)",
                "Id": "type Id = int",
                "First": "const First = 1",
                "Second": "const Second = 2",
                "ErrNone": 'var ErrNone = errors.New("none")',
            },
        ),
        (
            "a.rs",
            """
            #[derive(Debug)]
            pub struct S<T> {
                pub a: u8,
            }
            pub enum E { A, B(u8) }
            impl<T> S<T> {
                pub fn new(a: u8) -> Self { Self { a } }
            }
            impl<T> Display for S<T> { fn fmt(&self) {} }
            pub trait Run { fn run(&self) -> u8; }
            pub const LIMIT: u8 = 1;
            mod inner { pub fn deep() {} }
            """,
            {
                "S": "pub struct S<T> {\n    pub a: u8,\n}\nimpl<T> S<T> {\n    pub fn new(a: u8) -> Self;\n}\n"
                "impl<T> Display for S<T> { ... }",
                "E": "pub enum E { A, B(u8) }",
                "S.new": "pub fn new(a: u8) -> Self;",
                "S.fmt": "fn fmt(&self);",
                "Run": "pub trait Run { fn run(&self) -> u8; }",
                "Run.run": "fn run(&self) -> u8;",
                "LIMIT": "pub const LIMIT: u8 = 1;",
                "deep": "pub fn deep();",
            },
        ),
        (
            "A.java",
            """
            @Service
            public class A<T> extends B {
                private final int x = 1;
                public A(int x) { }
                @Override
                public int run(int a) throws E { return 1; }
            }
            interface I { int m(); }
            enum E { X, Y }
            record R(int a) { }
            """,
            {
                "A": "public class A<T> extends B {\n    private final int x = 1;\n    public A(int x);\n"
                "    public int run(int a) throws E;\n}",
                "A.run": "public int run(int a) throws E;",
                "I": "interface I { int m(); }",
                "I.m": "int m();",
                "E": "enum E { X, Y }",
                "R": "record R(int a) { }",
            },
        ),
        (
            "a.h",
            """
            #define MOST(a, b) ((a) > (b) ? (a) : (b))
            typedef struct { int a; } pair;
            typedef int (*callback)(int);
            struct node {
              int a; /* what */
              struct node *next;
            };
            int run(int a, const char *b);
            static const int limit = 1;
            """,
            {
                "MOST": "#define MOST(a, b) ((a) > (b) ? (a) : (b))",
                "pair": "typedef struct { int a; } pair;",
                "callback": "typedef int (*callback)(int);",
                "node": "struct node {\n  int a; /* what */\n  struct node *next;\n};",
                "run": "int run(int a, const char *b);",
                "limit": "static const int limit = 1;",
            },
        ),
        (
            "a.cpp",
            """
            namespace n {
            template <typename T> class LIB_API A : public B {
             public:
              A(int x) : y(x) {}
              virtual void f(int a) const = 0;
              int y;
            };
            int* A::g(int a) const { return 0; }
            enum class E { X, Y };
            using Id = int;
            bool operator==(A a, A b) { return true; }
            }
            """,
            {
                "A": "template <typename T> class LIB_API A : public B {\n    virtual void f(int a) const = 0;\n"
                "    int y;\n    A(int x);\n}\nint* A::g(int a) const;",
                "A.g": "int* A::g(int a) const;",
                "E": "enum class E { X, Y }",
                "Id": "using Id = int;",
                "operator==": "bool operator==(A a, A b);",
            },
        ),
        (
            "a.cs",
            """
            namespace N {
                [Serializable]
                public class A<T> : B where T : C {
                    public int P { get; set; }
                    public A(int a) : base(a) { }
                    public int Run(int a) => a;
                }
                public interface I { void M(); }
                enum E { X, Y }
            }
            """,
            {
                "A": "public class A<T> : B where T : C {\n    public int P { get; set; }\n"
                "    public A(int a) : base(a);\n    public int Run(int a);\n}",
                "A.Run": "public int Run(int a);",
                "I": "public interface I { void M(); }",
                "I.M": "void M();",
                "E": "enum E { X, Y }",
            },
        ),
        (
            "a.rb",
            """
            module M
              class A < B
                attr_reader :x
                LIMIT = 1
                def run(a, b = 1)
                  a
                end
                def self.make; end
              end
            end
            """,
            {
                "M": "module M\n    class A < B\nend",
                "M.A": "class A < B\n    attr_reader :x\n    LIMIT = 1\n    def run(a, b = 1)\n    def self.make\nend",
                "M.A.run": "def run(a, b = 1)",
                "M.A.make": "def self.make",
            },
        ),
        (
            "a.php",
            """
            <?php
            namespace A\\B;
            class F extends G {
                const K = 1;
                private int $x = 1;
                public function run(int $a): string { return ""; }
            }
            function helper($a) { }
            """,
            {
                "F": "class F extends G {\n    const K = 1;\n    private int $x = 1;\n"
                "    public function run(int $a): string;\n}",
                "F.run": "public function run(int $a): string;",
                "helper": "function helper($a);",
            },
        ),
        (
            "a.lua",
            """
            local M = {}
            function M.run(a, b)
              return a
            end
            function M:go() end
            local function hidden(x) return x end
            """,
            {
                "M": "local M = {}",
                "M.run": "function M.run(a, b)",
                "M.go": "function M:go()",
                "hidden": "local function hidden(x)",
            },
        ),
        (
            "a.sh",
            "LIMIT=1\nrun() {\n  echo\n}\n",
            {"LIMIT": "LIMIT=1", "run": "run()"},
        ),
    ],
)
def test_signatures_of_each_language(path: str, text: str, expected: dict[str, str]) -> None:
    assert {name: one.signature for name, one in defined(path, text).items()} == expected


def test_a_file_that_is_broken_in_the_middle_keeps_its_other_definitions() -> None:
    broken = "class A:\n    def m(self, x):\n        return = (3 +\n"
    text = f"def before(a):\n    return a\n\n{broken}\ndef after(b):\n    return b\n"
    assert {"before", "after"} <= {one.name for one in definitions("a.py", text, GRAMMARS)}


def test_no_grammar_no_definitions() -> None:
    assert definitions("a.yaml", "a: 1\n", GRAMMARS) == []
    assert definitions("a.md", "# A\n", GRAMMARS) == []


def test_the_lines_of_a_notebook_are_counted_through() -> None:
    text = """{"cells": [{"cell_type": "markdown", "source": "# T\\nx"},
      {"cell_type": "code", "source": ["!ls\\n", "import a.b as c\\n", "def f(): pass"]}]}"""
    assert [(one.qualified, one.start_line) for one in definitions("n.ipynb", text, GRAMMARS)] == [("f", 4)]
    assert [chunk.start_line for chunk in chunk_file("n.ipynb", text, GRAMMARS)] == [0, 2]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        ["a.py", "a.ts", "a.go", "a.rs", "A.java", "a.cpp", "a.c", "a.cs", "a.rb", "a.php", "a.lua", "a.sh"]
    ),
    st.lists(
        st.sampled_from(
            [
                *(
                    "def f(a",
                    ") -> int:",
                    "class A:",
                    "    x: int",
                    "def",
                    "struct",
                    "class",
                    "fn f<",
                    "impl",
                    "type T",
                ),
                *(
                    "};",
                    "{",
                    "(",
                    ")",
                    "const a =",
                    "template <",
                    "operator",
                    "@dec",
                    "enum E {",
                    "\ud800",
                    "func (s *",
                ),
                *("export default", "namespace", "'", '"""', "=>", "end", "module", "x" * 5000, "typedef", "#define"),
            ]
        ),
        max_size=60,
    ),
    st.sampled_from(["\n", " ", "\r\n"]),
)
def test_any_text_has_definitions_with_short_signatures(path: str, words: list[str], between: str) -> None:
    text = between.join(words)
    rows = text.count("\n") + 1
    for one in definitions(path, text, GRAMMARS):
        assert one.name
        assert 0 <= one.start_line < one.end_line <= rows
        assert one.signature.strip()
        assert one.signature.count("\n") <= 27
        assert max(len(line) for line in one.signature.split("\n")) <= 200
        assert isinstance(one.kind, DefinitionKind)


@pytest.mark.parametrize(
    ("language", "lines", "names"),
    [
        ("python", ["import os  # a comment", "x = open_file(path, 'a string')", "return self.items["], None),
        ("python", ['"""Words of', 'documentation."""', "value = f(x)"], ["x", "f", "value"]),
        ("python", ["a = b", "a = c("], ["c", "a", "b"]),
        ("typescript", ["const x = a.b; // why not", "/* many", "words */", "await y"], ["y", "b", "a", "x"]),
        ("c", ["#include <stdio.h>", "int *p = (struct s *) q;"], ["q", "s", "p", "h", "stdio"]),
        ("lua", ["local a = b -- text"], ["b", "a"]),
        ("go", ['s := "https://x.y"', "t"], ["t", "s"]),
        ("python", ["x = unclosed + 'string", "größe"], ["größe", "string", "unclosed", "x"]),
        ("unknown", ["if alpha"], ["alpha", "if"]),
        ("python", [], []),
    ],
)
def test_names_used_nearest_to_the_end_first(language: str, lines: list[str], names: list[str] | None) -> None:
    expected = ["items", "path", "open_file", "x", "os"] if names is None else names
    assert names_used(language, lines) == expected
