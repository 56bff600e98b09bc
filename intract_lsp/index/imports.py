"""The imports of a file, found by patterns and not by a tree: the file being typed in is seldom whole.

What looks like an import inside a string or a comment is taken for one; it costs no more than a file looked at in vain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

MOST_CHARACTERS = 400_000
"""A longer text is read up to here: imports stand at the beginning."""


@dataclass(frozen=True, slots=True)
class ImportedName:
    """A name that an import makes known."""

    name: str
    """In the module: ``*`` for the module as a whole, ``default`` for a script's default export."""
    alias: str
    """In the importing file; ``*`` where all that the module exports is known by its own name."""


@dataclass(frozen=True, slots=True)
class Import:
    """One module that a file imports from."""

    language: str
    module: str
    """As written, without the dots that Python counts with."""
    names: tuple[ImportedName, ...] = ()
    level: int = 0
    """How many folders up the module is looked for, plus one; 0 where it is not relative to the file."""
    line: int = 0
    """From 0."""


def find_imports(language: str, text: str) -> list[Import]:
    """Return the imports of a text in order, at whatever depth; none in a language that has no rule here."""
    rule = _RULES.get(language)
    if rule is None:
        return []
    text = text[:MOST_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n")
    found: list[Import] = []
    line, at = 0, 0
    for start, module, names, level in sorted(rule(text), key=lambda one: one[0]):
        line += text.count("\n", at, start)
        at = start
        found.append(Import(language, module, names, level, line))
    return found


_Found = tuple[int, str, tuple[ImportedName, ...], int]

_WHOLE = "*"

_PYTHON_FROM = re.compile(
    r"^[ \t]*from[ \t]+(\.*)[ \t]*([\w.]*)[ \t]+import[ \t]*(?:\(([^()]*)\)?|((?:[^\n;#\\]|\\\n)*))", re.MULTILINE
)
_PYTHON_IMPORT = re.compile(
    r"^[ \t]*import[ \t]+([\w.]+(?:[ \t]+as[ \t]+\w+)?(?:[ \t]*,[ \t]*[^\n;#]+)?)", re.MULTILINE
)
_AS = re.compile(r"([\w.*$-]+)(?:\s+as\s+([\w$]+))?\s*")
_COMMENTS = re.compile(r"#[^\n]*|//[^\n]*")

_SCRIPT_FROM = re.compile(r"^[ \t]*(?:import|export)\b([^;'\"`=]*?)\bfrom\s*['\"]([^'\"\n]+)['\"]", re.MULTILINE)
_SCRIPT_BARE = re.compile(r"^[ \t]*import\s*['\"]([^'\"\n]+)['\"]", re.MULTILINE)
_SCRIPT_REQUIRE = re.compile(
    r"(?:(?:const|let|var)[ \t]+([\w$]+|\{[^{}]*\})\s*=\s*)?(?:await[ \t]+)?"
    r"\b(?:require|import)\(\s*['\"]([^'\"\n]+)['\"]"
)
_SCRIPT_NAMESPACE = re.compile(r"\*\s*as\s+([\w$]+)")
_SCRIPT_DEFAULT = re.compile(r"\s*(?:type\s+)?([\w$]+)\s*(?:,|\Z)")

_GO_SINGLE = re.compile(r'^import[ \t]+([\w.]+[ \t]+)?"([^"\n]+)"', re.MULTILINE)
_GO_BLOCK = re.compile(r"^import[ \t]*\(([^()]*)", re.MULTILINE)
_GO_SPEC = re.compile(r'^[ \t]*([\w.]+[ \t]+)?"([^"\n]+)"', re.MULTILINE)

_RUST_USE = re.compile(r"^[ \t]*(?:pub(?:\([^()]*\))?[ \t]+)?use[ \t]+([^;]{1,4000});", re.MULTILINE)
_RUST_MOD = re.compile(r"^[ \t]*(?:pub(?:\([^()]*\))?[ \t]+)?mod[ \t]+(\w+)[ \t]*;", re.MULTILINE)

_JAVA = re.compile(r"^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.]+)\.(\w+|\*)[ \t]*;?", re.MULTILINE)
_CSHARP = re.compile(
    r"^[ \t]*(?:global[ \t]+)?using[ \t]+(?:static[ \t]+)?(?:(\w+)[ \t]*=[ \t]*)?([\w.]+)[ \t]*;", re.MULTILINE
)
_C = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)[>\"]", re.MULTILINE)
_RUBY = re.compile(r"^[ \t]*(require_relative|require|load)[ \t(]+['\"]([^'\"\n]+)['\"]", re.MULTILINE)
_PHP_USE = re.compile(
    r"^[ \t]*use[ \t]+(?:function[ \t]+|const[ \t]+)?([\w\\]+)(?:[ \t]+as[ \t]+(\w+))?[ \t]*;", re.MULTILINE
)
_PHP_GROUP = re.compile(r"^[ \t]*use[ \t]+([\w\\]+)\\\{([^{}]*)\}", re.MULTILINE)
_PHP_REQUIRE = re.compile(r"\b(?:require|include)(?:_once)?\b[^;'\"\n]*['\"]([^'\"\n]+)['\"]")
_LUA = re.compile(r"(?:local[ \t]+(\w+)[ \t]*=[ \t]*)?\brequire[ \t]*\(?[ \t]*['\"]([^'\"\n]+)['\"]")
_SHELL = re.compile(r"^[ \t]*(?:source|\.)[ \t]+[\"']?([^\s\"';#]+)", re.MULTILINE)


def _python(text: str) -> Iterator[_Found]:
    for match in _PYTHON_FROM.finditer(text):
        listed = match.group(3) if match.group(3) is not None else match.group(4)
        if match.group(1) or match.group(2):
            yield match.start(), match.group(2), _names(listed), len(match.group(1))
    for match in _PYTHON_IMPORT.finditer(text):
        for part in match.group(1).split(","):
            if one := _AS.fullmatch(part.strip()):
                yield match.start(), one.group(1), (ImportedName(_WHOLE, one.group(2) or one.group(1)),), 0


def _names(listed: str) -> tuple[ImportedName, ...]:
    plain = _COMMENTS.sub("", listed).replace("\\\n", " ")
    # An import that is being typed may lack its closing bracket, and the next lines follow: a line without a comma
    # ends the list.
    found = [_AS.fullmatch(part.strip()) for part in plain.split(",")]
    return tuple(ImportedName(one.group(1), one.group(2) or one.group(1)) for one in found if one)


def _script(text: str) -> Iterator[_Found]:
    for match in _SCRIPT_FROM.finditer(text):
        clause = match.group(1)
        names: list[ImportedName] = []
        if braces := re.search(r"\{([^{}]*)\}?", clause):
            names += _names(re.sub(r"\btype\s+", "", braces.group(1)))
            clause = clause[: braces.start()]
        if namespace := _SCRIPT_NAMESPACE.search(clause):
            names.append(ImportedName(_WHOLE, namespace.group(1)))
        elif "*" in clause:
            names.append(ImportedName(_WHOLE, _WHOLE))
        elif (default := _SCRIPT_DEFAULT.match(clause)) and default.group(1) != "type":
            names.append(ImportedName("default", default.group(1)))
        yield match.start(), match.group(2), tuple(names), 0
    for match in _SCRIPT_BARE.finditer(text):
        yield match.start(), match.group(1), (), 0
    for match in _SCRIPT_REQUIRE.finditer(text):
        bound = match.group(1) or ""
        if bound.startswith("{"):
            required = _names(re.sub(r"\s*:\s*", " as ", bound.strip("{}")))
        else:
            required = (ImportedName(_WHOLE, bound),) if bound else ()
        yield match.start(), match.group(2), required, 0


def _go(text: str) -> Iterator[_Found]:
    for match in _GO_SINGLE.finditer(text):
        yield match.start(), match.group(2), (_go_name(match),), 0
    for block in _GO_BLOCK.finditer(text):
        for match in _GO_SPEC.finditer(block.group(1)):
            yield block.start(1) + match.start(), match.group(2), (_go_name(match),), 0


def _go_name(match: re.Match[str]) -> ImportedName:
    return ImportedName(_WHOLE, (match.group(1) or "").strip() or match.group(2).rpartition("/")[2])


def _rust(text: str) -> Iterator[_Found]:
    for match in _RUST_USE.finditer(text):
        by_module: dict[str, list[ImportedName]] = {}
        for path, alias in _rust_paths(_COMMENTS.sub("", match.group(1))):
            module, _, name = path.rpartition("::")
            by_module.setdefault(module or name, []).append(ImportedName(name if module else _WHOLE, alias or name))
        for module, names in by_module.items():
            yield match.start(), module, tuple(names), 0
    for match in _RUST_MOD.finditer(text):
        yield match.start(), f"self::{match.group(1)}", (ImportedName(_WHOLE, match.group(1)),), 0


def _rust_paths(tree: str) -> Iterator[tuple[str, str]]:
    """Yield the paths of a ``use`` with their aliases, the groups in braces taken apart."""
    prefixes = [""]
    prefix = ""
    for part in re.split(r"([{},])", tree):
        text = " ".join(part.split())
        if part == "{":
            prefixes.append(prefix)
        elif part == "}":
            if len(prefixes) > 1:
                prefixes.pop()
        elif part != "," and text:
            path, _, alias = text.partition(" as ")
            prefix = prefixes[-1] + path
            if not prefix.endswith("::"):
                yield prefix.removesuffix("::self"), alias.strip()


def _java(text: str) -> Iterator[_Found]:
    for match in _JAVA.finditer(text):
        yield match.start(), match.group(1), (ImportedName(match.group(2), match.group(2)),), 0


def _csharp(text: str) -> Iterator[_Found]:
    for match in _CSHARP.finditer(text):
        yield match.start(), match.group(2), (ImportedName(_WHOLE, match.group(1) or _WHOLE),), 0


def _c(text: str) -> Iterator[_Found]:
    for match in _C.finditer(text):
        yield match.start(), match.group(1).strip(), (ImportedName(_WHOLE, _WHOLE),), 0


def _ruby(text: str) -> Iterator[_Found]:
    for match in _RUBY.finditer(text):
        yield match.start(), match.group(2), (ImportedName(_WHOLE, _WHOLE),), int(match.group(1) != "require")


def _php(text: str) -> Iterator[_Found]:
    for match in _PHP_USE.finditer(text):
        module, _, name = match.group(1).strip("\\").rpartition("\\")
        yield match.start(), module, (ImportedName(name, match.group(2) or name),), 0
    for match in _PHP_GROUP.finditer(text):
        yield match.start(), match.group(1).strip("\\"), _names(match.group(2)), 0
    for match in _PHP_REQUIRE.finditer(text):
        yield match.start(), match.group(1), (ImportedName(_WHOLE, _WHOLE),), 1


def _lua(text: str) -> Iterator[_Found]:
    for match in _LUA.finditer(text):
        yield match.start(), match.group(2), (ImportedName(_WHOLE, match.group(1) or _WHOLE),), 0


def _shell(text: str) -> Iterator[_Found]:
    for match in _SHELL.finditer(text):
        yield match.start(), match.group(1), (ImportedName(_WHOLE, _WHOLE),), 1


_RULES: Mapping[str, Callable[[str], Iterator[_Found]]] = MappingProxyType(
    {
        "python": _python,
        **dict.fromkeys(("javascript", "javascriptreact", "typescript", "typescriptreact"), _script),
        "go": _go,
        "rust": _rust,
        "java": _java,
        "csharp": _csharp,
        "c": _c,
        "cpp": _c,
        "ruby": _ruby,
        "php": _php,
        "lua": _lua,
        "shellscript": _shell,
    }
)
