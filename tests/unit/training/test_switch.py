"""Which adapter serves: the record and the model stay in line, whatever fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import AdapterError, AdapterRoomError, ModelError
from intract_lsp.inference.echo_engine import EchoEngine
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, LoadOrder, ModelCard, ModelFiles, ReportProgress
from intract_lsp.inference.worker import InferenceWorker
from intract_lsp.models.store import weights_fingerprint
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.provenance import Provenance
from intract_lsp.training.switch import AdapterSwitch

PATIENCE = 30.0


class PickyEngine(EchoEngine):
    """Refuses to swap to the adapters that the test names."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.without: set[str] = set()
        """Loaded without, as an engine does with one that is damaged."""
        self.device = "cpu"
        self.no_room: set[str] = set()
        """Not swapped to for want of memory."""
        self.unloadable: set[str] = set()
        self.loads: list[str] = []

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        if order.adapter is not None and order.adapter.id in self.without:
            order = LoadOrder(order.model)
        name = order.adapter.id if order.adapter is not None else ""
        self.loads.append(name)
        if name in self.unloadable:
            raise ModelError(f"base with {name or 'nothing'} needs 9 MiB and 1 MiB are free.")
        return replace(super().load(order, report, token), device=self.device)

    def swap(self, adapter: AdapterFiles | None, report: ReportProgress, token: CancelToken) -> ModelCard:
        if (adapter.id if adapter else "") in self.refused:
            raise AdapterError("It does not fit.")
        if (adapter.id if adapter else "") in self.no_room:
            raise AdapterRoomError("It has no room beside what serves.")
        return replace(super().swap(adapter, report, token), device=self.device)


class Bench:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.work.mkdir()
        self.model = root / "model"
        self.model.mkdir()
        save_file({"weight": np.zeros(4, np.float32)}, self.model / "model.safetensors")
        self.engine = PickyEngine()
        self.worker = InferenceWorker(self.engine)
        self.worker.start()
        self.swapped = threading.Semaphore(0)
        self.copies = root / "int8"
        files = ModelFiles("base", self.model, quantized=self.copies / "base.safetensors")
        self.switch = AdapterSwitch(self.registry, root / "adapters", lambda name: files, self.worker)
        self.switch.workspace = self.work
        self.switch.on_swapped = self.swapped.release

    def registry(self) -> AdapterRegistry:
        return AdapterRegistry(self.root, open_state(self.root / "state.db"))

    def adapter(self, *files: str, workspace: Path | None = None) -> str:
        candidate = self.root / "candidate"
        candidate.mkdir(exist_ok=True)
        (candidate / "adapter_config.json").write_text("{}")
        save_file({"a": np.zeros(1, np.float32)}, candidate / "adapter_model.safetensors")
        seen = tuple((path, "1") for path in files)
        place = str((workspace or self.work).resolve())
        made = Provenance(place, "run", "base", weights_fingerprint(self.model), files=seen)
        registry = self.registry()
        id_ = registry.create(candidate, AdapterKind.LORA, made).id
        registry.close()
        return id_

    def load(self) -> ModelCard:
        return self.switch.load(LoadOrder("base")).result(PATIENCE)

    @property
    def serves(self) -> str:
        assert self.worker.card is not None
        return self.worker.card.adapter

    @property
    def recorded(self) -> list[str]:
        entries = self.switch.entries(self.work).result(PATIENCE)
        return [entry.adapter.id for entry in entries if entry.values()["active"]]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.switch.close()
    assert bench.worker.stop(PATIENCE)


def test_without_adapters_nothing_is_opened(bench: Bench) -> None:
    assert bench.load().adapter == ""
    assert not (bench.root / "state.db").exists()


def test_what_is_recorded_is_loaded_and_what_is_promoted_serves_at_once(bench: Bench) -> None:
    first, second = bench.adapter(), bench.adapter()
    assert "from the next start on" in bench.switch.promote(first).result(PATIENCE)
    assert bench.load().adapter == first
    assert bench.switch.promote(second).result(PATIENCE) == f"The adapter {second} serves now."
    assert bench.swapped.acquire(timeout=PATIENCE)
    assert (bench.serves, bench.recorded) == (second, [second])
    assert first in bench.switch.rollback(bench.work).result(PATIENCE)
    assert (bench.serves, bench.recorded) == (first, [first])
    assert "without an adapter" in bench.switch.rollback(bench.work).result(PATIENCE)
    assert (bench.serves, bench.recorded) == ("", [])


@pytest.mark.parametrize("before", [True, False])
def test_a_swap_that_fails_is_taken_back(bench: Bench, before: bool) -> None:
    first, second = bench.adapter(), bench.adapter()
    bench.load()
    if before:
        bench.switch.promote(first).result(PATIENCE)
    bench.engine.refused = {second}
    with pytest.raises(AdapterError, match=r"It does not fit\. It was taken back: .* serves as before"):
        bench.switch.promote(second).result(PATIENCE)
    assert (bench.serves, bench.recorded) == ((first, [first]) if before else ("", []))


def test_a_rollback_that_fails_leaves_all_as_it_was(bench: Bench) -> None:
    first = bench.adapter()
    bench.load()
    bench.switch.promote(first).result(PATIENCE)
    bench.engine.refused = {""}
    with pytest.raises(AdapterError, match="All is as it was"):
        bench.switch.rollback(bench.work).result(PATIENCE)
    assert (bench.serves, bench.recorded) == (first, [first])


def test_a_promotion_that_is_cut_off_by_the_programs_end_is_taken_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = bench.adapter()
    bench.load()
    cut_off: Future[ModelCard] = Future()
    cut_off.cancel()
    monkeypatch.setattr(bench.worker, "swap", lambda adapter: cut_off)
    with pytest.raises(AdapterError, match=r"The program ends .* It was taken back"):
        bench.switch.promote(adapter).result(PATIENCE)
    assert (bench.serves, bench.recorded) == ("", [])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_another_program_takes_back_is_followed_at_the_next_pause(bench: Bench, device: str) -> None:
    bench.engine.device = device
    adapter = bench.adapter()
    bench.load()
    bench.switch.promote(adapter).result(PATIENCE)
    bench.switch.draw(anew=False).result(PATIENCE)
    assert bench.serves == adapter
    other = bench.registry()
    other.rollback(str(bench.work.resolve()), weights_fingerprint(bench.model))
    other.close()
    bench.switch.draw(anew=False).result(PATIENCE)
    assert bench.serves == ""


def test_nothing_is_held_back_on_a_gpu(bench: Bench) -> None:
    bench.engine.device = "cuda"
    adapter = bench.adapter()
    bench.load()
    bench.switch.promote(adapter).result(PATIENCE)
    bench.switch.share_held_back = lambda: 1.0
    bench.switch.draw().result(PATIENCE)
    assert (bench.serves, bench.switch.served.held_back) == (adapter, "")


def test_what_runs_have_left_goes_and_what_serves_stays(bench: Bench) -> None:
    serving, *others = (bench.adapter() for _ in range(8))
    bench.switch.promote(serving).result(PATIENCE)
    bench.copies.mkdir()
    for id_ in (serving, others[0], "of-a-run-that-was-cancelled"):
        (bench.copies / f"base+{id_}.safetensors").touch()
    bench.switch.tidy(bench.work, "base", weights_fingerprint(bench.model))
    left = {entry.adapter.id for entry in bench.switch.entries().result(PATIENCE)}
    assert [path.name for path in bench.copies.iterdir()] == [f"base+{serving}.safetensors"]
    assert left == {serving, *others[-5:]}


def test_another_folders_adapter_does_not_serve_here(bench: Bench) -> None:
    other = bench.root / "other"
    other.mkdir()
    adapter = bench.adapter(workspace=other)
    bench.load()
    assert "from the next start on" in bench.switch.promote(adapter).result(PATIENCE)
    assert (bench.serves, bench.recorded) == ("", [])
    bench.switch.workspace = other
    assert bench.load().adapter == adapter


def test_a_chosen_adapter_is_loaded_whatever_is_recorded(bench: Bench) -> None:
    chosen = bench.adapter()
    bench.switch.chosen = chosen
    assert bench.load().adapter == chosen
    bench.engine.without = {chosen}
    with pytest.raises(AdapterError, match="could not be loaded"):
        bench.load()
    bench.switch.chosen = "nothing-here"
    with pytest.raises(AdapterError, match="There is no adapter"):
        bench.load()


def test_a_damaged_adapter_is_left_out_when_the_model_is_loaded(bench: Bench) -> None:
    adapter = bench.adapter()
    bench.switch.promote(adapter).result(PATIENCE)
    (bench.root / "adapters" / adapter / "adapter_model.safetensors").write_bytes(b"damaged")
    card = bench.load()
    assert card.adapter == ""
    assert adapter in " ".join(card.notes), "the user is told"


def test_forgetting_a_file_takes_its_adapters_out_of_service(bench: Bench) -> None:
    clean, first, second = bench.adapter("b.py"), bench.adapter("a.py"), bench.adapter("a.py", "b.py")
    bench.load()
    for id_ in (clean, first, second):
        bench.switch.promote(id_).result(PATIENCE)
    assert bench.switch.forget("c.py", bench.work).result(PATIENCE) == "No adapter was trained on c.py."
    assert bench.serves == second
    said = bench.switch.forget("a.py", bench.work).result(PATIENCE)
    assert "2 adapters were trained on a.py" in said
    assert (bench.serves, bench.recorded) == (clean, [clean])
    left: Callable[[], list[str]] = lambda: [e.adapter.id for e in bench.switch.entries().result(PATIENCE)]  # noqa: E731
    assert left() == [clean]


def test_an_adapter_that_serves_is_not_removed(bench: Bench) -> None:
    adapter = bench.adapter()
    bench.switch.promote(adapter).result(PATIENCE)
    with pytest.raises(AdapterError, match="roll back first"):
        bench.switch.remove(adapter).result(PATIENCE)


# --- where memory does not hold two models


def test_an_adapter_without_room_beside_what_serves_takes_its_place(bench: Bench) -> None:
    one = bench.adapter()
    bench.load()
    bench.engine.no_room = {one, ""}
    assert "now" in bench.switch.promote(one).result(PATIENCE)
    assert (bench.serves, bench.recorded, bench.engine.loads) == (one, [one], ["", one])
    bench.switch.rollback(bench.work).result(PATIENCE)
    assert (bench.serves, bench.recorded, bench.engine.loads) == ("", [], ["", one, ""])


@pytest.mark.parametrize("how", ["unloadable", "without"])
def test_where_it_cannot_take_the_place_the_one_before_comes_back(bench: Bench, how: str) -> None:
    one, two = bench.adapter(), bench.adapter()
    bench.load()
    bench.switch.promote(one).result(PATIENCE)
    bench.engine.no_room = {two}
    setattr(bench.engine, how, {two})
    with pytest.raises(AdapterError, match=f"It was taken back: {one} serves as before"):
        bench.switch.promote(two).result(PATIENCE)
    assert (bench.serves, bench.recorded) == (one, [one])


def test_a_model_that_has_no_room_any_more_is_not_said_to_serve(bench: Bench) -> None:
    one = bench.adapter()
    bench.load()
    bench.engine.no_room, bench.engine.unloadable = {one}, {one, ""}
    with pytest.raises(AdapterError, match="no model is loaded any more"):
        bench.switch.promote(one).result(PATIENCE)
    assert bench.worker.card is None
    assert bench.recorded == []


def test_chance_and_another_folder_do_not_let_go_of_the_model(bench: Bench) -> None:
    one = bench.adapter()
    bench.load()
    bench.switch.promote(one).result(PATIENCE)
    bench.engine.no_room = {""}
    bench.switch.share_held_back = lambda: 1.0
    bench.switch.draw().result(PATIENCE)
    other = bench.root / "other"
    other.mkdir()
    with pytest.raises(AdapterRoomError):
        bench.switch.move(other).result(PATIENCE)
    assert (bench.serves, bench.engine.loads) == (one, [""])
