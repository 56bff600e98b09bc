#!/usr/bin/env python3
"""Puts two runs of `intract-lsp eval --out` side by side, item by item: their means, and what lies between them.

Differences are the second run minus the first: exact match with McNemar's test, edit similarity and saved characters
with the paired bootstrap's 95 % interval. Several pairs are taken as one, such as those of several repositories. The
last line is one JSON object.

    scripts/bench/paired.py BASE.jsonl ADAPTER.jsonl [BASE2.jsonl ADAPTER2.jsonl ...]
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import setup_bench

from intract_lsp.errors import IntractError
from intract_lsp.evaluation.scores import bootstrap_difference, mcnemar_p

FIGURES = {"exact_match": 100.0, "edit_similarity": 1.0, "saved_characters": 100.0}
"""What is compared, and what it is multiplied by: shares are told in percent."""

Rows = dict[str, dict[str, float]]


def read_rows(path: Path) -> Rows:
    """Return a run's rows by their item's id. Raises ``IntractError`` for another kind of file."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["task_id"]: {name: float(row["scores"][name]) for name in FIGURES} for row in rows}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise IntractError(f"{path} is not what `intract-lsp eval --out` writes ({error!r}).") from error


def pairs(paths: Sequence[Path]) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return both rows of each item of all pairs of files."""
    if len(paths) % 2:
        raise IntractError("Give an even number of files: each run with the one that it is compared with.")
    found = []
    for first, second in zip(map(read_rows, paths[::2]), map(read_rows, paths[1::2]), strict=True):
        if first.keys() != second.keys() or not first:
            raise IntractError("The two runs of a pair need the same items, at least one.")
        found += [(first[name], second[name]) for name in first]
    return found


def compare(both: Sequence[tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """Return each figure of both runs and the difference, with how many items are better and worse."""
    made: dict[str, Any] = {"n": len(both)}
    for name, scale in FIGURES.items():
        first, second = ([scale * row[name] for row in rows] for rows in zip(*both, strict=True))
        change = bootstrap_difference(second, first)
        made[f"{name}_first"] = sum(first) / len(first)
        made[f"{name}_second"] = sum(second) / len(second)
        made[f"{name}_change"] = change.mean
        made[f"{name}_low"], made[f"{name}_high"] = change.low, change.high
        made[f"{name}_better"] = sum(b > a for a, b in zip(first, second, strict=True))
        made[f"{name}_worse"] = sum(b < a for a, b in zip(first, second, strict=True))
    exact = [[row["exact_match"] > 0 for row in rows] for rows in zip(*both, strict=True)]
    made["mcnemar_p"] = mcnemar_p(*exact)
    return made


def main(given: argparse.Namespace) -> None:
    """Print both runs side by side."""
    rows = [
        (f"{name.replace('_', ' ')}, {what}", f"{name}_{key}", "n")
        for name in FIGURES
        for what, key in (
            ("first", "first"),
            ("second", "second"),
            ("change", "change"),
            ("from", "low"),
            ("to", "high"),
        )
    ]
    setup_bench.report("Second run against the first", rows, compare(pairs(given.rows)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+", metavar="ROWS.jsonl")
    try:
        main(parser.parse_args())
    except IntractError as error:
        sys.exit(f"paired.py: {error}")
