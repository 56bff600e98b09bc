"""``finetune`` and ``adapters`` on the command line; a run's process is one that says what the test wants."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from intract_lsp.app import build_app, load_settings
from intract_lsp.cli import cli
from intract_lsp.errors import AdapterError, IntractError, TrainingError
from intract_lsp.inference.engine import AdapterKind
from intract_lsp.models.store import weights_fingerprint
from intract_lsp.paths import default_paths
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.provenance import Provenance

sys.path.append(str(Path(__file__).parent / "inference"))

from tiny_models import byte_level

FAKE = Path(__file__).parents[1] / "worker" / "fake_child.py"
FIGURES = {
    "nll_base": 2.0,
    "nll_adapter": 1.8,
    "edit_similarity_base": 41.2,
    "edit_similarity_adapter": 45.0,
    "guard_nll_change": 0.01,
    "tokens_per_second": 42.0,
    "seconds": 60.0,
}
PATIENCE = 60.0
STEP = {
    "event": "step",
    "step": 2,
    "steps": 8,
    "loss": 1.5,
    "tokens": 9,
    "tokens_per_second": 3.0,
    "seconds_left": 60.0,
}
REJECTED = {"event": "finished", "status": "rejected", "reason": "No gain, nothing changed.", "figures": FIGURES}


@pytest.fixture(autouse=True)
def fake_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intract_lsp.app.child_command", lambda spec: [sys.executable, str(FAKE), str(spec)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    sizes = {"vocab_size": 300, "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **sizes}))
    byte_level().save(str(folder / "tokenizer.json"))
    save_file({"weight": np.zeros((8, 8), np.float16)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for number in range(12):
        lines = (f"def part_{number}_{line}(value):\n    return value * {line} + {number}\n" for line in range(30))
        (folder / f"module_{number}.py").write_text("\n\n".join(lines))
    (folder / ".env").write_text("KEY=1\n")
    return folder


def script(project: Path, *steps: dict[str, Any]) -> None:
    (project / "script.json").write_text(json.dumps(steps))


@pytest.fixture
def invoke(model: Path) -> Callable[..., Result]:
    """Return a function that runs a command, with the model if it takes settings."""

    def run(*arguments: str, settings: bool = False) -> Result:
        options = ("--set", f'model.name="{model}"') if settings else ()
        return CliRunner().invoke(cli, [*arguments, *options])

    return run


def last_line(result: Result) -> dict[str, Any]:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    values = json.loads(result.stdout.splitlines()[-1])
    assert isinstance(values, dict)
    return values


def test_the_last_line_says_what_became_of_the_run(invoke: Callable[..., Result], project: Path) -> None:
    script(project, {"say": REJECTED})
    result = invoke("finetune", str(project), "--method", "lora", "--minutes", "3", settings=True)
    values = last_line(result)
    assert values.items() >= {"status": "rejected", "promoted": False, "reason": "No gain, nothing changed."}.items()
    assert values.items() >= FIGURES.items()
    assert result.stdout.splitlines()[0] == "No gain, nothing changed."
    assert result.exit_code == 0
    spec = json.loads((default_paths().data / "runs" / values["run"] / "spec.json").read_text())
    assert (spec["trainer"]["method"], spec["trainer"]["minutes"]) == ("lora", 3)


def test_with_json_there_is_nothing_else(invoke: Callable[..., Result], project: Path) -> None:
    script(project, {"say": REJECTED})
    result = invoke("finetune", str(project), "--json", settings=True)
    assert len(result.stdout.splitlines()) == 1


def test_the_folders_own_settings_hold(invoke: Callable[..., Result], project: Path) -> None:
    (project / ".intract.toml").write_text('[training]\nexclude = ["module_0.py"]\nseed = 7\n')
    script(project, {"say": REJECTED})
    result = invoke("finetune", str(project), "--json", "--set", "training.seed=8", settings=True)
    spec = json.loads((default_paths().data / "runs" / last_line(result)["run"] / "spec.json").read_text())
    assert spec["data"]["exclude"] == ["module_0.py"]
    assert spec["trainer"]["seed"] == 8, "what the command says comes last"
    (project / ".intract.toml").write_text("[training]\nenabled = false\n")
    assert "switched off" in str(invoke("finetune", str(project), settings=True).exception)
    measured = invoke("evaluate", str(project), settings=True).exception
    assert "No adapter of" in str(measured), "what is there already may be measured all the same"


def test_figures_that_a_failed_run_lacks_are_null(invoke: Callable[..., Result], project: Path) -> None:
    failed = {"event": "finished", "status": "failed", "reason": "There is too little code."}
    script(project, {"say": failed})
    result = invoke("finetune", str(project), "--json", settings=True)
    values = last_line(result)
    assert result.exit_code == 1
    assert values["nll_base"] is None
    assert values["seconds"] >= 0


def test_a_better_adapter_is_promoted_without_an_editor(
    invoke: Callable[..., Result], project: Path, model: Path
) -> None:
    adapter = make_adapter(project, model)
    script(project, {"say": {**REJECTED, "status": "promoted", "reason": "Better.", "adapter": adapter}})
    values = last_line(invoke("finetune", str(project), "--json", settings=True))
    assert (values["status"], values["promoted"], values["adapter"]) == ("promoted", True, adapter)
    assert "serves from the next start on" in values["reason"]
    listed = json.loads(invoke("adapters", "list", "--json").stdout)
    assert [(one["id"], one["active"]) for one in listed] == [(adapter, True)]


def test_a_dry_run_shows_what_would_be_learnt_from(invoke: Callable[..., Result], project: Path) -> None:
    result = invoke("finetune", str(project), "--dry-run", "--minutes", "2", settings=True)
    values = last_line(result)
    assert values["data"]["files"] > 5
    assert sum(found["files"] for found in values["data"]["left_out"].values()) >= 1
    assert values["memory"]["decision"] == "coexist"
    assert values["seconds_expected"] >= 120
    assert values["samples"] == sum(values["data"]["samples"].values())
    assert "left out: 1 files." in result.stdout
    assert not (default_paths().data / "runs").exists()


def test_a_dry_run_tells_the_time_that_steps_and_epochs_take(
    invoke: Callable[..., Result], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intract_lsp.training.dry_run.tokens_a_second", lambda spec: 10.0)
    monkeypatch.setattr("intract_lsp.training.dry_run.measuring_seconds", lambda minutes: 100.0)
    monkeypatch.setattr("intract_lsp.training.dry_run.VALIDATIONS", -1)  # what scoring takes has no plain figure

    def looked(*options: str) -> dict[str, Any]:
        changes = [part for option in options for part in ("--set", f"training.{option}")]
        result = invoke("finetune", str(project), "--dry-run", *changes, settings=True)
        values = last_line(result)
        minutes = values["seconds_expected"] / 60
        assert f"About {minutes:,.0f} minutes in all, at some 10 tokens a second." in result.stdout
        return values

    by_steps = looked("steps=40", "batch_size=2")
    tokens = sum(by_steps["data"]["tokens"].values()) / by_steps["samples"]
    training = by_steps["seconds_expected"] - by_steps["seconds"] - 100
    assert training == pytest.approx(40 * 2 * tokens / 10, abs=1)
    by_epochs = looked("epochs=1", "batch_size=2")
    assert by_epochs["most_steps"] == math.ceil(by_epochs["steps_an_epoch"])
    assert looked("epochs=0.001")["most_steps"] == 1
    assert by_epochs["seconds_expected"] > by_steps["seconds_expected"]
    shorter = looked("epochs=1", "minutes=0.5")
    assert shorter["seconds_expected"] - shorter["seconds"] == pytest.approx(130, abs=1)


def test_settings_reach_the_run(invoke: Callable[..., Result], project: Path) -> None:
    script(project, {"say": REJECTED})
    options = ("--set", "training.lora_r=3", "--set", "training.steps=7")
    values = last_line(invoke("finetune", str(project), "--json", *options, settings=True))
    spec = json.loads((default_paths().data / "runs" / values["run"] / "spec.json").read_text())
    assert (spec["trainer"]["lora"]["r"], spec["trainer"]["steps"], spec["trainer"]["minutes"]) == (3, 7, 0)


def test_a_model_that_is_not_here_is_one_sentence(invoke: Callable[..., Result], project: Path) -> None:
    result = invoke("finetune", str(project), "--model", "qwen2.5-coder-0.5b")
    assert isinstance(result.exception, TrainingError)
    assert "models pull" in str(result.exception)


def test_a_run_that_was_left_behind_goes_on(invoke: Callable[..., Result], project: Path, model: Path) -> None:
    script(project, {"say": STEP}, {"hold": "go"}, {"say": REJECTED})
    settings, _ = load_settings(default_paths(), [f'model.name="{model}"'])
    first = build_app(settings, default_paths(), "echo", watch=False)
    run = first.training.start(first.new_run(project, {"minutes": 3}))
    until(lambda: (status := first.training.status(run)) is not None and status.step)
    assert first.stop()
    (project / "go").touch()
    values = last_line(invoke("finetune", str(project), "--minutes", "3", "--json", settings=True))
    assert (values["run"], values["status"]) == (run, "rejected")
    # Another one is asked for: what was left behind makes room for it.
    (project / "go").unlink()
    second = build_app(settings, default_paths(), "echo", watch=False)
    left = second.training.start(second.new_run(project, {}))
    until(lambda: (status := second.training.status(left)) is not None and status.step)
    assert second.stop()
    (project / "go").touch()
    values = last_line(invoke("finetune", str(project), "--minutes", "5", "--json", settings=True))
    assert (values["run"] != left, values["status"]) == (True, "rejected")
    assert not (default_paths().data / "runs" / left).exists()


@pytest.mark.parametrize(("was", "asked", "goes_on"), [(True, False, True), (True, True, True), (False, True, False)])
def test_a_run_that_went_on_with_less_memory_is_the_one_that_was_asked_for(
    invoke: Callable[..., Result], project: Path, model: Path, was: bool, asked: bool, goes_on: bool
) -> None:
    script(project, {"say": STEP}, {"hold": "go"}, {"say": REJECTED})
    settings, _ = load_settings(default_paths(), [f'model.name="{model}"'])
    first = build_app(settings, default_paths(), "echo", watch=False)
    spec = first.new_run(project, {"minutes": 3})
    spec = replace(spec, trainer=replace(spec.trainer, gradient_checkpointing=was))
    run = first.training.start(spec)
    until(lambda: (status := first.training.status(run)) is not None and status.step)
    assert first.stop()
    (project / "go").touch()
    options = ("--minutes", "3", "--json", "--set", f'training.gradient_checkpointing="{"on" if asked else "off"}"')
    values = last_line(invoke("finetune", str(project), *options, settings=True))
    assert values["status"] == "rejected"
    assert (values["run"] == run) is goes_on


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_cancels(project: Path, model: Path) -> None:
    script(project, {"say": STEP}, {"hold": "never"})
    patched = (
        "import sys; from intract_lsp import app; "
        f"app.child_command = lambda spec: [sys.executable, {str(FAKE)!r}, str(spec)]; "
        "from intract_lsp.cli import main; main()"
    )
    arguments = ["finetune", str(project), "--set", f'model.name="{model}"']
    with subprocess.Popen(
        [sys.executable, "-c", patched, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that started the tests in the background has them, and what they start, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:
        until(lambda: (project / "starts").exists())
        # As a terminal does: to all processes of the group.
        os.killpg(program.pid, signal.SIGINT)
        out, errors = program.communicate(timeout=PATIENCE)
    values = json.loads(out.splitlines()[-1])
    assert (program.returncode, values["status"], values["promoted"]) == (130, "stopped", False)
    assert "Traceback" not in errors
    assert list((default_paths().data / "runs").iterdir()) == []


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.01)


# --- adapters


def make_adapter(project: Path, model: Path, run: str = "run") -> str:
    paths = default_paths()
    candidate = project.parent / f"candidate-{run}"
    candidate.mkdir()
    (candidate / "adapter_config.json").write_text("{}")
    save_file({"a": np.zeros(1, np.float32)}, candidate / "adapter_model.safetensors")
    registry = AdapterRegistry(paths.data, open_state(paths.data / "state.db"))
    files = (("module_0.py", "1"),)
    made = Provenance(str(project.resolve()), run, str(model), weights_fingerprint(model), files=files)
    adapter = registry.create(candidate, AdapterKind.LORA, made)
    registry.close()
    return adapter.id


def test_adapters_are_listed_shown_used_taken_back_and_removed(
    invoke: Callable[..., Result], project: Path, model: Path
) -> None:
    assert "no adapter yet" in invoke("adapters", "list").stderr
    adapter = make_adapter(project, model)
    assert adapter in invoke("adapters", "list", "--dir", str(project)).stdout
    assert invoke("adapters", "list", "--dir", str(model)).stdout == ""
    shown = json.loads(invoke("adapters", "show", adapter).stdout)
    assert (shown["id"], shown["status"], shown["workspace"]) == (adapter, "candidate", str(project.resolve()))
    assert "serves" in invoke("adapters", "promote", adapter).stdout
    assert isinstance(invoke("adapters", "remove", adapter).exception, AdapterError)
    rolled = invoke("adapters", "rollback", "--dir", str(project), "--model", str(model))
    assert "without an adapter serves from the next start on" in rolled.stdout
    assert "is removed" in invoke("adapters", "remove", adapter).stdout
    assert isinstance(invoke("adapters", "show", adapter).exception, IntractError)


def test_forgetting_a_file_asks_first(invoke: Callable[..., Result], project: Path, model: Path) -> None:
    adapter = make_adapter(project, model)
    invoke("adapters", "promote", adapter)
    refused = CliRunner().invoke(cli, ["adapters", "forget", "module_0.py", "--dir", str(project)], input="n\n")
    assert refused.exit_code != 0
    assert adapter in invoke("adapters", "list").stdout
    assert "No adapter" in invoke("adapters", "forget", "module_1.py", "--dir", str(project)).stdout
    gone = invoke("adapters", "forget", "module_0.py", "--dir", str(project), "--yes")
    assert ".intractignore" in gone.stdout
    assert json.loads(invoke("adapters", "list", "--json").stdout) == []


@pytest.mark.parametrize("spelling", ["./module_0.py", "sub/../module_0.py", "{project}/module_0.py"])
def test_a_file_is_forgotten_however_its_path_is_spelt(
    invoke: Callable[..., Result], project: Path, model: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(project, model)
    monkeypatch.chdir(project)
    gone = invoke("adapters", "forget", spelling.format(project=project), "--yes")
    assert "are gone" in gone.stdout


def test_from_a_folder_below_a_file_is_looked_for_in_the_one_that_was_trained_on(
    invoke: Callable[..., Result], project: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(project, model)
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    assert "No adapter was trained on sub/module_0.py" in invoke("adapters", "forget", "module_0.py").stdout
    assert "are gone" in invoke("adapters", "forget", "../module_0.py", "--yes").stdout
    outside = invoke("adapters", "forget", "../../module_0.py", "--dir", str(project / "sub")).exception
    assert "is no file or folder inside" in str(outside)


def test_what_was_forgotten_is_no_part_of_the_run_that_follows(
    invoke: Callable[..., Result], project: Path, model: Path
) -> None:
    settings = default_paths().user_settings
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"[model]\nname = {json.dumps(str(model))}\n[training]\nexclude = ['old/']\n")
    make_adapter(project, model)
    script(project, {"say": REJECTED})
    asked = ("adapters", "forget", "--dir", str(project), "--yes", "--retrain")
    assert "No adapter" in invoke(*asked, "module_1.py").stdout
    assert not (project / "starts").exists(), "there was nothing to forget"
    result = invoke(*asked, "module_0.py")
    values = last_line(result)
    assert "are gone" in result.stdout
    assert values["status"] == "rejected"
    spec = json.loads((default_paths().data / "runs" / values["run"] / "spec.json").read_text())
    assert spec["data"]["exclude"] == ["old/", "/module_0.py"]


def test_an_adapter_is_exported(invoke: Callable[..., Result], project: Path, model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(project, model)
    result = invoke("adapters", "export", adapter, str(tmp_path / "out"))
    assert str(tmp_path / "out") in result.stdout
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    again = invoke("adapters", "export", adapter, str(tmp_path / "out"))
    assert isinstance(again.exception, AdapterError)


def test_unknown_adapters_are_one_sentence(invoke: Callable[..., Result]) -> None:
    for arguments in (["show"], ["promote"], ["remove"]):
        result = invoke("adapters", *arguments, "nothing-here")
        assert isinstance(result.exception, AdapterError), arguments
        assert "adapters list" in str(result.exception)
