from __future__ import annotations

from pathlib import Path

import pytest

from intract_lsp.errors import TrainingError
from intract_lsp.evaluation.items import Item
from intract_lsp.training.guard import GUARD_MODULES, PLACES, guard_items
from intract_lsp.training.measure import places

FUNCTION = "def f{0}(value):\n    result_{0} = compute(value, {0})\n    return result_{0} + {0}"
MODULE = "\n".join(FUNCTION.format(number) for number in range(5))


def library(folder: Path, modules: int) -> Path:
    for name in sorted(GUARD_MODULES)[:modules]:
        (folder / name).write_text(MODULE.replace("compute", f"compute_{Path(name).stem}"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return guard_items()


def test_a_hundred_places_of_the_library_and_twenty_of_other_languages(items: list[Item]) -> None:
    assert len(items) == 120
    assert len({item.task_id for item in items}) == 120
    own = [item for item in items if item.path in GUARD_MODULES]
    assert len(own) == PLACES
    languages = [item.language_id for item in items if item not in own]
    assert len(languages) == 20 and {"javascript", "rust", "c", "cpp", "lua", "php", "shellscript"} < set(languages)
    assert len(set(languages)) == 12


def test_each_can_be_measured(items: list[Item]) -> None:
    found = places(items, None, 0)
    assert len(found) == 120
    assert all(len(place.middle) >= 4 for place in found)


def test_prefix_truth_and_suffix_are_the_file(tmp_path: Path) -> None:
    folder = library(tmp_path, 25)
    for item in guard_items(folder):
        if item.path in GUARD_MODULES:
            text = (folder / item.path).read_text(encoding="utf-8")
            assert item.prefix + item.truth_line + item.suffix in text
            assert item.suffix[:1] in ("", "\n")
            assert "\n" not in item.truth_line


def test_a_place_stays_where_its_file_grows_elsewhere(tmp_path: Path) -> None:
    folder = library(tmp_path, 25)
    before = {(item.path, item.truth_line) for item in guard_items(folder)}
    for name in GUARD_MODULES:
        (folder / name).write_text("import os\n\n\n" + (folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    assert {(item.path, item.truth_line) for item in guard_items(folder)} == before
    assert guard_items(folder) == guard_items(folder)


def test_few_places_are_spread_over_the_modules(tmp_path: Path) -> None:
    paths = [item.path for item in guard_items(library(tmp_path, 25)) if item.path in GUARD_MODULES]
    assert len(paths) == PLACES and all(paths.count(name) == 4 for name in GUARD_MODULES)


def test_a_library_without_sources_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="install Python with them"):
        guard_items(tmp_path)
    (tmp_path / "argparse.py").write_text("def broken(:\n", encoding="utf-8")
    (tmp_path / "shlex.py").write_bytes(b"\xff\xfe\0x")
    (tmp_path / "queue.py").mkdir()
    with pytest.raises(TrainingError):
        guard_items(tmp_path)
