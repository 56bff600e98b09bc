"""Places in code that no project owns: a model that gets worse there has forgotten what it knew.

A hundred lie in the running interpreter's standard library, twenty in small pieces of other languages beside this file.
Which they are depends on the interpreter's version alone, so that each run is measured at the same ones.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from intract_lsp.errors import TrainingError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.text import split_lines

GUARD_MODULES = frozenset(
    {
        *("argparse.py", "base64.py", "calendar.py", "cmd.py", "configparser.py", "contextlib.py", "csv.py"),
        *("dataclasses.py", "difflib.py", "fractions.py", "functools.py", "heapq.py", "inspect.py", "mailbox.py"),
        *("queue.py", "random.py", "shlex.py", "shutil.py", "statistics.py", "subprocess.py", "tarfile.py"),
        *("textwrap.py", "threading.py", "tokenize.py", "zipapp.py"),
    }
)
"""Files of the standard library that guard places lie in: nothing of them may be trained on, replay included."""

PLACES = 100
"""In the standard library."""

LINES_ABOVE, LINES_BELOW = 30, 10
"""That a place shows: what a model knows of the language shows in short prompts, too, at a third of the time."""

LEAST_PLACES = 40
"""With fewer in all, forgetting cannot be judged."""

_SNIPPETS = Path(__file__).with_name("guard.jsonl")
_LINE_LENGTHS = range(24, 110)
_WORD_START = re.compile(r"(?<=[\s(\[{=,.])[A-Za-z_]")


def guard_items(library: Path | None = None) -> list[Item]:
    """Return the guard places; ``library`` is the standard library's folder, of the running interpreter if ``None``.

    Raises ``TrainingError`` where too few are found, as in an interpreter without its sources.
    """
    root = library or Path(sysconfig.get_path("stdlib"))
    # Spread over the modules: the first of each, then the second of each.
    found = sorted(
        ((rank, item) for name in GUARD_MODULES for rank, item in enumerate(_places(root / name))),
        key=lambda pair: (pair[0], pair[1].task_id),
    )
    items = [item for _, item in found[:PLACES]] + read_items(_SNIPPETS)
    if len(items) < LEAST_PLACES:
        raise TrainingError(
            "The running Python lacks the sources of its standard library, which show whether training has harmed the "
            "model: install Python with them."
        )
    return items


def _places(path: Path) -> Iterator[Item]:
    """Yield the places of a file, in an order by their lines' text, so that a new version of it keeps most of them."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return
    lines = split_lines(text)
    numbers = {
        node.lineno - 1
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Return | ast.Expr | ast.Raise)
        and node.lineno == node.end_lineno
        and len(lines[node.lineno - 1].strip()) in _LINE_LENGTHS
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    }
    seen = set()
    for number in sorted(numbers, key=lambda number: (_digest(lines[number]), number)):
        line = lines[number].rstrip("\r\n")
        if line in seen:
            continue
        seen.add(line)
        column = _column(line)
        yield Item(
            task_id=f"guard/{path.name}:{number + 1}:{column + 1}",
            path=path.name,
            prefix="".join(lines[max(0, number - LINES_ABOVE) : number]) + line[:column],
            suffix=lines[number][len(line) :] + "".join(lines[number + 1 : number + 1 + LINES_BELOW]),
            truth_line=line[column:],
            truth_block=line[column:],
            set="guard",
        )


def _column(line: str) -> int:
    """Return where the cursor stands: for half of the lines where their code begins, else at one of their words."""
    indent = len(line) - len(line.lstrip())
    digest = _digest(line)
    words = [match.start() for match in _WORD_START.finditer(line, indent + 1) if match.start() < len(line) - 8]
    if digest[0] % 2 == 0 or not words:
        return indent
    return words[digest[1] % len(words)]


def _digest(line: str) -> bytes:
    return hashlib.sha256(line.strip().encode()).digest()
