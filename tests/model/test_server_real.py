"""The product as a stranger meets it: real weights behind the real server and the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from raw_client import AUTOMATIC, RawClient

from intract_lsp.models.store import InstalledModel

SOURCE = """import os


def count_lines(path):
    \"\"\"Return the number of lines in the file at path.\"\"\"
    with open(path) as stream:
        return sum(1 for line in stream)


def count_words(path):
    \"\"\"Return the number of words in the file at path.\"\"\"
    with open(path) as stream:
        return{space}
""".format(space=" ")
LINE, COLUMN = 12, 14
URI = "file:///work/count.py"
MINUTES = 180.0


def settings(model: InstalledModel) -> list[str]:
    # A busy machine must not decide whether there is an answer.
    return ["--set", f"model.name={json.dumps(str(model.directory))}", "--set", "completion.deadline_ms=120000"]


@pytest.fixture(scope="module")
def server(real_model: InstalledModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    command = [sys.executable, "-m", "intract_lsp", "serve", *settings(real_model)]
    client = RawClient(command, tmp_path_factory.mktemp("home"))
    began = time.monotonic()
    client.initialize({"textDocument": {"inlineCompletion": {}}, "window": {"workDoneProgress": True}})
    print(f"initialize answered after {time.monotonic() - began:.2f} s")
    client.open(URI, SOURCE)
    assert client.complete(URI, LINE, COLUMN)["items"] == [], "before the model is ready the list is empty"
    assert client.run("intract.why")["reason"] in ("loading", "no-model")
    ready = lambda params: params["engine"]["state"] in ("ready", "failed")  # noqa: E731
    client.wait(lambda: next((s for s in statuses(client) if ready(s)), None), "a loaded model", MINUTES)
    print(f"ready after {time.monotonic() - began:.2f} s")
    yield client
    assert client.leave() == 0
    client.kill()


def statuses(client: RawClient) -> list[Any]:
    return [n["params"] for n in client.notifications if n["method"] == "intract/status"]


def answer(client: RawClient, character: int, trigger: int = 1) -> list[Any]:
    params = {
        "textDocument": {"uri": URI},
        "position": {"line": LINE, "character": character},
        "context": {"triggerKind": trigger},
    }
    return client.call("textDocument/inlineCompletion", params, seconds=MINUTES)["items"]


def test_the_model_completes_and_what_is_typed_through_needs_no_model(server: RawClient) -> None:
    assert statuses(server)[-1]["engine"]["state"] == "ready"
    (item,) = answer(server, COLUMN)
    suggestion = item["insertText"]
    assert suggestion.strip(), "the model completes the last line"
    calls = server.run("intract.status")["modelCalls"]
    assert calls == 1
    milliseconds = []
    for index, character in enumerate(suggestion[:-1]):
        position = {"line": LINE, "character": COLUMN + index}
        server.change(URI, 2 + index, {"range": {"start": position, "end": position}, "text": character})
        (item,) = answer(server, COLUMN + index + 1, AUTOMATIC)
        assert item["insertText"] == suggestion[index + 1 :]
        milliseconds.append(server.run("intract.why")["timings"]["total"])
    assert server.run("intract.status")["modelCalls"] == calls
    milliseconds.sort()
    p95 = milliseconds[int(len(milliseconds) * 0.95)]
    print(f"typed through {len(milliseconds)} characters: p95 {p95:.1f} ms in the server")
    assert p95 < 10


def test_progress_and_memory_are_reported(server: RawClient) -> None:
    kinds = [n["params"]["value"]["kind"] for n in server.notifications if n["method"] == "$/progress"]
    assert kinds[0] == "begin"
    assert kinds[-1] == "end"
    resident = psutil.Process(server.process.pid).memory_info().rss >> 20
    kernel = Path(f"/proc/{server.process.pid}/status")
    if kernel.exists():
        resident = next(int(line.split()[1]) >> 10 for line in kernel.read_text().splitlines() if "VmHWM" in line)
    print(f"peak resident memory of the server: {resident} MiB")
    # A model's first start reads the float weights, mapped from their file and as float32, to quantise them.
    assert resident < 4608
    present = psutil.Process(server.process.pid).memory_info().rss >> 20
    print(f"resident memory now: {present} MiB")


def test_the_command_line_prints_one_json_object(real_model: InstalledModel, tmp_path: Path) -> None:
    file = tmp_path / "count.py"
    file.write_text(SOURCE, encoding="utf-8")
    command = [sys.executable, "-m", "intract_lsp", "complete", f"{file}:{LINE + 1}:{COLUMN + 1}", "--json"]
    environment = {**os.environ, "INTRACT_HOME": str(tmp_path / "home")}
    finished = subprocess.run(
        [*command, *settings(real_model)], capture_output=True, text=True, env=environment, check=True, timeout=MINUTES
    )
    values = json.loads(finished.stdout)
    assert values["suggestion"].strip()
    assert values["reject_reason"] is None
    assert list(values["timings_ms"]) == ["queue", "retrieve", "tokenize", "prefill", "decode", "filter", "total"]
    assert values["model"]
