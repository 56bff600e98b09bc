"""The symbol table's entries: what a file defines, and the names that a stretch of code uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from intract_lsp.index.grammars import Grammars, Role
from intract_lsp.index.keywords import KEYWORDS
from intract_lsp.index.outline import Item
from intract_lsp.index.parsed import ParsedText, parse_file
from intract_lsp.index.signature import class_signature, function_signature, value_signature

SYMBOLS_VERSION = 1
"""Changes whenever the same file would give other definitions or signatures."""

_STRINGS_AND_COMMENTS = re.compile(
    r'"""[\s\S]*?"""|' + r"'''[\s\S]*?'''|/\*[\s\S]*?\*/|" + r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'"
)
_HASH = re.compile(r"(?<![^\s;])#(?!include\b|define\b|if\b).*")
_SLASHES = re.compile(r"(?<!:)//.*")
_DASHES = re.compile(r"--.*")
_WORD = re.compile(r"[^\W\d]\w*")


class DefinitionKind(str, Enum):
    """What is defined."""

    FUNCTION = "function"
    METHOD = "method"
    CLASS = "class"
    """Or a struct, an interface, a trait, an enum."""
    TYPE = "type"
    """A name for another type, or a macro."""
    VALUE = "value"
    """A constant or a variable of the module."""


@dataclass(frozen=True, slots=True)
class Definition:
    """Something that other files can use by its name."""

    name: str
    qualified: str
    """With the types that it stands in: ``Parser.parse``."""
    kind: DefinitionKind
    path: str
    start_line: int
    """First line, from 0, decorators and the comment above included."""
    end_line: int
    """The line behind the last one."""
    signature: str
    """What a model needs to see to use it: at most about 25 lines."""


def definitions(path: str, text: str, grammars: Grammars) -> list[Definition]:
    """Return what a file defines at its top and in its classes, in order; nothing in a language without a grammar."""
    return [found for source in parse_file(path, text, grammars) for found in definitions_of(source)]


def definitions_of(source: ParsedText) -> list[Definition]:
    """Return what one source defines."""
    return list(_definitions(source, source.items))


def _definitions(source: ParsedText, items: Sequence[Item]) -> Iterator[Definition]:
    elsewhere: dict[str, list[Item]] = {}
    for item in items:
        if item.role is Role.EXTENSION:
            elsewhere.setdefault(item.qualified, []).append(item)
        elif item.role is Role.FUNCTION and item.is_method:
            elsewhere.setdefault(item.container, []).append(item)
    for item in items:
        constructs = item.container.rpartition(".")[2] == item.name
        if item.role not in (Role.EXTENSION, Role.NAMESPACE) and not constructs:
            yield Definition(
                name=item.name,
                qualified=item.qualified,
                kind=_kind(item),
                path=source.path,
                start_line=source.first_line + item.start,
                end_line=source.first_line + item.end,
                signature=_signature(item, source, () if item.is_method else elsewhere.get(item.qualified, ())),
            )
        yield from _definitions(source, item.members)


def _kind(item: Item) -> DefinitionKind:
    if item.role is Role.FUNCTION:
        return DefinitionKind.METHOD if item.is_method else DefinitionKind.FUNCTION
    if item.role is Role.CLASS:
        return DefinitionKind.CLASS
    return DefinitionKind.TYPE if item.role is Role.TYPE else DefinitionKind.VALUE


def _signature(item: Item, source: ParsedText, elsewhere: Sequence[Item]) -> str:
    if item.role is Role.CLASS:
        return class_signature(item, source, elsewhere)
    return function_signature(item, source) if item.role is Role.FUNCTION else value_signature(item)


def names_used(language: str, text_lines: Sequence[str]) -> list[str]:
    """Return the identifiers in lines of code, each once, the one nearest to the end first.

    Keywords, strings and comments are left out. The text may be broken anywhere: nothing is parsed.
    """
    text = _STRINGS_AND_COMMENTS.sub('""', "\n".join(text_lines))
    if language in ("python", "ruby", "shellscript", "php", "yaml", "toml", "makefile", "dockerfile"):
        text = _HASH.sub("", text)
    if language in ("lua", "sql"):
        text = _DASHES.sub("", text)
    elif language not in ("python", "ruby", "shellscript"):
        text = _SLASHES.sub("", text)
    keywords = KEYWORDS.get(language, frozenset())
    names = dict.fromkeys(reversed(_WORD.findall(text)))
    return [name for name in names if name not in keywords]
