"""Which adapter answers: that of the document's folder; and one that helps less is taken back by itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from raw_client import RawClient, Start
from test_finetune import adapter_of, make_adapter, write_safetensors

SERVER = (
    "import random; from intract_lsp.server import serving; from intract_lsp.training import offers; "
    "serving.MOVE_SECONDS = 0.05; serving.DRAW_SECONDS = {draw}; serving.BLOCK_SEEN = 0; offers.SEEN_SECONDS = 0.0; "
    "offers.KEPT_SECONDS = 0.0; chances = iter([0.0, 0.9] * 1000); random.random = lambda: next(chances); "
    "from intract_lsp.cli import main; main()"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    sizes = {"vocab_size": 8, "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **sizes}))
    (folder / "tokenizer.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", weight=b"12345678")
    return folder


def begin(start: Start, model: Path, *roots: Path, draw: float = 3600.0, **training: Any) -> RawClient:
    client = start([sys.executable, "-c", SERVER.format(draw=draw), "serve", "--engine", "echo"])
    options = {"model": {"name": str(model)}, "index": {"enabled": False}, "training": training}
    options["completion"] = {"debounce_ms": 0, "work_ahead": False}
    folders = [{"uri": root.as_uri(), "name": root.name} for root in roots]
    client.initialize(workspaceFolders=folders, initializationOptions=options)
    client.wait_ready()
    return client


def serving(client: RawClient, adapter: str, held_back: str = "") -> None:
    wanted = (adapter, held_back)

    def look() -> bool | None:
        sent = [note["params"]["model"] for note in client.notifications if note["method"] == "intract/status"]
        return (sent[-1]["adapter"], sent[-1]["heldBack"]) == wanted or None

    client.wait(look, f"adapter {wanted}")


def shown(client: RawClient) -> str:
    """The newest message but those about settings."""
    found = client.notified("window/showMessage", lambda params: params["message"].startswith("The adapter"))
    return str(found["message"])


def test_the_adapter_of_the_documents_folder_answers(start: Start, model: Path, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("one", "two", "one/inner")]
    for root in roots:
        root.mkdir()
    client = begin(start, model, *roots)
    adapters = [make_adapter(client, root, model, root.name) for root in roots]
    for adapter in adapters:
        client.run("intract.adapters.promote", {"id": adapter})
    serving(client, adapters[0])
    for number in (1, 2, 0):
        uri = (roots[number] / "a.py").as_uri()
        client.open(uri, "value = total")
        assert client.complete(uri, 0, 13)["items"]
        serving(client, adapters[number])
        client.close_document(uri)
    # What is no file of a folder changes nothing, and what is taken back is the adapter that answers.
    client.open("untitled:a", "value = total")
    assert client.complete("untitled:a", 0, 13)["items"]
    assert client.run("intract.adapters.rollback")["message"].startswith("Rolled back")
    serving(client, "")
    assert client.leave() == 0


def test_one_that_is_accepted_less_is_taken_back(start: Start, model: Path, tmp_path: Path) -> None:
    root = tmp_path / "one"
    root.mkdir()
    client = begin(start, model, root, draw=0.1, hold_back=0.5)
    adapter = make_adapter(client, root, model)
    client.run("intract.adapters.promote", {"id": adapter})
    serving(client, adapter)
    uri = (root / "a.py").as_uri()
    client.open(uri, "value = total\n" * 4000)
    line = 0

    def ask() -> str:
        """Ask once, accept what is not the adapter's, and return which adapter answered."""
        nonlocal line
        line += 1
        (item,) = client.complete(uri, line, 13)["items"]
        answered: str = client.run("intract.why")["model"].partition("+")[2]
        if not answered:
            end = {"line": line, "character": 13}
            client.change(uri, line + 1, {"range": {"start": end, "end": end}, "text": item["insertText"]})
            client.run(item["command"]["command"], *item["command"]["arguments"])
        return answered

    def taken_back() -> bool:
        return any(note["method"] == "window/showMessage" for note in client.notifications)

    for _ in range(100):
        last = [ask() for _ in range(8)][-1]
        # Chance is made to take turns, so that the other version answers after each pause.
        client.wait(lambda last=last: taken_back() or adapter_of(client) != last or None, "a pause")  # type: ignore[misc]
        if taken_back():
            break
    assert shown(client).startswith(f"The adapter {adapter} was taken back: 0 of ")
    serving(client, "")
    (listed,) = client.run("intract.adapters.list")["adapters"]
    assert (listed["status"], listed["active"]) == ("retired", False)
    trial = listed["trial"]
    assert (trial["decision"], trial["kept"]) == ("take-back", 0) and trial["keptBefore"] > 0
    assert client.leave() == 0
