from __future__ import annotations

import json
from pathlib import Path

import pytest

from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item, read_items

OWN_ITEMS = Path(__file__).parents[3] / "scripts" / "bench" / "items.jsonl"

REPLAY = {
    "task_id": "owner/name/1",
    "repo": "owner/name",
    "commit": "c0ffee",
    "parent": "beef",
    "path": "src/a.ts",
    "trigger": "midline",
    "crossfile": True,
    "pure_insertion": False,
    "prefix": "const a = ",
    "suffix": "\nexport {};\n",
    "groundtruth_line": "f(",
    "groundtruth_block": "f(\n  1,",
}
PUBLIC = {
    "task_id": "p/1",
    "set": "safim",
    "path": "s.py",
    "prefix": "x = ",
    "suffix": "\n",
    "groundtruth": "1 +\\\n  2",
}


def write(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_reads_the_commit_replay_form(tmp_path: Path) -> None:
    assert read_items(write(tmp_path / "replay.jsonl", REPLAY)) == [
        Item(
            task_id="owner/name/1",
            path="src/a.ts",
            prefix="const a = ",
            suffix="\nexport {};\n",
            truth_line="f(",
            truth_block="f(\n  1,",
            set="commit-replay",
            repository="owner/name",
            parent="beef",
            trigger="midline",
            crossfile=True,
            pure_insertion=False,
        )
    ]


def test_reads_the_public_form_and_takes_the_truths_first_line(tmp_path: Path) -> None:
    (item,) = read_items(write(tmp_path / "public.jsonl", PUBLIC))
    assert (item.set, item.truth_line, item.truth_block) == ("safim", "1 +\\", "1 +\\\n  2")
    assert (item.crossfile, item.pure_insertion, item.trigger, item.repository) == (None, None, "", "")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_truths_line_end_moves_behind_the_cursor(tmp_path: Path, end: str) -> None:
    row = {**PUBLIC, "prefix": f"def f():{end}", "groundtruth": f"    return 1{end}", "suffix": f"# end{end}"}
    (item,) = read_items(write(tmp_path / "public.jsonl", row))
    assert item.truth_line == item.truth_block == "    return 1"
    assert item.suffix == f"{end}# end{end}"
    assert item.prefix + item.truth_block + item.suffix == row["prefix"] + row["groundtruth"] + row["suffix"]


def test_the_set_falls_back_to_the_files_name(tmp_path: Path) -> None:
    row = {key: value for key, value in PUBLIC.items() if key != "set"}
    assert read_items(write(tmp_path / "mine.jsonl", row))[0].set == "mine"


def test_limit_takes_the_first_items_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    rows = [{**PUBLIC, "task_id": str(number)} for number in range(4)]
    path = write(tmp_path / "items.jsonl", rows[0], "", rows[1], rows[2], "not read")
    assert [item.task_id for item in read_items(path, limit=3)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.PY", "python"),
        ("x.tsx", "typescriptreact"),
        ("m.rs", "rust"),
        ("Makefile", "makefile"),
        ("x", "plaintext"),
    ],
)
def test_the_language_follows_from_the_paths_suffix(tmp_path: Path, path: str, language: str) -> None:
    assert read_items(write(tmp_path / "items.jsonl", {**PUBLIC, "path": path}))[0].language_id == language


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: this is not JSON"),
        ("[" * 100_000, "line 2: this is not JSON"),
        ("[1]", "line 2: this is a JSON list"),
        ({"task_id": "1", "path": "a.py", "parent": "beef", "line": 3}, "line 2: this is a position without its text"),
        ({key: value for key, value in PUBLIC.items() if key != "prefix"}, "line 2: 'prefix' must be a text"),
        ({key: value for key, value in PUBLIC.items() if key != "groundtruth"}, "line 2: there is neither"),
        ({**PUBLIC, "suffix": None}, "line 2: 'suffix' must be a text, but is a JSON NoneType"),
        ({**PUBLIC, "task_id": 7}, "line 2: 'task_id' must be a text, but is a JSON int"),
        ({**PUBLIC, "crossfile": "yes"}, "line 2: 'crossfile' must be true or false"),
        ({**PUBLIC, "groundtruth": " \n"}, "line 2: the truth is blank"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path / "items.jsonl", PUBLIC, row)
    with pytest.raises(IntractError) as caught:
        read_items(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe{}")
    for path, message in [
        (tmp_path / "absent.jsonl", "cannot be read"),
        (tmp_path, "cannot be read"),
        (binary, "is not UTF-8"),
        (write(tmp_path / "empty.jsonl", ""), "holds no items"),
    ]:
        with pytest.raises(IntractError, match=message) as caught:
            read_items(path)
        assert str(caught.value).startswith(str(path))


def test_our_own_items_are_usable() -> None:
    items = read_items(OWN_ITEMS)
    assert len(items) == 12
    assert len({item.task_id for item in items}) == 12
    assert {item.trigger for item in items} == {"newline", "midline", "midident"}
    for item in items:
        assert item.truth_block.startswith(item.truth_line)
        assert item.suffix.startswith("\n")
