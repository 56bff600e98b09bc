from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.index.imports import Import, ImportedName, find_imports
from intract_lsp.index.keywords import KEYWORDS
from intract_lsp.index.resolve import MOST_FILES, ImportResolver


def found(language: str, text: str) -> list[tuple[int, str, dict[str, str]]]:
    """Level, module, and the names in the module by the names in the file."""
    return [
        (one.level, one.module, {name.alias: name.name for name in one.names}) for one in find_imports(language, text)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import a", [(0, "a", {"a": "*"})]),
        ("import a.b as c, d", [(0, "a.b", {"c": "*"}), (0, "d", {"d": "*"})]),
        ("from a.b import c as d, e", [(0, "a.b", {"d": "c", "e": "e"})]),
        ("from . import x", [(1, "", {"x": "x"})]),
        ("from ..a import (\n    b,  # why\n    c as d,\n)\n", [(2, "a", {"b": "b", "d": "c"})]),
        ("from a import b, \\\n    c\n", [(0, "a", {"b": "b", "c": "c"})]),
        ("from a import *", [(0, "a", {"*": "*"})]),
        ("def f():\n    from a import b\n    import c\n", [(0, "a", {"b": "b"}), (0, "c", {"c": "*"})]),
        ("from a import b, ", [(0, "a", {"b": "b"})]),
        ("from a import (b,\n    c", [(0, "a", {"b": "b", "c": "c"})]),
        ("from a import (b,\n\ndef f(x):\n    return x\n", [(0, "a", {"b": "b"})]),
        ("from a import ", [(0, "a", {})]),
        ("from  import x\nimportant = 1\nfrom __future__ imp", []),
        ("x = 'from a import b'", []),
    ],
)
def test_python_imports(text: str, expected: list[tuple[int, str, dict[str, str]]]) -> None:
    assert found("python", text) == expected
    assert found("python", text.replace("\n", "\r\n")) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("typescript", "import x, { y as z, type W } from './m';", [("./m", {"z": "y", "W": "W", "x": "default"})]),
        ("typescript", "import type { A } from \"a\"\nimport * as n from 'b'", [("a", {"A": "A"}), ("b", {"n": "*"})]),
        ("typescript", "import {\n  a,\n  b,\n} from './c'", [("./c", {"a": "a", "b": "b"})]),
        ("typescript", "export { a } from './b';\nexport * from './c'", [("./b", {"a": "a"}), ("./c", {"*": "*"})]),
        ("javascript", "import './a.css'", [("./a.css", {})]),
        (
            "javascript",
            "const a = require('./b');\nconst { c, d: e } = require('f')\nawait import('./g')",
            [("./b", {"a": "*"}), ("f", {"c": "c", "e": "d"}), ("./g", {})],
        ),
        ("javascript", "import { a, from './b'", [("./b", {"a": "a"})]),
        ("javascript", "export const from = 'x';\nimport { a", []),
        (
            "go",
            'import "fmt"\nimport (\n\t"a/b"\n\tx "c/d"\n)',
            [("fmt", {"fmt": "*"}), ("a/b", {"b": "*"}), ("c/d", {"x": "*"})],
        ),
        (
            "rust",
            "pub use crate::a::{b, c as d, e::{self, f}};\nmod g;\nuse std::fmt;",
            [
                ("crate::a", {"b": "b", "d": "c", "e": "e"}),
                ("crate::a::e", {"f": "f"}),
                ("self::g", {"g": "*"}),
                ("std", {"fmt": "fmt"}),
            ],
        ),
        (
            "java",
            "import a.b.C;\nimport static a.D.e;\nimport a.f.*;",
            [("a.b", {"C": "C"}), ("a.D", {"e": "e"}), ("a.f", {"*": "*"})],
        ),
        ("csharp", "using A.B;\nusing X = C.D;\nusing (var y = 1) { }", [("A.B", {"*": "*"}), ("C.D", {"X": "*"})]),
        ("c", '#include "a/b.h"\n# include <c.h>', [("a/b.h", {"*": "*"}), ("c.h", {"*": "*"})]),
        ("ruby", "require 'a/b'\nrequire_relative \"../c\"", [("a/b", {"*": "*"}), ("../c", {"*": "*"})]),
        (
            "php",
            "use A\\B\\C as D;\nuse A\\{E, F as G};\nrequire_once __DIR__ . '/x.php';",
            [("A\\B", {"D": "C"}), ("A", {"E": "E", "G": "F"}), ("/x.php", {"*": "*"})],
        ),
        ("lua", "local a = require('b.c')\nrequire \"d\"", [("b.c", {"a": "*"}), ("d", {"*": "*"})]),
        ("shellscript", 'source ./a.sh\n. "b.sh"', [("./a.sh", {"*": "*"}), ("b.sh", {"*": "*"})]),
        ("plaintext", "import a", []),
    ],
)
def test_imports_of_each_language(language: str, text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(module, names) for _, module, names in found(language, text)] == expected


def test_lines_are_counted() -> None:
    text = "import a\n\nfrom b import (\n  c,\n)\n\n    import d\n"
    assert [one.line for one in find_imports("python", text)] == [0, 2, 6]


FILES = [
    *("src/pkg/__init__.py", "src/pkg/a.py", "src/pkg/sub/__init__.py", "src/pkg/sub/b.py", "src/pkg/sub/json.py"),
    *("tests/conftest.py", "tests/test_a.py", "libs/one/src/one/core.py", "libs/two/tool.py", "namespace/inner/c.py"),
    *("web/src/app.ts", "web/src/components/Button.tsx", "web/src/components/index.ts", "web/src/util.js"),
    *("packages/shared/package.json", "packages/shared/src/index.ts", "web/src/types.d.ts"),
    *("cmd/root.go", "cmd/root_test.go", "internal/http/client.go", "exec/run.go"),
    *("crates/my-lib/src/lib.rs", "crates/my-lib/src/a.rs", "crates/my-lib/src/a/b.rs", "crates/my-lib/src/c/mod.rs"),
    *("crates/app/src/main.rs",),
    *("java/src/main/java/com/x/Service.java", "java/src/main/java/com/x/Other.java"),
    *("Company.App/Models/User.cs", "Company.App/Program.cs"),
    *("include/lib/api.h", "src/native/api.h", "src/native/main.c"),
    *("lib/tool/run.rb", "bin/start.rb"),
    *("app/Models/User.php", "app/Http/Control.php", "other/User.php"),
    *("lua/plugin/init.lua", "lua/plugin/util.lua", "scripts/common.sh", "scripts/run.sh"),
    *("größe/ü.py",),
]


@pytest.mark.parametrize(
    ("importing", "language", "text", "expected"),
    [
        ("src/pkg/a.py", "python", "from .sub import b", ["src/pkg/sub/b.py", "src/pkg/sub/__init__.py"]),
        ("src/pkg/a.py", "python", "from . import a, sub", ["src/pkg/sub/__init__.py", "src/pkg/__init__.py"]),
        ("src/pkg/sub/b.py", "python", "from ..a import x", ["src/pkg/a.py"]),
        ("src/pkg/sub/b.py", "python", "from ...... import x", []),
        ("tests/test_a.py", "python", "from pkg.sub.b import x", ["src/pkg/sub/b.py"]),
        ("tests/test_a.py", "python", "import pkg.a", ["src/pkg/a.py"]),
        ("tests/test_a.py", "python", "from conftest import x", ["tests/conftest.py"]),
        ("tests/test_a.py", "python", "import one.core", ["libs/one/src/one/core.py"]),
        ("tests/test_a.py", "python", "import json, tool, numpy", []),
        ("tests/test_a.py", "python", "from namespace.inner import c", ["namespace/inner/c.py"]),
        ("tests/test_a.py", "python", "from größe.ü import x", ["größe/ü.py"]),
        ("web/src/app.ts", "typescript", "import { Button } from './components'", ["web/src/components/index.ts"]),
        ("web/src/app.ts", "typescript", "import B from './components/Button.js'", ["web/src/components/Button.tsx"]),
        ("web/src/components/Button.tsx", "typescriptreact", "import '../util'", ["web/src/util.js"]),
        ("web/src/components/Button.tsx", "typescriptreact", "import x from '@/types'", ["web/src/types.d.ts"]),
        ("web/src/app.ts", "typescript", "import x from '@scope/shared'", ["packages/shared/src/index.ts"]),
        ("web/src/app.ts", "typescript", "import x from 'react'", []),
        ("cmd/root.go", "go", 'import "github.com/u/tool/internal/http"', ["internal/http/client.go"]),
        ("internal/http/client.go", "go", 'import "tool/cmd"', ["cmd/root.go"]),
        ("cmd/root.go", "go", 'import ("os/exec"; "net/http"; "fmt")\nimport "os/exec"', []),
        ("crates/my-lib/src/c/mod.rs", "rust", "use crate::a::b::X;", ["crates/my-lib/src/a/b.rs"]),
        ("crates/my-lib/src/a/b.rs", "rust", "use super::Y;", ["crates/my-lib/src/a.rs"]),
        ("crates/my-lib/src/lib.rs", "rust", "mod c;", ["crates/my-lib/src/c/mod.rs"]),
        ("crates/my-lib/src/a.rs", "rust", "mod b;", ["crates/my-lib/src/a/b.rs"]),
        ("crates/app/src/main.rs", "rust", "use my_lib::a::Z;", ["crates/my-lib/src/a.rs"]),
        ("crates/app/src/main.rs", "rust", "use my_lib::Z;\nuse std::fmt;", ["crates/my-lib/src/lib.rs"]),
        (
            "java/src/main/java/com/x/Other.java",
            "java",
            "import com.x.Service;",
            ["java/src/main/java/com/x/Service.java"],
        ),
        ("java/A.java", "java", "import static com.x.Service.run;", ["java/src/main/java/com/x/Service.java"]),
        ("java/src/main/java/com/x/Other.java", "java", "import com.x.*;", ["java/src/main/java/com/x/Service.java"]),
        ("Company.App/Program.cs", "csharp", "using Company.App.Models;", ["Company.App/Models/User.cs"]),
        ("Company.App/Program.cs", "csharp", "using System.Models;", []),
        ("src/native/main.c", "c", '#include "api.h"', ["src/native/api.h", "include/lib/api.h"]),
        ("src/native/main.c", "c", "#include <lib/api.h>", ["include/lib/api.h"]),
        ("bin/start.rb", "ruby", "require 'tool/run'", ["lib/tool/run.rb"]),
        ("bin/start.rb", "ruby", "require_relative '../lib/tool/run'", ["lib/tool/run.rb"]),
        ("app/Http/Control.php", "php", "use App\\Models\\User;", ["app/Models/User.php"]),
        ("lua/plugin/init.lua", "lua", "require('plugin.util')", ["lua/plugin/util.lua"]),
        ("x.lua", "lua", "require('plugin')", ["lua/plugin/init.lua"]),
        ("scripts/run.sh", "shellscript", 'source "$(dirname "$0")/common.sh"', []),
        ("scripts/run.sh", "shellscript", "source ${HERE}/common.sh", ["scripts/common.sh"]),
    ],
)
def test_resolving(importing: str, language: str, text: str, expected: list[str]) -> None:
    resolver = ImportResolver(FILES)
    files = [path for one in find_imports(language, text) for path in resolver.resolve(one, importing)]
    assert files == expected


def test_the_nearest_of_several_comes_first_and_there_are_not_too_many() -> None:
    files = [f"p{index}/src/util/io.h" for index in range(60)]
    resolver = ImportResolver(files)
    found = resolver.resolve(Import("c", "util/io.h"), "p7/src/main.c")
    assert found[0] == "p7/src/util/io.h"
    assert len(found) == MOST_FILES


def test_resolving_is_fast_in_a_large_workspace() -> None:
    files = [f"pkg{index % 40}/sub{index % 97}/module{index}.py" for index in range(20_000)]
    files += [f"pkg{index}/sub{inner}/__init__.py" for index in range(40) for inner in range(97)]
    resolver = ImportResolver(files)
    wanted = [Import("python", f"pkg{index % 40}.sub{index % 97}.module{index}") for index in range(0, 20_000, 20)]
    start = time.process_time()
    found = [resolver.resolve(one, "pkg3/sub3/module3.py") for one in wanted]
    assert (time.process_time() - start) / len(wanted) < 0.001
    assert found[5] == ["pkg20/sub3/module100.py"]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(KEYWORDS)),
    st.lists(
        st.sampled_from(
            [
                *(
                    "import",
                    "from",
                    "use",
                    "{",
                    "}",
                    "(",
                    ")",
                    ".",
                    "..",
                    "::",
                    "a",
                    "b.c",
                    "as",
                    ",",
                    ";",
                    "\n",
                    '"x/y"',
                ),
                *(
                    "'../z'",
                    "require",
                    "#include",
                    "<q.h>",
                    "*",
                    "self",
                    "super",
                    "crate",
                    "mod",
                    "\\",
                    "using",
                    "source",
                ),
                *("export", " ", "\t", "\r\n", "ü", "\ud800", "=", "const", "__DIR__", "/", "@/w", "package", "static"),
            ]
        ),
        max_size=40,
    ),
)
def test_any_text_has_imports_that_can_be_looked_for(language: str, words: list[str]) -> None:
    resolver = ImportResolver(FILES)
    for text in ("".join(words), " ".join(words)):
        for one in find_imports(language, text):
            assert set(resolver.resolve(one, "src/pkg/a.py")) <= set(FILES)
            assert all(isinstance(name, ImportedName) for name in one.names)


@pytest.mark.parametrize("language", sorted(KEYWORDS))
@pytest.mark.parametrize(
    "piece", ["import ", "from a import (", "use {", "const {", "{", " ", "a,", "import {a,", "using ("]
)
def test_no_pattern_takes_quadratic_time(language: str, piece: str) -> None:
    text = piece * (200_000 // len(piece))
    start = time.process_time()
    find_imports(language, text)
    assert time.process_time() - start < 1.0
