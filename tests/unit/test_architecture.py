"""The dependency rules of ARCHITECTURE.md, as data, checked on the imports as written."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import intract_lsp

ROOT = Path(intract_lsp.__file__).parent

ALLOWED = {
    # part: what of ours it may import, a part being a subpackage or a module at the top
    "errors": set(),
    "allocator": set(),
    "text": set(),
    "paths": set(),
    "languages": set(),
    "settings": {"errors"},
    "settings_reference": {"settings"},
    "console": set(),
    "logs": {"paths"},
    "location": {"completion", "errors", "languages", "text"},
    "completion": {"errors", "text"},
    "inference": {"allocator", "completion", "errors", "models", "settings"},
    "index": {"allocator", "completion", "errors", "languages", "state", "text"},
    "state": {"errors"},
    "models": {"completion", "errors", "paths"},
    "evaluation": {"completion", "errors", "languages", "text"},
    "training": {
        *("allocator", "completion", "errors", "evaluation", "index", "inference", "languages", "logs", "models"),
        *("paths", "settings", "state", "text"),
    },
    "app": {"completion", "errors", "index", "inference", "models", "paths", "settings", "state", "training"},
    "server": {
        *("app", "completion", "errors", "index", "inference", "languages", "models", "settings", "text"),
        *("training", "version"),
    },
    "finetune": {"app", "console", "training"},
    "oneshot": {
        *("app", "completion", "console", "errors", "evaluation", "index", "inference", "paths", "settings"),
    },
    "doctor": {"errors", "inference", "models", "paths", "settings", "version"},
    "cli": {
        *("app", "completion", "console", "doctor", "errors", "finetune", "location", "logs", "models", "oneshot"),
        *("paths", "server", "settings", "settings_reference", "version"),
    },
    "version": set(),
    "__main__": {"cli"},
}

ONLY_IN = {
    # library: modules that may import it while they are imported, and those that may inside their functions
    "pygls": ({"server"}, set()),
    "lsprotocol": ({"server"}, set()),
    "torch": (
        {
            *(f"inference.{name}" for name in ("buffers", "decoder", "device", "four_bit", "graphs", "merging")),
            *(f"inference.{name}" for name in ("quantize", "torch_loading", "torch_network", "transformers_network")),
            "inference.weights",
            *(f"training.{name}" for name in ("batches", "checkpoint", "group", "ladder", "layers", "lora")),
            *(f"training.{name}" for name in ("network", "optimisers", "output", "peers", "room", "step", "trainer")),
            "training.validation",
        },
        {"models.convert", "doctor", "inference.tokenizer", "inference.model_engine", "training.pipeline"},
    ),
    "numba": ({"inference.jit", "inference.kernels"}, set()),
    "llvmlite": ({"inference.jit"}, set()),
    "lancedb": ({"index.store"}, {"index.compaction"}),
    "pyarrow": ({"index.store", "index.rows"}, set()),
    "sqlite_utils": ({"state", "index.manifest"}, set()),
    "watchdog": ({"index.watcher", "index.inotify"}, set()),
    "datasketch": ({"training.dedupe"}, set()),
    "detect_secrets": ({"index.secrets"}, set()),
    "tree_sitter": (
        {
            *(f"index.{name}" for name in ("grammars", "nodes", "outline", "parsed", "splitting", "signature")),
            "training.spans",
        },
        set(),
    ),
    "tokenizers": ({"inference.tokenizer"}, {"models.convert", "models.gguf_tokenizer"}),
    "pydantic": ({"settings"}, set()),
    "click": ({"cli"}, set()),
}
ONLY_IN["transformers"] = ONLY_IN["peft"] = ONLY_IN["bitsandbytes"] = ONLY_IN["accelerate"] = ONLY_IN["torch"]

COMPLETION_LIBRARY = {
    *("__future__", "asyncio", "collections", "concurrent", "contextlib", "dataclasses", "enum", "functools"),
    *("fnmatch", "itertools", "logging", "math", "re", "threading", "time", "typing", "uuid", "rapidfuzz"),
    *("pathlib.PurePath", "pathlib.PurePosixPath", "traceback.format_tb"),
}
"""What the pure part may use: nothing that reads or writes files, sockets or processes."""

SLOW = (
    "torch",
    "numba",
    "lancedb",
    "pyarrow",
    "tree_sitter",
    "watchdog",
    "detect_secrets",
    "sqlite_utils",
    "transformers",
    "tokenizers",
    "pygls",
    "lsprotocol",
    "pydantic",
    "numpy",
    "huggingface_hub",
)


@dataclass(frozen=True)
class Import:
    module: str
    """Who imports, without the package's name."""
    target: str
    """What, with dots: ``intract_lsp.text.Place`` or ``torch``."""
    lazy: bool

    @property
    def library(self) -> str:
        return self.target.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module} imports {self.target}{' inside a function' if self.lazy else ''}"


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return "version" if name == "__init__" else name


def part(dotted: str) -> str:
    return dotted.partition(".")[0]


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def walk(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        inside = lazy or is_typing or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield child, inside
        yield from walk(child, inside)


def all_imports() -> Iterator[Import]:
    for module, tree in TREES.items():
        for node, lazy in walk(tree):
            if isinstance(node, ast.Import):
                yield from (Import(module, alias.name, lazy) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} has a relative import"
                assert node.module is not None
                names = ["version" if alias.name == "__version__" else alias.name for alias in node.names]
                yield from (Import(module, f"{node.module}.{name}", lazy) for name in names)


IMPORTS = list(all_imports())
OURS = [found for found in IMPORTS if found.library == "intract_lsp"]


def test_the_walk_sees_what_it_must() -> None:
    assert Import("cli.completions", "intract_lsp.server.server.serve", True) in IMPORTS
    assert Import("models.convert", "torch", True) in IMPORTS
    assert len(OURS) > 100


def test_every_part_has_a_row() -> None:
    assert {part(module) for module in TREES} == set(ALLOWED)


def test_edges() -> None:
    wrong = []
    for found in OURS:
        own, target = part(found.module), part(found.target.removeprefix("intract_lsp."))
        if target != own and target not in ALLOWED[own]:
            wrong.append(str(found))
    assert not wrong


def test_only_the_command_line_and_the_composition_root_start_the_server() -> None:
    users = {found.module for found in OURS if found.target.startswith("intract_lsp.server")}
    assert {part(user) for user in users} <= {"server", "cli", "app"}


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_where_they_belong(library: str) -> None:
    at_import, in_functions = ONLY_IN[library]
    wrong = []
    for found in IMPORTS:
        allowed = at_import | (in_functions if found.lazy else set())
        if found.library == library and not {found.module, part(found.module)} & allowed:
            wrong.append(str(found))
    assert not wrong


def test_completion_is_pure() -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if part(found.module) == "completion"
        and not {found.library, found.target} & (COMPLETION_LIBRARY | {"intract_lsp"})
    ]
    for module, tree in TREES.items():
        if part(module) == "completion":
            calls = (node.func for node, _ in walk(tree) if isinstance(node, ast.Call))
            wrong += [f"{module} calls {ast.unparse(call)}" for call in calls if ast.unparse(call) in ("open", "print")]
    assert not wrong


def test_the_command_line_starts_light() -> None:
    code = f"import sys, intract_lsp.cli; print([name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


MUTABLE_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "field"}
MUTATORS = {
    *("append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault", "add", "discard"),
    *("sort", "reverse", "appendleft"),
}


def module_level_names(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((ast.unparse(target), node.value) for target in node.targets)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.target), node.value


def mutated_names(tree: ast.Module) -> Iterator[str]:
    """Names that are changed in place: by a method, by an item or by an augmented assignment."""
    for node, _ in walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            yield ast.unparse(node.func.value)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            yield ast.unparse(node.value)
        elif isinstance(node, ast.AugAssign):
            yield ast.unparse(node.target)


def test_no_mutable_state_at_module_level() -> None:
    """A list, dict or set at module level is a constant: named in capitals and changed nowhere."""
    mutated = {name.rpartition(".")[2] for tree in TREES.values() for name in mutated_names(tree)}
    wrong = []
    for module, tree in TREES.items():
        for name, value in module_level_names(tree):
            called = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
            mutable = isinstance(value, MUTABLE_DISPLAYS) or called in MUTABLE_CALLS
            if mutable and name != "__all__" and (not name.isupper() or name in mutated):
                wrong.append(f"{module}.{name}")
        wrong += [f"{module}: global" for node, _ in walk(tree) if isinstance(node, ast.Global)]
    assert not wrong


def test_no_singletons() -> None:
    names = {"get_instance", "_instance", "instance"}
    found = [
        f"{module}: {ast.unparse(node)}"
        for module, tree in TREES.items()
        for node, _ in walk(tree)
        if getattr(node, "name", getattr(node, "attr", getattr(node, "id", None))) in names
    ]
    assert not found
