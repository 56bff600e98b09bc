"""The whole of a run, on a tiny random model and a small repository; and what a run's process does with bad input."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from intract_lsp.app import App, build_app, load_settings
from intract_lsp.errors import AdapterError, TrainingError
from intract_lsp.index.folder import folder_key
from intract_lsp.inference.engine import AdapterKind
from intract_lsp.models.store import weights_fingerprint
from intract_lsp.paths import default_paths
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.events import Event, Finished, Note, Room, decode
from intract_lsp.training.gate import Status, Verdict
from intract_lsp.training.progress import RunStatus
from intract_lsp.training.provenance import Provenance
from intract_lsp.training.runs import RunState
from intract_lsp.training.spec import RunSpec

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "inference")]

from tiny_models import write_model  # noqa: E402 - beside other tests
from tiny_project import write_project  # noqa: E402

PATIENCE = 600.0
"""On a machine that does much else; alone, the whole run takes well under a minute."""
SETTINGS = ("steps=24", "batch_size=4", "context_length=256", "learning_rate=0.01", "held_out=84")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def app(model: Path) -> Iterator[App]:
    """Everything but a model in memory, which the echo engine stands in for."""
    # One thread: threads that share a core with other tests wait for each other most of the time.
    options = (f'model.name="{model}"', "model.threads=1", *(f"training.{setting}" for setting in SETTINGS))
    settings, problems = load_settings(default_paths(), options)
    assert not problems
    app = build_app(settings, default_paths(), "echo", watch=False)
    app.worker.start()
    yield app
    app.stop()


def spec_for(app: App, project: Path) -> RunSpec:
    """A random model finds all code strange, so that none is left out for it."""
    spec = app.new_run(project, {})
    return replace(spec, data=replace(spec.data, largest_base_loss=100.0))


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.mark.timeout(1500)
def test_a_run_is_stopped_goes_on_is_proven_serves_and_is_rolled_back(app: App, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", modules=16, functions=8)
    app.serve_workspace([project])
    spec = spec_for(app, project)
    damaged = damaged_adapter(spec)
    assert damaged in " ".join(app.load_model().result(PATIENCE).notes)
    heard: list[RunStatus] = []
    app.training.on_status = heard.append
    run = app.training.start(spec)
    hurry(app)
    until(lambda: any(status.step >= 3 for status in heard) or app.training.end_of(run).done(), "no step")
    # Somebody ends its process: it keeps what it has, and says so.
    (process_of_run() or pytest.fail("no process")).terminate()
    stopped = app.training.end_of(run).result(PATIENCE)
    assert stopped.state is RunState.STOPPED, stopped.message
    assert (Path(spec.folder) / "checkpoints").is_dir()
    assert not (Path(spec.folder) / "scratch").exists()
    # Meanwhile the project moves on, which the run does not see.
    (project / "later.py").write_text("later = 1\n")
    assert app.training.recover([project]).result(PATIENCE) == (run,)
    hurry(app)
    last = app.training.end_of(run).result(PATIENCE)
    log = (Path(spec.folder) / "run.log").read_text()
    assert last.state is RunState.PROMOTED, f"{last.message}\n{log}"
    assert any("goes on after step" in note for note in last.notes)
    assert any(damaged in note for note in last.notes), "what serves no more is left out of the comparison"
    assert last.figures["nll_adapter"] < last.figures["nll_base"]
    assert last.figures["tokens_per_second"] > 0
    # What it leaves behind.
    names = {path.name for path in Path(spec.folder).iterdir()}
    assert names == {"spec.json", "commits.json", "run.log", "report.html", "report.json"}
    report = json.loads((Path(spec.folder) / "report.json").read_text())
    assert [point["step"] for point in report["training"]] == list(range(1, last.steps + 1))
    assert str(project) in json.dumps(report["provenance"])
    entry, _ = app.adapters.entries(project).result(PATIENCE)
    assert entry.values()["active"]
    assert entry.metrics["nll_base"] == last.figures["nll_base"]
    assert app.worker.card is not None
    assert app.worker.card.adapter == last.adapter == entry.adapter.id
    assert app.adapters.saw("books/part_0.py", project).result(PATIENCE) == [last.adapter]
    assert app.adapters.saw("later.py", project).result(PATIENCE) == []
    assert app.adapters.rollback(project).result(PATIENCE).startswith("Rolled back")
    assert app.worker.card.adapter == ""
    evaluated_anew(replace(spec, folder=str(tmp_path / "unused")), last)


def damaged_adapter(spec: RunSpec) -> str:
    """Return an adapter that is recorded to serve, and whose files are not what they were."""
    candidate = Path(spec.workspace).parent / "candidate"
    candidate.mkdir()
    (candidate / "adapter_config.json").write_text("{}")
    save_file({"a": np.zeros(1, np.float32)}, candidate / "adapter_model.safetensors")
    paths = default_paths()
    with closing(AdapterRegistry(paths.data, open_state(paths.data / "state.db"))) as registry:
        base = weights_fingerprint(Path(spec.model_directory))
        made = Provenance(folder_key(Path(spec.workspace)), "earlier", spec.model, base)
        adapter = registry.create(candidate, AdapterKind.LORA, made)
        registry.promote(adapter.id, adapter.workspace)
        (adapter.directory / "adapter_model.safetensors").write_bytes(b"damaged")
    return adapter.id


def evaluated_anew(spec: RunSpec, run: RunStatus) -> None:
    """The adapter is found as good as the run has found it, and nothing is left of the measuring."""
    from intract_lsp.training.assessment import assess

    def measure(spec: RunSpec, adapter: str | None) -> Verdict:
        found, judged = assess(spec, adapter, default_paths(), lambda sentence, fraction: None)
        assert found.id == run.adapter
        return judged.verdict

    verdict = measure(spec, run.adapter)
    assert verdict.status is Status.PROMOTED
    assert verdict.figures["nll_adapter"] == pytest.approx(run.figures["nll_adapter"], rel=0.1)
    assert not Path(spec.folder).exists()
    with pytest.raises(TrainingError, match=r"serves in .*: name one of"):
        measure(spec, None)
    with pytest.raises(AdapterError, match="no-such"):
        measure(spec, "no-such")
    other = write_model(Path(spec.workspace).parent / "other-model", seed=7)
    with pytest.raises(TrainingError, match="was trained on"):
        measure(replace(spec, model_directory=str(other)), run.adapter)


def process_of_run() -> psutil.Process | None:
    return next((one for one in psutil.Process().children() if "intract_lsp.training.child" in one.cmdline()), None)


def hurry(app: App) -> None:
    """Have the run's process not stand back behind whatever else the machine does, where the system lets us."""
    until(lambda: (child := process_of_run()) is not None and child.nice() > 10, "no process that stands back")
    child = process_of_run()
    with contextlib.suppress(psutil.Error):
        if child is not None:
            child.nice(0)


def test_a_spec_that_cannot_be_read_is_a_failed_run(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text("{}")
    command = [sys.executable, "-m", "intract_lsp.training.child", str(path)]
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=PATIENCE)
    finished = decode(done.stdout.strip().splitlines()[-1])
    assert isinstance(finished, Finished)
    assert (finished.status, done.returncode) == ("failed", 0)
    assert "start the run again" in finished.reason


def test_too_little_code_says_how_much_is_needed(app: App, tmp_path: Path) -> None:
    from intract_lsp.training.pipeline import Run

    project = write_project(tmp_path / "project", modules=1, functions=1)
    spec = spec_for(app, project)
    Path(spec.folder).mkdir(parents=True)
    run = Run(spec, default_paths(), lambda event: None, token())
    with pytest.raises(TrainingError, match="too little code to learn from") as caught:
        run.carry_out()
    assert "are needed" in str(caught.value)
    assert not (Path(spec.folder) / "scratch").exists()


@pytest.mark.timeout(900)
def test_a_run_that_measures_at_no_place_leaves_its_adapter_to_the_user(app: App, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", modules=16, functions=8)
    spec = spec_for(app, project)
    spec = replace(spec, data=replace(spec.data, held_out=0), trainer=replace(spec.trainer, minutes=0.0, steps=20))
    run = app.training.start(spec)
    last = app.training.end_of(run).result(PATIENCE)
    log = (Path(spec.folder) / "run.log").read_text()
    assert last.state is RunState.SUCCEEDED, f"{last.message}\n{log}"
    assert "only 0 places in the newest code could be measured" in last.message
    assert (last.figures["nll_base"], last.steps) == (None, 20)
    assert app.worker.card is None or app.worker.card.adapter == ""
    (entry,) = app.adapters.entries(project).result(PATIENCE)
    assert app.adapters.promote(entry.adapter.id).result(PATIENCE)
    assert app.adapters.entries(project).result(PATIENCE)[0].values()["active"]


def token(*, cancelled: bool = False) -> object:
    from intract_lsp.completion.generation import CancelToken

    made = CancelToken()
    if cancelled:
        made.cancel()
    return made


def test_a_run_that_is_cancelled_at_once_says_so(app: App, tmp_path: Path) -> None:
    from intract_lsp.training.pipeline import Run

    spec = spec_for(app, write_project(tmp_path / "project", modules=2))
    Path(spec.folder).mkdir(parents=True)
    finished = Run(spec, default_paths(), lambda event: None, token(cancelled=True)).carry_out()
    assert finished.status == "stopped"
    assert not (Path(spec.folder) / "scratch").exists()


def test_weights_from_a_gguf_file_are_told_of(app: App, model: Path, tmp_path: Path) -> None:
    from intract_lsp.training.pipeline import FROM_GGUF, Run

    spec = spec_for(app, write_project(tmp_path / "project", modules=1))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "intract.json").write_text(json.dumps({"source": "gguf:/a/file.gguf"}))
    spec = replace(spec, model_directory=str(copy))
    Path(spec.folder).mkdir(parents=True)
    events: list[object] = []
    Run(spec, default_paths(), events.append, token(cancelled=True)).carry_out()
    assert Note(FROM_GGUF) in events


def test_memory_that_does_not_suffice_is_said_before_anything_is_loaded(app: App, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", modules=1)
    vast = replace(app.new_run(project, {}), id="vast")
    vast = replace(vast, trainer=replace(vast.trainer, context_length=1 << 34))
    Path(vast.folder).mkdir(parents=True)
    from intract_lsp.training.pipeline import Run

    with pytest.raises(TrainingError, match="GiB"):
        Run(vast, default_paths(), lambda event: None, token()).carry_out()


@pytest.mark.parametrize("retrieval", [True, False])
def test_it_is_learnt_and_measured_with_pieces_of_other_files_where_serving_shows_them(
    model: Path, tmp_path: Path, retrieval: bool
) -> None:
    from intract_lsp.training.project import cut_tree
    from intract_lsp.training.project_data import read_project

    options = (f'model.name="{model}"', f"completion.retrieval={json.dumps(retrieval)}", "training.held_out=84")
    settings, problems = load_settings(default_paths(), options)
    assert not problems
    app = build_app(settings, default_paths(), "echo", watch=False)
    spec = app.new_run(write_project(tmp_path / "project", modules=16, functions=8), {})
    app.stop()
    data, at = read_project(spec, cut_tree(spec), tmp_path / "scratch", None, lambda sentence, done: None, token())
    assert at and data.validation
    assert any(place.context.chunks for place in at) is retrieval
    assert any(sample.with_context for sample in (*data.train, *data.validation)) is retrieval


class Loading(Exception):
    """The run has come so far that it loads the model."""


@pytest.mark.parametrize("comes", [True, False])
def test_a_run_that_fits_only_alone_waits_for_the_model_that_serves_to_be_unloaded(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    from intract_lsp.training import pipeline
    from intract_lsp.training.memory import MemoryPlan, plan

    looked: list[int] = []

    def looks(spec: RunSpec, serving: int) -> MemoryPlan:
        """Memory is free at the third look, or never."""
        looked.append(serving)
        needed = plan(spec, serving=0).needed
        enough = comes and len(looked) > 2
        return plan(spec, serving=serving, free=2 * needed if enough else needed, disk_free=1 << 50)

    def load_base(spec: RunSpec) -> None:
        raise Loading

    monkeypatch.setattr(pipeline, "plan_here", looks)
    monkeypatch.setattr(pipeline, "load_base", load_base)
    monkeypatch.setattr(pipeline, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(pipeline, "ROOM_SECONDS", 0.2)
    spec = replace(app.new_run(write_project(tmp_path / "project", modules=1), {}), serving=1 << 40)
    Path(spec.folder).mkdir(parents=True)
    events: list[Event] = []
    with pytest.raises(Loading if comes else TrainingError, match=None if comes else "close other programs"):
        pipeline.Run(spec, default_paths(), events.append, token()).carry_out()
    (room,) = (event.sentence for event in events if isinstance(event, Room))
    assert room.endswith("completions pause until it is over.")
    assert looked[:3] == [1 << 40, 0, 0], "what is asked for is waited for, and no more is counted on"
    assert len(looked) == 3 or not comes


def test_a_run_knows_what_the_model_that_serves_can_let_go_of(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intract_lsp.training import memory

    project = write_project(tmp_path / "project", modules=1)
    card = app.load_model().result(PATIENCE)
    needed = memory.plan(app.new_run(project, {}), serving=0).needed
    free = int(0.9 * needed)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free, total=free))
    with pytest.raises(TrainingError, match="close other programs"):
        app.new_run(project, {})
    for device, weights, serving in (("cpu", needed, needed), ("mps", needed, needed), ("cuda", needed, None)):
        app.worker.card = replace(card, device=device, weight_bytes=weights)
        if serving is None:
            with pytest.raises(TrainingError):
                app.new_run(project, {})
        else:
            assert app.new_run(project, {}).serving == serving
            with pytest.raises(TrainingError):
                app.scheduled_run(project)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_whose_parent_is_gone_ends_though_it_is_paused(app: App, tmp_path: Path) -> None:
    spec = spec_for(app, write_project(tmp_path / "project", modules=4))
    Path(spec.folder).mkdir(parents=True)
    script = (
        "import subprocess, sys, time; "
        f"p = subprocess.Popen([sys.executable, '-m', 'intract_lsp.training.child', {str(spec.write())!r}], "
        "stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True); "
        "print(p.pid, p.stdout.readline(), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline().split()[0])
    child = psutil.Process(pid)
    assert child.nice() >= 10
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "it lives on")
