"""Fine-tuning through the protocol, with the echo engine; a run's process is one that says what the test wants."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_client import CLIENT, AnsweredWithError, RawClient, Start

from intract_lsp.inference.engine import AdapterKind
from intract_lsp.models.store import weights_fingerprint
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.provenance import Provenance

FAKE = Path(__file__).parents[1] / "worker" / "fake_child.py"
SERVER = (
    "import sys; from intract_lsp import app; "
    f"app.child_command = lambda spec: [sys.executable, {str(FAKE)!r}, str(spec)]; "
    "from intract_lsp.cli import main; main()"
)
PROGRESS = {**CLIENT, "window": {"workDoneProgress": True}}
STEP = {
    "event": "step",
    "step": 2,
    "steps": 8,
    "loss": 1.5,
    "tokens": 9,
    "tokens_per_second": 3.0,
    "seconds_left": 60.0,
}
REJECTED = {"event": "finished", "status": "rejected", "reason": "No gain, nothing changed."}


def write_safetensors(path: Path, **values: bytes) -> None:
    header, offset = {}, 0
    for name, content in values.items():
        header[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(values.values()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What passes for a model as far as its headers go."""
    folder = tmp_path / "model"
    folder.mkdir()
    sizes = {"vocab_size": 8, "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **sizes}))
    (folder / "tokenizer.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", weight=b"12345678")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "wörk"
    root.mkdir()
    return root


def script(root: Path, *steps: object) -> None:
    known = [step if isinstance(step, dict) and "event" not in step else {"say": step} for step in steps]
    (root / "script.json").write_text(json.dumps(known))


@pytest.fixture
def session(start: Start, root: Path, model: Path) -> Callable[..., RawClient]:
    """Return a function that begins a session on the folder; with ``after`` in the home of that earlier one."""

    def run(after: RawClient | None = None, **training: Any) -> RawClient:
        client = start([sys.executable, "-c", SERVER, "serve", "--engine", "echo"], after and after.home)
        options = {"model": {"name": str(model)}, "index": {"enabled": False}, "training": training}
        folders = [{"uri": root.as_uri(), "name": root.name}]
        client.initialize(PROGRESS, workspaceFolders=folders, initializationOptions=options)
        client.wait_ready()
        return client

    return run


def training(client: RawClient, accept: Callable[[Any], object]) -> Any:
    """Wait for a status whose part about training is acceptable."""
    status = client.notified("intract/status", lambda status: status["training"] and accept(status["training"]))
    return status["training"]


def message(client: RawClient) -> str:
    """Wait for the message about the run's end."""
    shown = client.notified("window/showMessage", lambda shown: shown["message"].startswith("Fine-tuning on"))
    text = shown["message"]
    assert isinstance(text, str)
    return text


def progress(client: RawClient) -> list[Any]:
    return [note["params"]["value"] for note in client.notifications if note["method"] == "$/progress"]


def test_a_run_from_the_command_to_the_message(session: Callable[..., RawClient], root: Path) -> None:
    stage = {"event": "stage", "name": "train", "message": "Training", "fraction": 0.0}
    script(root, stage, STEP, {"hold": "go"}, REJECTED)
    client = session()
    begun = client.run("intract.fineTune", {"minutes": 1})
    assert begun["message"].startswith("Fine-tuning ")
    assert "(lora) begins" in begun["message"]
    at_work = training(client, lambda one: one["state"] == "running" and one["message"].startswith("step"))
    assert at_work["run"] == begun["run"]
    assert at_work["message"] == "step 2 of 8, loss 1.500, 3 tokens/s, 1 min left"
    status = client.run("intract.fineTune.status")
    assert (status["state"], status["step"], status["secondsLeft"]) == ("running", 2, 60.0)
    (root / "go").touch()
    assert message(client) == f"Fine-tuning on {root.name}: No gain, nothing changed."
    assert training(client, lambda one: one["state"] == "rejected")["run"] == begun["run"]
    assert client.run("intract.fineTune.status", {"run": begun["run"]})["state"] == "rejected"
    client.notified("$/progress", lambda params: params["value"]["kind"] == "end")
    kinds = [value["kind"] for value in progress(client)]
    assert (kinds[0], kinds[-1]) == ("begin", "end")
    assert progress(client)[0]["cancellable"]
    assert any("step 2 of 8" in value.get("message", "") for value in progress(client))
    spec = json.loads((client.home / "data" / "runs" / begun["run"] / "spec.json").read_text())
    assert (spec["workspace"], spec["trainer"]["minutes"]) == (str(root.resolve()), 1)
    listed = client.run("intract.adapters.list")
    assert [(row["id"], row["state"]) for row in listed["runs"]] == [(begun["run"], "rejected")]
    assert client.leave() == 0


def test_completions_go_on_meanwhile_and_the_run_gives_way(session: Callable[..., RawClient], root: Path) -> None:
    script(root, STEP, {"hold": "go"}, REJECTED)
    client = session()
    client.run("intract.fineTune")
    training(client, lambda one: one["state"] == "running" and one["fraction"])
    client.open("untitled:a", "value = total")
    assert client.complete("untitled:a", 0, 13)["items"]
    assert training(client, lambda one: one["state"] == "paused")["message"].startswith("Paused while you type")
    (root / "go").touch()
    assert message(client).endswith("nothing changed.")


def test_a_model_that_makes_room_for_a_run_is_back_when_that_is_over(
    session: Callable[..., RawClient], root: Path
) -> None:
    script(root, STEP, {"event": "room", "sentence": "It needs 9 GiB."}, {"hold": "go"}, REJECTED)
    client = session()
    client.open("untitled:a", "value = total")
    client.run("intract.fineTune")
    resting = client.notified("intract/status", lambda status: status["engine"]["state"] == "resting")
    assert "until the fine-tuning run is over" in resting["engine"]["message"]
    assert client.complete("untitled:a", 0, 13)["items"] == []
    why = client.run("intract.why")
    assert why["reason"] == "resting"
    client.notifications.clear()  # it has been ready before
    (root / "go").touch()
    assert message(client).endswith("nothing changed.")
    client.wait_ready()
    assert client.complete("untitled:a", 0, 13)["items"]
    assert client.leave() == 0


def test_the_report_is_where_the_answer_says(session: Callable[..., RawClient], root: Path) -> None:
    script(root, {"say": {**REJECTED, "figures": {"nll_base": 2.0}}})
    client = session()
    run = client.run("intract.fineTune")["run"]
    message(client)
    assert client.run("intract.fineTune.report")["message"].startswith("There is no report yet")
    folder = client.home / "data" / "runs" / run
    (folder / "report.html").write_text("<!doctype html>")
    (folder / "report.json").write_text('{"status": "rejected"}')
    answer = client.run("intract.fineTune.report", {"run": run})
    assert answer == client.run("intract.fineTune.report")
    assert (answer["html"], answer["json"]) == (str(folder / "report.html"), str(folder / "report.json"))
    assert (answer["figures"], answer["report"]) == ({"nll_base": 2.0}, {"status": "rejected"})
    assert client.run("intract.fineTune.report", {"run": "other"})["html"] is None


def test_a_run_is_cancelled_by_command(session: Callable[..., RawClient], root: Path) -> None:
    script(root, STEP, {"hold": "never"})
    client = session()
    run = client.run("intract.fineTune")["run"]
    training(client, lambda one: one["state"] == "running" and one["fraction"])
    assert client.run("intract.fineTune.cancel")["run"] == run
    assert message(client).endswith("Cancelled; nothing has changed.")
    assert not (client.home / "data" / "runs" / run).exists()
    assert client.run("intract.fineTune.cancel") == {"run": None, "message": "No run is going on."}


def test_a_run_is_cancelled_in_its_progress(session: Callable[..., RawClient], root: Path) -> None:
    script(root, STEP, {"hold": "never"})
    client = session()
    client.run("intract.fineTune")
    token = client.notified("$/progress", lambda params: "step 2" in params["value"].get("message", ""))["token"]
    client.notify("window/workDoneProgress/cancel", {"token": token})
    assert message(client).endswith("Cancelled; nothing has changed.")


def test_a_second_run_waits(session: Callable[..., RawClient], root: Path) -> None:
    script(root, {"hold": "go"}, REJECTED)
    client = session()
    client.run("intract.fineTune")
    second = client.run("intract.fineTune")
    assert "begins when the 1 before it have ended" in second["message"]
    assert client.run("intract.fineTune.status", {"run": second["run"]})["state"] == "queued"
    (root / "go").touch()
    client.until(
        "workspace/executeCommand",
        lambda status: status["state"] == "rejected",
        {"command": "intract.fineTune.status", "arguments": [{"run": second["run"]}]},
    )


def make_adapter(client: RawClient, root: Path, model: Path, run: str = "run") -> str:
    """Add an adapter to the session's home."""
    candidate = client.home / f"candidate-{run}"
    candidate.mkdir(parents=True)
    (candidate / "adapter_config.json").write_text("{}")
    write_safetensors(candidate / "adapter_model.safetensors", a=b"1")
    registry = AdapterRegistry(client.home / "data", open_state(client.home / "data" / "state.db"))
    made = Provenance(str(root.resolve()), run, str(model), weights_fingerprint(model), files=(("a.py", "1"),))
    adapter = registry.create(candidate, AdapterKind.LORA, made)
    registry.close()
    return adapter.id


def adapter_is(client: RawClient, adapter: str) -> None:
    client.wait(lambda: adapter_of(client) == adapter, f"adapter {adapter!r}")


def adapter_of(client: RawClient) -> str | None:
    sent = [note["params"] for note in client.notifications if note["method"] == "intract/status"]
    return sent[-1]["model"]["adapter"] if sent else None


def test_a_promoted_adapter_serves_is_rolled_back_and_forgotten(
    session: Callable[..., RawClient], root: Path, model: Path
) -> None:
    client = session()
    adapter = make_adapter(client, root, model)
    script(root, {"event": "finished", "status": "promoted", "reason": "41.2 → 45.0, promoted.", "adapter": adapter})
    client.run("intract.fineTune")
    assert message(client) == f"Fine-tuning on {root.name}: 41.2 → 45.0, promoted. The adapter {adapter} serves now."
    adapter_is(client, adapter)
    (listed,) = client.run("intract.adapters.list")["adapters"]
    assert (listed["id"], listed["status"], listed["active"]) == (adapter, "active", True)
    with pytest.raises(AnsweredWithError, match="roll back first"):
        client.run("intract.adapters.remove", {"id": adapter})
    assert "Rolled back" in client.run("intract.adapters.rollback")["message"]
    adapter_is(client, "")
    with pytest.raises(AnsweredWithError, match="nothing to roll back"):
        client.run("intract.adapters.rollback", {})
    client.run("intract.adapters.promote", {"id": adapter})
    adapter_is(client, adapter)
    assert "No adapter was trained" in client.run("intract.adapters.forget", {"path": str(root / "b.py")})["message"]
    script(root, REJECTED)
    with pytest.raises(AnsweredWithError, match="true or false"):
        client.run("intract.adapters.forget", {"path": str(root / "a.py"), "retrain": "yes"})
    answer = client.run("intract.adapters.forget", {"path": str(root / "a.py"), "retrain": True})
    assert ".intractignore" in answer["message"] and answer["message"].endswith("(lora) begins.")
    adapter_is(client, "")
    training(client, lambda one: one["run"] == answer["run"] and one["state"] == "rejected")
    spec = json.loads((client.home / "data" / "runs" / answer["run"] / "spec.json").read_text())
    assert spec["data"]["exclude"] == ["/a.py"]
    assert client.run("intract.adapters.list")["adapters"] == []


def test_the_folders_adapter_is_loaded_at_the_start(session: Callable[..., RawClient], root: Path, model: Path) -> None:
    first = session()
    adapter = make_adapter(first, root, model)
    first.run("intract.adapters.promote", {"id": adapter})
    assert first.leave() == 0
    second = session(after=first)
    adapter_is(second, adapter)
    second.open("untitled:a", "value = total")
    assert second.complete("untitled:a", 0, 13)["items"]
    assert second.run("intract.why")["model"] == f"echo@none+{adapter}"


def test_an_adapter_that_is_not_there_changes_nothing(
    session: Callable[..., RawClient], root: Path, model: Path
) -> None:
    script(root, {"event": "finished", "status": "promoted", "reason": "Better.", "adapter": "gone-1"})
    client = session()
    client.run("intract.fineTune")
    assert "It could not be put to use: There is no adapter gone-1" in message(client)
    assert adapter_of(client) == ""


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"method": "magic"}, "intract.fineTune takes"),
        ({"minutes": "long"}, "intract.fineTune takes"),
        ({"minutes": True}, "intract.fineTune takes"),
        ({"minutes": 0}, "more than 0"),
        ({"folder": "/no/such/folder"}, "There is no folder"),
        ({"folder": 7}, "intract.fineTune takes"),
        ({"speed": 7}, "intract.fineTune takes"),
    ],
)
def test_wrong_arguments_are_told(
    session: Callable[..., RawClient], root: Path, arguments: dict[str, Any], wanted: str
) -> None:
    client = session()
    with pytest.raises(AnsweredWithError, match=wanted):
        client.run("intract.fineTune", arguments)
    assert client.run("intract.fineTune.status")["message"].startswith("No run has been asked for")


def test_what_the_settings_forbid_is_refused(session: Callable[..., RawClient]) -> None:
    client = session(enabled=False)
    with pytest.raises(AnsweredWithError, match=r"training\.enabled"):
        client.run("intract.fineTune")


def test_without_a_folder_there_is_nothing_to_learn_from(start: Start, model: Path) -> None:
    client = start([sys.executable, "-c", SERVER, "serve", "--engine", "echo"])
    client.initialize(initializationOptions={"model": {"name": str(model)}})
    client.wait_ready()
    with pytest.raises(AnsweredWithError, match="Open a folder first"):
        client.run("intract.fineTune")
    assert client.run("intract.fineTune.report")["html"] is None


def test_a_run_that_a_killed_server_left_behind_goes_on(session: Callable[..., RawClient], root: Path) -> None:
    script(root, STEP, {"hold": "go"}, REJECTED)
    client = session()
    run = client.run("intract.fineTune")["run"]
    training(client, lambda one: one["state"] == "running" and one["fraction"])
    client.kill()
    again = session(after=client)
    assert training(again, lambda one: one["state"] == "running")["run"] == run
    (root / "go").touch()
    assert message(again).endswith("nothing changed.")


def test_a_server_that_ends_leaves_its_run_to_the_next(session: Callable[..., RawClient], root: Path) -> None:
    script(root, STEP, {"hold": "go"}, REJECTED)
    client = session()
    run = client.run("intract.fineTune")["run"]
    training(client, lambda one: one["state"] == "running" and one["fraction"])
    assert client.leave() == 0
    again = session(after=client)
    assert training(again, lambda one: one["state"] == "running")["run"] == run
    again.run("intract.fineTune.cancel")
    assert message(again).endswith("Cancelled; nothing has changed.")
