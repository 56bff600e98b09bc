from __future__ import annotations

from pathlib import Path

import pytest

from intract_lsp.completion.request import TriggerKind
from intract_lsp.errors import LocationError
from intract_lsp.location import WINDOW, read_request


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "näme with space.py"
    path.write_bytes("a = 1\r\nb = '😀'\nlast".encode())
    return path


@pytest.mark.parametrize(
    ("place", "prefix", "suffix"),
    [
        ("1:1", "", "a = 1\r\nb = '😀'\nlast"),
        ("1:6", "a = 1", "\r\nb = '😀'\nlast"),
        ("2:7", "a = 1\r\nb = '😀", "'\nlast"),
        ("3:5", "a = 1\r\nb = '😀'\nlast", ""),
    ],
)
def test_places(file: Path, place: str, prefix: str, suffix: str) -> None:
    request, _ = read_request(f"{file}:{place}")
    assert (request.prefix, request.suffix) == (prefix, suffix)
    assert request.trigger is TriggerKind.INVOKED
    assert (request.language_id, request.path) == ("python", file.name)
    assert request.uri == file.as_uri()


def test_a_name_with_colons(tmp_path: Path) -> None:
    (tmp_path / "a:1:2").write_text("xyz")
    assert read_request(f"{tmp_path}/a:1:2:1:3")[0].prefix == "xy"


def test_the_line_behind_the_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n")
    assert read_request(f"{tmp_path}/a.py:2:1")[0].prefix == "x\n"


def test_a_large_file_is_cut_around_the_cursor(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * 200_000)
    request, _ = read_request(f"{tmp_path}/a.py:100000:1")
    assert WINDOW <= len(request.prefix) < 2 * WINDOW
    assert WINDOW <= len(request.suffix) < 2 * WINDOW
    assert request.prefix.startswith("x = 1\n")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("0:1", "has 3 lines; there is no line 0"),
        ("4:1", "has 3 lines; there is no line 4"),
        ("1:0", "COL is 1 to 6, not 0"),
        ("1:7", "has 5 characters: COL is 1 to 6, not 7"),
        ("1", "no FILE:LINE:COL"),
        ("1:x", "no FILE:LINE:COL"),
        ("1:-1", "no FILE:LINE:COL"),
    ],
)
def test_wrong_places(file: Path, place: str, says: str) -> None:
    with pytest.raises(LocationError) as caught:
        read_request(f"{file}:{place}")
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")


def test_wrong_files(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LocationError, match="not UTF-8 text"):
        read_request(f"{tmp_path}/binary:1:1")
    with pytest.raises(LocationError, match="cannot be read: No such file"):
        read_request(f"{tmp_path}/none.py:1:1")
    with pytest.raises(LocationError, match="cannot be read"):
        read_request(f"{tmp_path}:1:1")


def test_the_workspace_is_the_nearest_repository_or_the_folder_named(tmp_path: Path) -> None:
    (tmp_path / "outer" / ".git").mkdir(parents=True)
    inner = tmp_path / "outer" / "inner"
    (inner / "src").mkdir(parents=True)
    (inner / ".git").write_text("gitdir: elsewhere\n")  # as in a worktree or a submodule
    file = inner / "src" / "a.py"
    file.write_text("x\n")
    request, folder = read_request(f"{file}:1:2")
    assert (request.path, folder) == ("src/a.py", inner)
    request, folder = read_request(f"{file}:1:2", tmp_path / "outer")
    assert (request.path, folder) == ("inner/src/a.py", tmp_path / "outer")
    request, folder = read_request(f"{file}:1:2", tmp_path / "other")
    assert (request.path, folder) == ("a.py", None)
