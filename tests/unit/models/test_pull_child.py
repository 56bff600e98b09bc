from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from model_files import write_gguf

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models import process, pull_child, store
from intract_lsp.models.progress import PullCancelled
from intract_lsp.models.pull_child import pull_in_child
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import Paths


def get(name: str, paths: Paths, report: Any = lambda *_: None, token: CancelToken | None = None) -> InstalledModel:
    return pull_in_child(name, paths, offline=True, fresh=False, report=report, token=token or CancelToken())


def test_a_conversion_in_a_child(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    monkeypatch.chdir(tmp_path)
    # The child must not import modules that lie in the workspace.
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the workspace')")
    reports: list[tuple[str, float | None]] = []
    model = get("./m.gguf", paths, lambda *report: reports.append(report))
    assert store.locate(str(file), paths) == model
    assert reports[-1] == ("Converted m.gguf", 1.0)
    monkeypatch.setattr(pull_child, "run_events", None)
    assert get("./m.gguf", paths) == model


def test_an_error_in_the_child_is_the_same_sentence(paths: Paths, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"m\.gguf is damaged or was cut short"):
        get(str(file), paths)


def test_a_cancel_ends_the_child(paths: Paths, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    token = CancelToken()
    paths.models.mkdir(parents=True)
    sentences: list[str] = []

    def report(sentence: str, fraction: float | None) -> None:
        sentences.append(sentence)
        token.cancel()

    # With the lock held here the child waits, so that the cancel comes at a known place.
    with FileLock(paths.models / f".{store.gguf_cache_name(file)}.lock"), pytest.raises(PullCancelled):
        get(str(file), paths, report, token)
    assert sentences[0].startswith("Waiting for another process")
    # Of this call's own; other tests may have children that live on.
    assert not any(str(file) in " ".join(child.cmdline()) for child in psutil.Process().children())


def test_a_child_that_dies_is_reported(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    monkeypatch.setattr(process.sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match="ended unexpectedly"):
        get(str(file), paths)
    assert "status 1" in caplog.text


def test_lines_arrive_and_the_status_is_returned(tmp_path: Path) -> None:
    lines: list[str] = []
    with (tmp_path / "errors").open("wb") as errors:
        command = ["sh", "-c", "echo one; echo two >&2; echo three; exit 3"]
        status = process.run_lines(command, lines.append, CancelToken(), directory=tmp_path, stderr=errors)
    assert (status, lines, (tmp_path / "errors").read_text()) == (3, ["one", "three"], "two\n")


def test_a_silent_program_is_ended_on_a_cancel(tmp_path: Path) -> None:
    token = CancelToken()
    with (tmp_path / "errors").open("wb") as errors, pytest.raises(PullCancelled):
        process.run_lines(
            ["sh", "-c", "echo ready; exec sleep 60"],
            lambda _: token.cancel(),
            token,
            directory=tmp_path,
            stderr=errors,
        )


def test_of_a_child_of_ours_the_last_event_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "says.py").write_text(
        "import json, sys\n"
        'print(\'{"progress": ["Half", 0.5]}\')\n'
        "print('a library talks')\nprint('[1]')\n"
        "print(json.dumps({'done': json.loads(sys.argv[1])}))\n"
    )
    reports: list[tuple[str, float | None]] = []
    ended = process.run_events("says", {"a": 1}, lambda *one: reports.append(one), CancelToken(), directory=tmp_path)
    assert (ended.done, ended.error, ended.status) == ({"a": 1}, "", 0)
    assert reports == [("Half", 0.5)]
    assert caplog.text.count("is no event") == 2
    assert "talks" not in caplog.text
