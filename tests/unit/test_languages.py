from __future__ import annotations

import pytest

from intract_lsp.languages import language_id


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("app.py", "python"),
        ("src/App.TSX", "typescriptreact"),
        ("Makefile", "makefile"),
        ("docker/Dockerfile", "dockerfile"),
        ("archive.tar.go", "go"),
        ("run.sh", "shellscript"),
        ("notes", "plaintext"),
        ("data.unknown", "plaintext"),
        (".py", "plaintext"),
        ("", "plaintext"),
    ],
)
def test_by_name(name: str, expected: str) -> None:
    assert language_id(name) == expected
