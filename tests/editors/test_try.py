"""The places that scripts/try completes at."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "try_places.py"


@pytest.fixture(scope="module")
def places() -> ModuleType:
    spec = importlib.util.spec_from_file_location("try_places", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_our_own_places_are_still_there(places: ModuleType) -> None:
    found = places.own_places()
    assert len(found) == 3
    for place in found:
        assert place.before + place.removed + place.behind == place.path.read_text(encoding="utf-8")
        assert len(place.removed.strip()) > 10
    assert "\n" in found[2].removed
    assert found[2].behind.startswith("\n")


def test_the_rest_of_the_line_is_taken_out_and_its_end_stays(places: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes("é = 1\r\nbeta = 2\r\n".encode())
    place = places.parse_place(f"{path}:2:8")
    assert (place.before, place.removed, place.behind) == ("é = 1\r\nbeta = ", "2", "\r\n")
    assert place.title == f"{path}:2:8"


@pytest.mark.parametrize(
    ("suffix", "sentence"),
    [
        ("", "is no place; write FILE:LINE:COL"),
        (":1", "is no place; write FILE:LINE:COL"),
        (":1:x", "is no place; write FILE:LINE:COL"),
        (":0:1", "there is no line 0"),
        (":4:1", "there is no line 4"),
        (":1:7", "there is no column 7; line 1 ends at column 6"),
        ("-missing:1:1", "cannot be read"),
    ],
)
def test_a_bad_place_is_refused_in_one_sentence(places: ModuleType, tmp_path: Path, suffix: str, sentence: str) -> None:
    path = tmp_path / "a.py"
    path.write_text("a = 1\nb = 2\n", encoding="utf-8")
    with pytest.raises(places.TryError, match=sentence):
        places.parse_place(f"{path}{suffix}")


def test_a_file_that_is_no_text_is_refused(places: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(places.TryError, match="no UTF-8 text file"):
        places.parse_place(f"{path}:1:1")
