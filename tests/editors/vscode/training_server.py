"""A server that fine-tunes nothing: it answers, reports and stops as the real one does, in seconds and without a model.

What the extension does of fine-tuning is tested against it; what the real server answers is tested with the server.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

RUN = "run-1"
STEP_SECONDS = 0.1
STEPS = 60
EVALUATION = {"edit_similarity_base": 41.2, "edit_similarity_adapter": 45.0}

server = LanguageServer("intract-lsp", "0.1.0")
state: dict[str, Any] = {"state": None, "step": 0, "active": "", "runs": 0, "adapters": ["old", "new"]}


def publish() -> None:
    run = {"state": state["state"], "run": RUN, "fraction": state["step"] / STEPS, "message": f"step {state['step']}"}
    values = {
        "engine": {"state": "ready", "model": "stand-in"},
        "model": {"name": "stand-in", "adapter": state["active"]},
        "enabled": True,
        "disabledLanguages": [],
        "training": run if state["state"] else None,
    }
    server.protocol.notify("intract/status", values)


def end(outcome: str) -> None:
    state["state"] = outcome
    publish()
    server.window_show_message(types.ShowMessageParams(types.MessageType.Info, f"The run was {outcome}."))


async def train() -> None:
    state["runs"] += 1
    token = f"intract-train-{state['runs']}"
    await server.work_done_progress.create_async(token)
    server.work_done_progress.begin(
        token, types.WorkDoneProgressBegin("Fine-tuning on work", cancellable=True, percentage=0)
    )
    state["state"] = "running"
    for step in range(STEPS):
        if state["state"] != "running" or server.work_done_progress.tokens[token].cancelled():
            break
        state["step"] = step
        server.work_done_progress.report(
            token, types.WorkDoneProgressReport(message=f"step {step}", percentage=100 * step // STEPS)
        )
        publish()
        await asyncio.sleep(STEP_SECONDS)
    finished = state["step"] == STEPS - 1
    server.work_done_progress.end(token, types.WorkDoneProgressEnd())
    end("promoted" if finished else "stopped")


@server.feature(types.INITIALIZED)
def initialized(params: types.InitializedParams) -> None:
    publish()


@server.command("intract.fineTune")
def fine_tune(arguments: Any) -> dict[str, Any]:
    state["step"] = 0
    state["task"] = asyncio.ensure_future(train())
    return {"run": RUN, "message": f"Fine-tuning begins with {sorted(arguments)}."}


@server.command("intract.fineTune.cancel")
def cancel(arguments: Any) -> dict[str, Any]:
    state["state"] = "stopping"
    return {"run": RUN, "message": f"The run {RUN} is being cancelled."}


@server.command("intract.fineTune.status")
def status(arguments: Any) -> dict[str, Any]:
    return {"run": RUN, "state": state["state"], "message": f"step {state['step']}"}


@server.command("intract.fineTune.report")
def report(arguments: Any) -> dict[str, Any]:
    page = Path(tempfile.mkdtemp()) / "report.html"
    page.write_text(
        "<html><head><title>r</title></head><body><h1>What the run gained</h1>"
        "<script>document.body.textContent = 'a script ran'</script></body></html>",
        encoding="utf-8",
    )
    return {"run": RUN, "html": str(page), "message": ""}


@server.command("intract.adapters.list")
def adapters(arguments: Any) -> dict[str, Any]:
    entries = [{"id": one, "active": one == state["active"], **EVALUATION} for one in state["adapters"]]
    return {"adapters": entries, "runs": [{"id": RUN, "state": state["state"]}] if state["state"] else []}


@server.command("intract.adapters.promote")
def promote(arguments: Any) -> dict[str, Any]:
    state["active"] = arguments["id"]
    publish()
    return {"message": f"{arguments['id']} is in use."}


@server.command("intract.adapters.rollback")
def roll_back(arguments: Any) -> dict[str, Any]:
    state["active"] = ""
    publish()
    return {"message": "The base model is in use again."}


@server.command("intract.adapters.remove")
def remove(arguments: Any) -> dict[str, Any]:
    state["adapters"].remove(arguments["id"])
    return {"message": f"{arguments['id']} is removed."}


if __name__ == "__main__":
    server.start_io()
