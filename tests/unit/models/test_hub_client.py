"""The real hub client against a hub of our own on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from model_files import write_model

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models.pull_child import pull_in_child
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import Paths

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves one repository, whatever name is asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.status = 200
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if self.server.status != 200:
            body, headers = b"blocked by your company", {}
        elif path.startswith("/api/models/"):
            body, headers = self.listing(), {"Content-Type": "application/json"}
        else:
            body = self.server.files[path.rpartition("/")[2]]
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": REVISION}
        self.send_response(self.server.status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def listing(self) -> bytes:
        siblings = []
        for name, content in self.server.files.items():
            sibling: dict[str, object] = {"rfilename": name, "size": len(content)}
            if name.endswith((".safetensors", ".bin")):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 100}
            siblings.append(sibling)
        return json.dumps({"id": "a/b", "sha": REVISION, "siblings": siblings}).encode()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    source = write_model(tmp_path / "source", weights=bytes(100_000))
    files = {file.name: file.read_bytes() for file in source.iterdir()}
    with Hub({**files, "pytorch_model.bin": b"pickle", "modeling.py": b"code"}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield server
        server.shutdown()


def get(name: str, paths: Paths, reports: list[tuple[str, float | None]]) -> InstalledModel:
    def report(sentence: str, fraction: float | None) -> None:
        reports.append((sentence, fraction))

    return pull_in_child(name, paths, offline=False, fresh=False, report=report, token=CancelToken())


def test_a_model_comes_from_the_hub(paths: Paths, hub: Hub) -> None:
    reports: list[tuple[str, float | None]] = []
    model = get("starcoder2-3b", paths, reports)
    assert model.source == f"hub:bigcode/starcoder2-3b@{REVISION}"
    assert model.sha256 == hashlib.sha256(hub.files["model.safetensors"]).hexdigest()
    assert (model.directory / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert {file.name for file in model.directory.rglob("*")} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "intract.json",
    }
    assert not any(path.endswith((".bin", ".py")) for path in hub.asked)
    assert all("/bigcode/starcoder2-3b/" in f"{path}/" for path in hub.asked), "only the repository is asked for"
    assert any(0 < (fraction or 0) < 1 for _, fraction in reports)
    asked = len(hub.asked)
    assert get("starcoder2-3b", paths, reports) == model
    assert len(hub.asked) == asked


def test_a_proxy_that_blocks_the_hub_counts_as_unreachable(paths: Paths, hub: Hub) -> None:
    hub.status = 403
    with pytest.raises(ModelError, match=r"cannot be reached .it answered with HTTP status 403"):
        get("starcoder2-3b", paths, [])
