from __future__ import annotations

from pathlib import Path

import pytest

from intract_lsp.index.folder import inside


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("src/a.py", "src/a.py"),
        ("./src/a.py", "src/a.py"),
        ("src/../src//a.py", "src/a.py"),
        ("src/", "src"),
        ("{folder}/src/a.py", "src/a.py"),
        ("{link}/src/a.py", "src/a.py"),
        ("gone.py", "gone.py"),
        ("..foo", "..foo"),
        (".", None),
        ("{folder}", None),
        ("../a.py", None),
        ("/etc/passwd", None),
    ],
)
def test_a_path_however_it_is_spelt_is_one_inside_the_folder(tmp_path: Path, path: str, known: str | None) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "src").mkdir(parents=True)
    link.symlink_to(folder)
    assert inside(folder, path.format(folder=folder, link=link)) == known
