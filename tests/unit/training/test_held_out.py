from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from training_projects import module

from intract_lsp.evaluation.items import Item
from intract_lsp.index.grammars import Grammars
from intract_lsp.training.corpus import Piece
from intract_lsp.training.dedupe import Containment
from intract_lsp.training.git_objects import Added
from intract_lsp.training.held_out import HeldOut, places

GRAMMARS = Grammars()


def file(path: str, text: str, *added: Added) -> HeldOut:
    return HeldOut((Piece(path, "blob", "python", text),), added or None)


def chosen(files: Iterable[HeldOut], most: int = 300, known: str = "") -> tuple[list[Item], list[Item]]:
    return places(files, most, Containment([known]).share, GRAMMARS)


def line_of(item: Item) -> int:
    return item.prefix.count("\n")


TEXT = module("one", 30)
FILES = [file(f"src/{name}.py", module(name, 20), Added(20, 60, True)) for name in "abcdefgh"]


def test_places_lie_in_added_lines_and_make_up_the_text() -> None:
    added = (Added(10, 24, True), Added(40, 47, False))
    validation, test = chosen([file("one.py", TEXT, *added)])
    items = validation + test
    assert len({line_of(item) for item in items}) == len(items) > 10
    for item in items:
        run = next(run for run in added if run.start <= line_of(item) < run.end)
        assert item.prefix + item.truth_block + item.suffix == TEXT
        assert item.truth_block.startswith(item.truth_line) and item.truth_line.strip()
        assert "\n" not in item.truth_line and item.suffix[:1] in ("", "\n")
        assert item.pure_insertion is run.pure
        assert line_of(item) + item.truth_block.count("\n") < run.end
        assert (item.set, item.path, item.language_id) == ("held-out", "one.py", "python")
        indent = item.prefix.split("\n")[-1]
        assert (item.trigger == "newline") == (not indent.strip())
    assert {item.trigger for half in chosen(FILES) for item in half} == {"newline", "midline", "midident"}
    assert any("\n" in item.truth_block for item in items)
    # Comments, strings that document, and lines of brackets are no places.
    assert not any(item.truth_line.startswith('"""') for item in items)


def test_names_that_are_nowhere_else_in_the_file_are_of_other_files() -> None:
    text = "import lib\nknown = 1\n\n\nresult = known + known\nother = lib.absent_name(known)\n"
    validation, test = chosen([file("a.py", text, Added(4, 6, True))])
    found = {line_of(item): item for item in validation + test}
    # Also where the cursor stands inside the name.
    assert found[5].crossfile == ("name(" in found[5].truth_line)
    assert found[4].crossfile == ("t = known" in found[4].truth_line)


def test_halves_are_alike_have_no_file_in_common_and_stay_the_same() -> None:
    validation, test = chosen(FILES)
    assert abs(len(validation) - len(test)) <= len(test) / 2 and min(len(validation), len(test)) > 60
    assert {item.path for item in validation}.isdisjoint(item.path for item in test)
    assert chosen(reversed(FILES)) == (validation, test)
    # Of few files the halves share out the runs.
    runs = [Added(start, start + 8, True) for start in range(10, 150, 10)]
    validation, test = chosen([file("one.py", TEXT, *runs)])
    assert abs(len(validation) - len(test)) <= 6
    of_half = [{(line_of(item) - 10) // 10 for item in half} for half in (validation, test)]
    assert of_half[0].isdisjoint(of_half[1])


def test_halves_have_as_much_of_each_language() -> None:
    def rows(name: str, count: int) -> str:
        return "".join(f"const {name}{number} = read({number * 3}, {name}{number * 7});\n" for number in range(count))

    # By size alone, both large Python files would go to one half, and what is not Python to the other.
    sizes = {"a.py": 50, "b.js": 46, "c.js": 44, "d.py": 40, "e.js": 12, "f.py": 10}
    files = [
        HeldOut(
            (Piece(path, "blob", "python" if path.endswith("py") else "javascript", rows(path[0], size)),),
            (Added(0, size, True),),
        )
        for path, size in sizes.items()
    ]
    halves = [Counter(item.language_id for item in half) for half in chosen(files)]
    for language in ("python", "javascript"):
        one, other = (half[language] for half in halves)
        assert min(one, other) >= 0.7 * max(one, other) > 20, language


def test_no_more_than_asked_and_not_all_of_one_file() -> None:
    large = file("large.py", module("large", 80), Added(0, 600, True))
    validation, test = chosen([large, *FILES], most=60)
    paths = [item.path for item in validation + test]
    assert len(paths) == 60 and paths.count("large.py") <= 12
    alone = chosen([large], most=60)
    assert len(alone[0]) + len(alone[1]) == 60


def test_of_many_lines_as_of_few_cursors_stand_everywhere_on_their_lines() -> None:
    many = [file(f"{number}.py", module(f"m{number}", 60), Added(0, 600, True)) for number in range(20)]
    assert {item.trigger for half in chosen(many, most=40) for item in half} == {"newline", "midline", "midident"}


def test_settings_are_measured_at_only_for_want_of_code() -> None:
    lines = "\n".join(f"key_{number}: the value of {number}" for number in range(40))
    settings = HeldOut((Piece("ci.yml", "blob", "yaml", lines),), (Added(0, 40, True),))
    assert {item.path for half in chosen([settings, *FILES], most=60) for item in half}.isdisjoint({"ci.yml"})
    assert sum(map(len, chosen([settings], most=20))) == 20


def test_what_was_only_moved_or_copied_is_not_measured() -> None:
    moved = module("moved", 10)
    new = module("fresh", 10)
    both = moved + new.split("import os\n")[1]
    count = len(both.split("\n"))
    validation, test = chosen([file("b.py", both, Added(0, count, True))], known=moved)
    found = [line_of(item) for item in validation + test]
    assert found and min(found) >= moved.count("\n") - 6
    assert chosen([file("b.py", moved, Added(0, 500, True))], known=moved) == ([], [])


def test_whole_files_without_a_history() -> None:
    validation, test = chosen([file(f"{name}.py", module(name, 6)) for name in "abcdefg"])
    assert validation and test
    assert {item.pure_insertion for item in validation + test} == {None}


def test_pieces_between_secrets_keep_their_place_in_the_file() -> None:
    lines = TEXT.split("\n")
    pieces = (
        Piece("one.py", "blob", "python", "\n".join(lines[:30])),
        Piece("one.py", "blob", "python", "\n".join(lines[40:]), 40),
    )
    validation, test = places([HeldOut(pieces, (Added(25, 60, True),))], 300, lambda text: 0.0, GRAMMARS)
    numbers = sorted(int(item.task_id.split(":")[1]) - 1 for item in validation + test)
    assert numbers[0] >= 25 and numbers[-1] < 60 and not set(numbers) & set(range(30, 40))
    for item in validation + test:
        number = int(item.task_id.split(":")[1]) - 1
        own = item.prefix.split("\n")[-1] + item.truth_line
        assert own == lines[number]


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment\n", ")\n]\n"])
def test_texts_without_places(text: str) -> None:
    assert chosen([file("a.py", text, Added(0, 5, True)), file("b.py", text)]) == ([], [])
