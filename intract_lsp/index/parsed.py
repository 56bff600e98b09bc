"""A file as the index understands it: lines, syntax tree and definitions; for a notebook one such text a cell."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from tree_sitter import Tree

from intract_lsp.index.grammars import SPECS, Grammars, Spec
from intract_lsp.index.outline import Item, outline
from intract_lsp.languages import language_id
from intract_lsp.text import split_lines

_PROSE_SUFFIXES = frozenset({".adoc", ".markdown", ".md", ".mdx", ".org", ".rst", ".tex", ".txt"})
_NOTEBOOK_SUFFIX = ".ipynb"
_MAGIC = re.compile(r"\s*[%!]")
_OTHER_LANGUAGE = re.compile(r"\s*%%(?!time|capture|prun)")
_SHELL_MAGIC = re.compile(r"\s*%%(?:bash|sh)\b")


@dataclass(frozen=True)
class ParsedText:
    """A text of one language."""

    path: str
    language: str
    lines: list[str]
    """Without their ends."""
    first_line: int
    """Line of the file that ``lines`` begin with."""
    is_prose: bool
    data: bytes
    """The lines in UTF-8, joined by line feeds: what the tree's offsets and rows refer to."""
    spec: Spec | None = None
    tree: Tree | None = None
    items: tuple[Item, ...] = ()


def parse_file(path: str, text: str, grammars: Grammars) -> list[ParsedText]:
    """Return what a file consists of: itself, or the cells of a notebook, whose outputs are left out.

    A notebook's lines are those of its cells one after the other. One that is not valid JSON has no cells. Nothing is
    raised, whatever the text.
    """
    suffix = PurePosixPath(path.lower()).suffix
    if suffix == _NOTEBOOK_SUFFIX:
        return _cells(path, text, grammars)
    language = language_id(path)
    if suffix in _PROSE_SUFFIXES:
        language = "markdown" if suffix in (".markdown", ".mdx") else language
        return [ParsedText(path, language, _plain_lines(text), 0, True, b"")]
    return [_code(path, language, _plain_lines(text), 0, grammars)]


def _code(path: str, language: str, lines: list[str], first_line: int, grammars: Grammars) -> ParsedText:
    data = "\n".join(lines).encode("utf-8", "replace")
    language = grammars.grammar(language, data)
    tree = grammars.parse(language, data)
    if tree is None:
        return ParsedText(path, language, lines, first_line, False, data)
    spec = SPECS[language]
    return ParsedText(path, language, lines, first_line, False, data, spec, tree, tuple(outline(tree, data, spec)))


def _plain_lines(text: str) -> list[str]:
    lines = [line.rstrip("\r\n") for line in split_lines(text.removeprefix("\ufeff"))]
    if not lines[-1]:
        lines.pop()
    return lines


def _cells(path: str, text: str, grammars: Grammars) -> list[ParsedText]:
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        return []
    notebook_language = _notebook_language(notebook.get("metadata"))
    cells: list[ParsedText] = []
    first_line = 0
    for cell in notebook["cells"]:
        if not isinstance(cell, dict):
            continue
        lines = _plain_lines(_cell_text(cell.get("source")))
        kind = cell.get("cell_type")
        if kind == "code":
            cells.append(_code_cell(path, notebook_language, lines, first_line, grammars))
        elif kind == "markdown":
            cells.append(ParsedText(path, "markdown", lines, first_line, True, b""))
        first_line += len(lines)
    return cells


def _cell_text(source: object) -> str:
    if isinstance(source, list):
        return "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""


def _code_cell(path: str, language: str, lines: list[str], first_line: int, grammars: Grammars) -> ParsedText:
    if lines and _OTHER_LANGUAGE.match(lines[0]):
        language = "shellscript" if _SHELL_MAGIC.match(lines[0]) else "plaintext"
    if language in ("python", "shellscript"):
        # Commands to the notebook are no code; as comments they stay readable and the rest parses.
        lines = [f"# {line.lstrip()}" if _MAGIC.match(line) else line for line in lines]
    return _code(path, language, lines, first_line, grammars)


def _notebook_language(metadata: object) -> str:
    if isinstance(metadata, dict):
        for part, key in (("kernelspec", "language"), ("language_info", "name")):
            described = metadata.get(part)
            if isinstance(described, dict) and isinstance(name := described.get(key), str) and name:
                return "shellscript" if name.lower() in ("bash", "sh") else name.lower()
    return "python"
