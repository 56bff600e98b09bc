"""What is planted in a workspace and must come out nowhere: in no result, in no file of ours, in no log."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import pytest
from raw_client import SECONDS, RawClient, Start

INNOCENT = "perfectly_harmless_marker"


def random_text(seed: str, length: int) -> str:
    """Letters and digits as a maker of tokens draws them; the same each time."""
    drawn = b"".join(hashlib.sha256(f"{seed}{number}".encode()).digest() for number in range(length // 20 + 1))
    return base64.b64encode(drawn).decode().replace("+", "x").replace("/", "y").replace("=", "")[:length]


TOKEN = "ghp_" + random_text("token", 36)
LATER = "ghp_" + random_text("later", 36)
PASSWORD = random_text("password", 24)
KEY_LINES = [random_text(f"key {number}", 64) for number in range(12)]
SECRETS = [TOKEN, LATER, PASSWORD, *KEY_LINES]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    root.mkdir()
    begin, end = (f"-----{word} RSA PRIVATE KEY-----" for word in ("BEGIN", "END"))
    key = "\n".join([begin, *KEY_LINES, end, ""])
    (root / ".env").write_text(f"DATABASE_PASSWORD={PASSWORD}\nGITHUB_TOKEN={TOKEN}\n")
    (root / "id_rsa").write_text(key)
    (root / "deploy.pem").write_text(key)
    (root / "notes.md").write_text(f"# Deploying\n\nThe key of the server:\n\n{key}\n")
    (root / "client.py").write_text(
        f'API_TOKEN = "{TOKEN}"\n\n\n'
        f'def connect(token="{TOKEN}", password="{PASSWORD}"):\n    return token\n\n\n'
        f"def {INNOCENT}():\n    return 1\n"
    )
    (root / "config.yaml").write_text(f"server:\n  password: {PASSWORD}\n  name: {INNOCENT}\n")
    (root / "ignored.py").write_text(f"def {INNOCENT}_ignored():\n    return '{KEY_LINES[0]}'\n")
    (root / ".gitignore").write_text("ignored.py\n")
    return root


def wait_until(condition: Any) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def leaks(data: str | bytes) -> list[str]:
    text = data if isinstance(data, bytes) else data.encode()
    # Also without what a column of a table may share between rows, and in its two halves.
    return [
        secret for secret in SECRETS if any(part.encode() in text for part in (secret[4:], secret[:20], secret[-20:]))
    ]


def stored_rows(home: Path) -> Iterator[dict[str, Any]]:
    """The rows of all versions of all tables, with their texts as they were before they were compressed."""
    for directory in home.glob("cache/index/*/*.lance"):
        table = lancedb.connect(directory.parent).open_table(directory.stem)
        for version in table.list_versions():
            table.checkout(version["version"])
            for row in table.search().to_list():
                yield {**row, "text": zlib.decompress(row["text"])}


@pytest.mark.parametrize("under_git", [True, False])
def test_secrets_are_in_no_result_no_table_and_no_log(start: Start, root: Path, under_git: bool) -> None:
    if under_git:
        for command in (["init", "--quiet"], ["add", "--all", "--force", ":!ignored.py"]):
            subprocess.run(["git", *command], cwd=root, check=True)
    client = start()
    folders = [{"uri": root.as_uri(), "name": "work"}]
    client.initialize(workspaceFolders=folders, initializationOptions={"log": {"level": "debug"}})

    def search(query: str) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = client.run("intract.searchWorkspace", {"query": query, "limit": 100})["results"]
        return results

    wait_until(lambda: any(f"def {INNOCENT}()" in result["text"] for result in search(INNOCENT)))
    # One more secret comes while the server watches, and what was fine before is no longer.
    (root / "later.py").write_text(f"def later_{INNOCENT}():\n    return 2\n")
    wait_until(lambda: any("later" in result["text"] for result in search(f"later_{INNOCENT}")))
    (root / "later.py").write_text(f'def later_{INNOCENT}():\n    return "{LATER}"\n\n\ndef beside_it():\n    pass\n')
    client.notify("textDocument/didSave", {"textDocument": {"uri": (root / "later.py").as_uri()}})
    wait_until(lambda: not any(f"later_{INNOCENT}" in result["text"] for result in search(f"later_{INNOCENT}")))
    wait_until(lambda: search("beside it"))

    words = ("api token", "connect password", "database_password", "private key", "deploying", "ignored", INNOCENT)
    results = [result for query in (*words, *SECRETS) for result in search(query)]
    assert results
    assert not leaks(str(results))
    assert not {result["path"] for result in results} & {".env", "id_rsa", "deploy.pem", "ignored.py"}
    client.open((root / "client.py").as_uri(), f"x = {TOKEN}")
    client.complete((root / "client.py").as_uri(), 0, 4 + len(TOKEN))
    assert client.leave() == 0
    check_home(client)


def check_home(client: RawClient) -> None:
    rows = list(stored_rows(client.home))
    assert any(INNOCENT.encode() in row["text"] for row in rows)
    assert not leaks(str(rows))
    assert not {row["path"] for row in rows} & {".env", "id_rsa", "deploy.pem", "ignored.py"}
    files = [file for file in client.home.rglob("*") if file.is_file()]
    # The database's log is among them.
    assert any(file.suffix == ".lance" for file in files)
    assert any(INNOCENT.encode() in file.read_bytes() for file in files if file.name.startswith("state.db"))
    assert {file.name: found for file in files if (found := leaks(file.read_bytes()))} == {}
    assert not leaks(client.log + client.stderr)
    assert INNOCENT not in client.log + client.stderr
