"""Fine-tuning from the command to the rollback, through the protocol: real weights, a real run, a small budget.

The smallest model that the package index has, so that it takes a minute and a half on two quiet cores; most of that is
the measuring, which no budget cuts short.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import RawClient

from intract_lsp.models import fetch
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import default_paths

sys.path.append(str(Path(__file__).parents[1] / "unit" / "training"))

from training_projects import project

MODEL = "smollm2-135m-instruct"
PATIENCE = 900.0
"""Seconds for anything: how busy the machine is must not decide."""
BUDGET = {"steps": 6, "batch_size": 4, "context_length": 128, "held_out": 8}
"""The least that teaches anything: 24 samples."""

ENDED = ("promoted", "rejected", "succeeded")
"""So little training may gain something or not; either is told, with a report and an adapter."""


@pytest.fixture
def model() -> InstalledModel:
    model = fetch.cached(MODEL, default_paths())
    if model is None:
        pytest.fail(f"The smallest model is not on this machine: run `intract-lsp models pull {MODEL}` first.")
    return model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project(tmp_path / "project")


@pytest.fixture
def client(model: InstalledModel, root: Path, tmp_path: Path) -> Iterator[RawClient]:
    client = RawClient([sys.executable, "-m", "intract_lsp", "serve"], tmp_path / "home")
    client.initialize(
        {"textDocument": {"inlineCompletion": {}}, "window": {"workDoneProgress": True}},
        workspaceFolders=[{"uri": root.as_uri(), "name": root.name}],
        initializationOptions={
            "model": {"name": str(model.directory)},
            # A busy machine must not decide whether there is an answer.
            "completion": {"deadline_ms": 120_000},
            "training": BUDGET,
        },
    )
    status(client, lambda one: one["engine"]["state"] in ("ready", "failed"), "a loaded model")
    yield client
    client.kill()


def status(client: RawClient, accept: Any, what: str) -> Any:
    """Wait for the newest status to be acceptable, and return it."""

    def look() -> Any:
        sent = [note["params"] for note in client.notifications if note["method"] == "intract/status"]
        return sent[-1] if sent and accept(sent[-1]) else None

    return client.wait(look, what, PATIENCE)


PLACE = "import os\n\n\ndef part_{number}(path):\n    return os.path."
"""A document in which any model of code has something to say at the end, however little it has learnt."""


def complete(client: RawClient, root: Path, number: int) -> str:
    """Ask in a document of its own; return what answered: the model's name, format and adapter."""
    uri, text = (root / f"part_{number}.py").as_uri(), PLACE.format(number=number)
    client.open(uri, text)
    last = text.splitlines()[-1]
    params = {
        "textDocument": {"uri": uri},
        "position": {"line": text.count("\n"), "character": len(last)},
        "context": {"triggerKind": 1},
    }
    answer = client.call("textDocument/inlineCompletion", params, seconds=PATIENCE)
    while (why := client.run("intract.why", {"uri": uri}))["reason"] == "loading":
        status(client, lambda one: one["engine"]["state"] == "ready", "a loaded model")
        answer = client.call("textDocument/inlineCompletion", params, seconds=PATIENCE)
    assert answer["items"], why["message"]
    assert why["source"] == "model"
    return str(why["model"])


@pytest.mark.timeout(2 * PATIENCE)
def test_from_the_command_to_the_rollback(client: RawClient, root: Path) -> None:
    before = complete(client, root, 1)
    began = time.monotonic()

    run = client.run("intract.fineTune", {"method": "lora"})["run"]
    status(client, lambda one: "step " in (one["training"] or {}).get("message", ""), "a step")
    print(f"the first step after {time.monotonic() - began:.0f} s")
    assert complete(client, root, 2) == before, "completions go on meanwhile"
    status(client, lambda one: (one["training"] or {}).get("state") in ENDED, "the run's end")
    print(f"the run ended after {time.monotonic() - began:.0f} s")

    shown = client.notified("window/showMessage", lambda note: note["message"].startswith("Fine-tuning on"))
    values = [note["params"]["value"] for note in client.notifications if note["method"] == "$/progress"]
    steps = [value for value in values if value["kind"] == "report" and "loss" in value["message"]]
    assert steps and 0 < steps[-1]["percentage"] < 100
    report = client.run("intract.fineTune.report", {"run": run})
    assert report["message"] in shown["message"]
    assert "<svg" in Path(report["html"]).read_text(encoding="utf-8")
    assert report["figures"]["nll_base"] > 0 and report["figures"]["nll_adapter"] > 0
    told = client.run("intract.fineTune.status", {"run": run})
    print(f"{told['state']}: {told['message']}")
    adapter = told["adapter"]
    (listed,) = client.run("intract.adapters.list")["adapters"]
    assert listed["id"] == adapter

    promoted = told["state"] == "promoted"
    assert listed["active"] is promoted
    if not promoted:
        answer = client.call(
            "workspace/executeCommand",
            {"command": "intract.adapters.promote", "arguments": [{"id": adapter}]},
            seconds=PATIENCE,
        )
        assert answer["message"] == f"The adapter {adapter} serves now."
    status(client, lambda one: one["model"]["adapter"] == adapter, "the adapter in service")
    assert complete(client, root, 3) == f"{before}+{adapter}"

    back = client.call(
        "workspace/executeCommand", {"command": "intract.adapters.rollback", "arguments": [{}]}, seconds=PATIENCE
    )
    assert "without an adapter serves now" in back["message"]
    status(client, lambda one: one["model"]["adapter"] == "", "the model alone")
    assert complete(client, root, 4) == before
    print(f"all of it took {time.monotonic() - began:.0f} s")
    assert client.leave() == 0
