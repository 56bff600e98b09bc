#!/usr/bin/env python3
"""Cuts commit-replay items out of a clone: cursors in lines that later commits added without rewriting others.

What a fine-tuning is worth shows at lines that its project gained afterwards. Each item is a line of a pure insertion
in a file that was there before: the prefix is the file as committed, up to the cursor; the suffix is the parent's file
behind the insertion, as nobody has typed its other lines yet. Code that is no comment is taken, a few lines of each
commit, by the hash of their names: the same clone gives the same items. They are written as JSON lines for
`intract-lsp eval`, with and without `--adapter`; `scripts/bench/paired.py` puts the two side by side.

    scripts/bench/insertions.py CLONE --name owner/name --since COMMIT --out ITEMS.jsonl
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tree_sitter import Tree

from intract_lsp.errors import IntractError
from intract_lsp.index.grammars import SPECS, Grammars
from intract_lsp.index.keywords import KEYWORDS
from intract_lsp.languages import language_id
from intract_lsp.training.git_objects import LARGEST_DIFFED, Change, GitFailure, GitFolder
from intract_lsp.training.held_out import cursor_column, digest, is_telling

BLOCK_LINES = 8
"""The most lines of a truth's block, which ends at a blank line or a smaller indentation, too."""
WORD = re.compile(r"[A-Za-z_]\w{2,}")


def below(old: str, new: list[str], end: int) -> str | None:
    """Return the old text behind an insertion that ends before line ``end`` of the new one.

    It begins with the two lines that follow in the new one; ``None`` where the old text has these not once.
    """
    following = new[end : end + 2]
    old_lines = old.split("\n")
    places = [number for number in range(len(old_lines)) if old_lines[number : number + 2] == following]
    return "\n".join(old_lines[places[0] :]) if len(places) == 1 else None


def block(lines: list[str], column: int) -> str:
    """Return the truth from a column of the first line on, as far as its block goes."""
    indent = len(lines[0]) - len(lines[0].lstrip())
    taken = [lines[0][column:]]
    for line in lines[1:BLOCK_LINES]:
        if not line.strip() or len(line) - len(line.lstrip()) < indent:
            break
        taken.append(line)
    return "\n".join(taken)


def is_prose(tree: Tree, line: int) -> bool:
    """Return whether a line begins inside a text or comment that began above it: documentation, or a prompt."""
    node = tree.root_node.descendant_for_point_range((line, 0), (line, 0))
    while node is not None:
        if node.start_point.row < line and re.search("string|comment|template", node.type):
            return True
        node = node.parent
    return False


def of_change(
    change: Change, old: str, new: str, grammars: Grammars, source: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield an item for each line of the change that can be one; ``source`` is where it is from."""
    lines = new.split("\n")
    data = new.encode("utf-8", "replace")
    language = grammars.grammar(language_id(change.path), data)
    tree = grammars.parse(language, data)
    if tree is None:
        return
    known = KEYWORDS.get(language, frozenset()) | set(WORD.findall(old))
    for added in change.added:
        suffix = below(old, lines, added.end) if added.pure else None
        if suffix is None:
            continue
        for number in range(max(1, added.start), added.end):
            line = lines[number]
            if not is_telling(line, language) or is_prose(tree, number):
                continue
            task = f"{source['repo']}/{source['commit'][:10]}/{change.path}:{number + 1}"
            column, trigger = cursor_column(line, digest(f"{task} cursor"))
            yield {
                "task_id": task,
                **source,
                "path": change.path,
                "line": number,
                "character": column,
                "trigger": trigger,
                "pure_insertion": True,
                "crossfile": any(match[0] not in known for match in WORD.finditer(line) if match.end() > column),
                "prefix": "\n".join([*lines[:number], line[:column]]),
                "suffix": "\n" + suffix,
                "groundtruth_line": line[column:],
                "groundtruth_block": block(lines[number : added.end], column),
            }


def of_commit(git: GitFolder, grammars: Grammars, repository: str, commit: str) -> Iterator[dict[str, Any]]:
    """Yield the items of a commit, in any order."""
    parent = git.commit(f"{commit}^")
    before = git.tree(parent).blobs
    changes = [one for one in git.changes(parent, commit) if not one.is_new and language_id(one.path) in SPECS]
    contents = git.contents([blob for one in changes for blob in (before[one.old_path], one.blob)], LARGEST_DIFFED)
    for change in changes:
        old, new = contents.get(before[change.old_path]), contents.get(change.blob)
        if old is not None and new is not None:
            texts = (old.decode("utf-8", "replace"), new.decode("utf-8", "replace"))
            yield from of_change(change, *texts, grammars, {"repo": repository, "commit": commit, "parent": parent})


def main(given: argparse.Namespace) -> None:
    """Write the items and say how many there are."""
    grammars = Grammars()
    found = []
    try:
        git = GitFolder(given.clone, given.until)
        later = git.commits(since=git.commit(given.since))[::-1]
        for commit in later:
            rows = of_commit(git, grammars, given.name, commit)
            found += sorted(rows, key=lambda row: digest(row["task_id"]))[: given.each]
    except GitFailure as error:
        raise IntractError(f"{given.clone} is no whole clone with these commits ({error}).") from error
    taken = {row["task_id"] for row in sorted(found, key=lambda row: digest(row["task_id"]))[: given.most]}
    if not taken:
        raise IntractError(f"No commit since {given.since} adds lines to code that was there.")
    with given.out.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in found if row["task_id"] in taken)
    print(json.dumps({"commits": len(later), "found": len(found), "items": len(taken), "out": str(given.out)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="a git directory or a work tree")
    parser.add_argument("--name", required=True, help="owner/name, as `eval --repositories` finds the clone by")
    parser.add_argument("--since", required=True, help="the commit that a fine-tuning saw last")
    parser.add_argument("--until", default="HEAD", help="the newest commit that is looked at")
    parser.add_argument("--most", type=int, default=100, help="items in all")
    parser.add_argument("--each", type=int, default=4, help="items of a commit")
    parser.add_argument("--out", type=Path, required=True)
    try:
        main(parser.parse_args())
    except IntractError as error:
        sys.exit(f"insertions.py: {error}")
