"""What of a definition a model is shown to use it: headers, fields, first lines of documentation."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from tree_sitter import Node

from intract_lsp.index.grammars import Role
from intract_lsp.index.nodes import text_of
from intract_lsp.index.outline import Item
from intract_lsp.index.parsed import ParsedText

MOST_LINES = 25
"""Lines of a class; a function's header and a constant have fewer."""

_HEADER_LINES = 12
_VALUE_LINES = 4
_LINE_CHARACTERS = 160
_DOCUMENTATION_CHARACTERS = 100
_CONSTRUCTOR_BYTES = 20_000

_KEPT_DECORATOR = re.compile(
    r"@(?:[\w.]*\.)?(?:property|cached_property|staticmethod|classmethod|abstractmethod|overload|dataclass|define|frozen)"
    r"\b|@[\w.]+\.setter\b"
)
_DOCSTRING = re.compile(r"[rRuU]?(?:\"\"\"|'''|\"|')\s*([^\n]*)")
_SELF_FIELD = re.compile(r"(?:^|[;{])[ \t]*(?:self|this)\.([^\W\d]\w*)\s*(?::\s*([^=\n]+?)\s*)?=(?!=)", re.MULTILINE)
_CONSTRUCTORS = frozenset({"__init__", "constructor"})
_PRIVATE = re.compile(r"_(?!_)|#")


def one_line(item: Item, source: ParsedText) -> str:
    """Return a definition's header as one line of at most 160 characters, with what stands for its body."""
    spec = source.spec
    comment, stub = (spec.comment, spec.stub) if spec else ("", "")
    header = item.header
    if "\n" in header and comment:
        header = re.sub(rf"(?<=\s){re.escape(comment)}.*", "", header)
    header = _squeezed(header)
    if item.role in (Role.CLASS, Role.EXTENSION):
        stub = ": ..." if source.language == "python" else " { ... }" if spec and spec.closer == "}" else ""
    elif header.endswith("=>"):
        stub = " ..."
    return _cut(header.rstrip(";") + stub)


def stub(item: Item, source: ParsedText) -> list[str]:
    """Return a definition's header as one line, below those of its decorators that change how it is used."""
    return [*_decorators(item), one_line(item, source)]


def function_signature(item: Item, source: ParsedText) -> str:
    """Return a function's header as written, in Python with the first line of a short documentation string."""
    header = _dedented(item.header)
    if header.count("\n") >= MOST_LINES:
        header = one_line(item, source)
    elif item.body is not None:
        header += " ..." if header.endswith("=>") else source.spec.stub if source.spec else ""
    lines = [*_decorators(item), header]
    documentation = _documentation(item, source)
    if documentation:
        lines[-1] = lines[-1].removesuffix(" ...")
        lines.append(f'    """{documentation}"""')
    return "\n".join(lines)


def value_signature(item: Item) -> str:
    """Return the first lines of a constant, a type alias or a macro."""
    lines = _dedented(item.header).splitlines()
    if len(lines) > _VALUE_LINES:
        lines = [*lines[: _VALUE_LINES - 1], "..."]
    return "\n".join(_cut(line) for line in lines)


def class_signature(item: Item, source: ParsedText, elsewhere: Sequence[Item] = ()) -> str:
    """Return a class's header with its fields and the headers of its methods, at most 25 lines.

    ``elsewhere`` are methods that are defined outside of it, as in Go, and the blocks that define them in Rust. Where
    there are too many lines, private methods go first.
    """
    around = [line for one in elsewhere for line in _elsewhere(one, source)]
    whole = [] if any(member.body for member in item.members) else _whole(item, source)
    lines = whole or _shortened(item, source, MOST_LINES - min(len(around), MOST_LINES // 2))
    return "\n".join([*lines, *around][:MOST_LINES])


def _shortened(item: Item, source: ParsedText, most_lines: int) -> list[str]:
    python = source.language == "python"
    fields = [_cut(_squeezed(text_of(node, source.data, 400))) for node in item.fields]
    fields += _constructor_fields(item, source, {field.split(":")[0].split("=")[0].strip() for field in fields})
    methods = [member for member in item.members if member.role in (Role.FUNCTION, Role.CLASS)]
    room = most_lines - 2
    fields = fields[: max(room // 2, room - len(methods))]
    if len(fields) + len(methods) > room:
        methods = [member for member in methods if not _PRIVATE.match(member.name) and "private " not in member.header]
    header = _dedented(item.header) if item.header.count("\n") < _HEADER_LINES else one_line(item, source)
    body = [*fields, *(line for method in methods for line in stub(method, source))][:room]
    lines = [
        *_decorators(item),
        header + (":" if python else " {" if source.spec and source.spec.closer == "}" else ""),
    ]
    if python and not body:
        body = ["..."]
    lines += [f"    {line}" for line in body]
    if source.spec and source.spec.closer:
        lines.append(source.spec.closer)
    return lines


def _elsewhere(item: Item, source: ParsedText) -> list[str]:
    header = _squeezed(item.header)
    if item.role is not Role.EXTENSION:
        return [one_line(item, source)]
    methods = [member for member in item.members if member.role is Role.FUNCTION]
    if not methods or " for " in header:
        return [_cut(f"{header} {{ ... }}")]
    return [_cut(f"{header} {{"), *(f"    {one_line(method, source)}" for method in methods), "}"]


def _whole(item: Item, source: ParsedText) -> list[str]:
    """Return a class as it is written, if it is short and no more than an interface."""
    if source.language == "python" or item.end - item.header_start > MOST_LINES:
        return []
    lines = source.lines[item.header_start : item.end]
    comment = source.spec.comment if source.spec else ""
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith((comment, "/*", "*"))]
    if item.header_start == item.end - 1 or any(len(line) > _LINE_CHARACTERS for line in lines):
        return [_cut(_squeezed(text_of(item.node, source.data, 400)))]
    return textwrap.dedent("\n".join(lines)).splitlines()


def _constructor_fields(item: Item, source: ParsedText, known: set[str]) -> list[str]:
    """Return the attributes that a constructor sets: those with a type by line, the others listed in a comment."""
    typed: list[str] = []
    names: list[str] = []
    for member in item.members:
        if member.name not in _CONSTRUCTORS or member.body is None:
            continue
        for name, type_ in _SELF_FIELD.findall(text_of(member.body, source.data, _CONSTRUCTOR_BYTES)):
            if name in known:
                continue
            known.add(name)
            if type_:
                typed.append(_cut(f"self.{name}: {_squeezed(type_)}"))
            else:
                names.append(("self." if source.language == "python" else "this.") + name)
    mark = source.spec.comment if source.spec else "#"
    return typed + [f"{mark} {line}" for line in textwrap.wrap(", ".join(names), 100)[:3]]


def _decorators(item: Item) -> list[str]:
    return [_cut(_squeezed(text)) for text in item.decorators if _KEPT_DECORATOR.match(text)]


def _documentation(item: Item, source: ParsedText) -> str:
    if source.language != "python" or item.body is None:
        return ""
    first: Node | None = item.body.named_child(0) if item.body.named_child_count else None
    if first is None or first.type != "expression_statement":
        return ""
    found = _DOCSTRING.match(text_of(first, source.data, 400))
    line = found.group(1).strip().rstrip("\"'").rstrip() if found else ""
    return line if len(line) <= _DOCUMENTATION_CHARACTERS else ""


def _dedented(header: str) -> str:
    """Return a header whose further lines stand as deep as if its first one began the line."""
    first, end, rest = header.partition("\n")
    if not end:
        return _cut(first)
    return "\n".join(_cut(line) for line in [first, *textwrap.dedent(rest).splitlines()])


def _squeezed(text: str) -> str:
    line = " ".join(text.split())
    return re.sub(r"([(\[]) ", r"\1", re.sub(r",? ([)\]])", r"\1", line)) if "\n" in text else line


def _cut(line: str) -> str:
    """Return a line of at most 160 characters, cut behind a parameter where there is one."""
    if len(line) <= _LINE_CHARACTERS:
        return line
    line = line[: _LINE_CHARACTERS - 4]
    comma = line.rfind(", ")
    return (line[: comma + 1] if comma > _LINE_CHARACTERS // 2 else line.rstrip()) + " ..."
