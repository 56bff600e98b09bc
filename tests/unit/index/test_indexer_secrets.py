"""A planted secret is in no chunk, no symbol, no file of the index and no log."""

from __future__ import annotations

import json
import logging
import random
import string
from pathlib import Path

import pytest

from intract_lsp.index.extraction import extract
from intract_lsp.index.folder import IndexFolder
from intract_lsp.index.grammars import Grammars
from intract_lsp.index.indexer import FolderIndexer
from intract_lsp.state import open_state

GRAMMARS = Grammars()

# Made when the test runs, so that no scanner takes this file for a leak.
_RANDOM = random.Random(11)
TOKEN = "ghp_" + "".join(_RANDOM.choices(string.ascii_letters + string.digits, k=36))
PASSWORD = "".join(_RANDOM.choices(string.ascii_letters + string.digits, k=20))
KEY_LINES = ["".join(_RANDOM.choices(string.ascii_letters + string.digits + "+/", k=64)) for _ in range(6)]
KEY = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *KEY_LINES, "-----END RSA PRIVATE KEY-----"])
SECRETS = (TOKEN, PASSWORD, *KEY_LINES)

FILLER = "\n".join(f"    line_{number} = compute(line_{number - 1}, {number})" for number in range(1, 40))
PLANTED = {
    ".env": f"API_TOKEN={TOKEN}\n",
    "deploy/id_rsa": KEY + "\n",
    "server.pem": KEY + "\n",
    "client.py": f"""
import requests


class Client:
    token = "{TOKEN}"

    def connect(self, host: str, password: str = "{PASSWORD}") -> None:
        '''Connect.'''
{FILLER}

    def close(self) -> None:
        self.closed = True
{FILLER}


def harmless(value: int) -> int:
{FILLER}
    return value
""",
    "Keys.java": f"""
class Keys {{
    static final String TOKEN = "{TOKEN}";
    String find(String name) {{
        return name;
    }}
}}
""",
    "notes.md": f"# Notes\n\nAsk for the key:\n\n{KEY}\n\n# Other\n\n" + "Nothing here.\n" * 80,
    "notebook.ipynb": json.dumps(
        {
            "cells": [
                {"cell_type": "markdown", "source": ["# Title\n", "Some words on what this is for.\n"]},
                {"cell_type": "code", "source": ["def ok():\n", "    return 1\n"]},
                {"cell_type": "code", "source": [f"password = '{PASSWORD}'\n", "def used():\n", "    return 2\n"]},
                {
                    "cell_type": "code",
                    "source": ["def shown():\n", "    return 3\n"],
                    "outputs": [{"output_type": "stream", "text": [TOKEN]}],
                },
            ]
        },
        indent=1,
    ),
    "settings.yaml": f"host: example\npassword: {PASSWORD}\n",
}


def holds_one(text: str) -> bool:
    return any(secret in text or secret[:16] in text for secret in SECRETS)


def test_planted_secrets_are_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    root = tmp_path / "root"
    for path, text in PLANTED.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    state = open_state(tmp_path / "state.db")
    indexer = FolderIndexer(root, IndexFolder(tmp_path / "index", root), state, 100)
    indexer.scan(lambda done, total: None, lambda: None)
    indexer.update((*PLANTED, "client.py"), ())
    store, symbols = indexer.searched.store, indexer.searched.symbols
    assert set(symbols.files) == {"client.py", "Keys.java", "notes.md", "notebook.ipynb", "settings.yaml"}
    shown = [chunk.text for path in symbols.files for chunk in store.chunks_of(path)]
    shown += [symbol.signature for path in symbols.files for symbol in symbols.of_file(path)]
    assert not any(holds_one(text) for text in shown)
    # What has nothing to do with them stays.
    assert [one.name for one in symbols.of_file("client.py")] == ["close", "harmless"]
    assert any("def harmless" in text for text in shown)
    assert any("Nothing here." in text for text in shown)
    assert [one.name for one in symbols.of_file("notebook.ipynb")] == ["ok", "used", "shown"]
    indexer.compact()
    indexer.close()
    state.close()
    for file in (path for path in tmp_path.rglob("*") if path.is_file() and root not in path.parents):
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS), file.name
    assert not holds_one(caplog.text)


def test_headers_that_show_a_secret_of_elsewhere() -> None:
    # A long class: each method's chunk repeats its header, whose lines are no lines of the chunk's own.
    methods = "\n".join(f"    def method_{number}(self):\n{FILLER}\n" for number in range(3))
    text = f'class Client(Base, token="{TOKEN}"):\n    """Talks."""\n\n{methods}\n'
    found = extract("client.py", text, GRAMMARS)
    assert not any(holds_one(chunk.text) for chunk in found.chunks)
    assert not any(holds_one(symbol.signature) for symbol in found.symbols)


def test_a_secret_in_a_header_that_is_cut_off() -> None:
    methods = "\n".join(f"    def method_{number}(self):\n{FILLER}\n" for number in range(3))
    bases = ", ".join(f"BaseNumber{number:03}" for number in range(8))
    # What is repeated of the header ends within the token, which no rule takes for one then.
    text = f'class Client({bases}, token="{TOKEN}"):\n    """Talks."""\n\n{methods}\n'
    assert 110 < text.index(TOKEN) < 145
    found = extract("client.py", text, GRAMMARS)
    assert not any(TOKEN[:8] in chunk.text for chunk in found.chunks)


def test_a_method_from_elsewhere_in_a_signature() -> None:
    text = (
        "type Client struct {\n\tname string\n\tother int\n}\n\n"
        f"func (c *Client) Login(secret string /* {TOKEN} */) error {{\n\treturn nil\n}}\n"
    )
    found = extract("client.go", text, GRAMMARS)
    assert not any(holds_one(symbol.signature) for symbol in found.symbols)
    assert not any(holds_one(chunk.text) for chunk in found.chunks)


def test_what_is_defined_around_a_secret_is_left_out() -> None:
    text = f"def login(user):\n    return send(user, '{TOKEN}')\n\n\ndef logout(user):\n    return send(user)\n"
    found = extract("a.py", text, GRAMMARS)
    assert [symbol.name for symbol in found.symbols] == ["logout"]
    assert [chunk.symbol for chunk in found.chunks] == ["logout"]


def test_a_file_without_secrets_loses_nothing() -> None:
    text = "import os\n\n\ndef password_of(user: str) -> str:\n    return os.environ['PASSWORD']\n"
    found = extract("a.py", text, GRAMMARS)
    assert [symbol.name for symbol in found.symbols] == ["password_of"]
    assert "".join(chunk.text for chunk in found.chunks).count("environ") == 1
