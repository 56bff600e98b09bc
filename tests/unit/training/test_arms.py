"""The versions that are compared are loaded alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, PromptBudget
from intract_lsp.errors import TrainingError
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, LoadOrder, ModelCard, ModelFiles, ReportProgress
from intract_lsp.inference.loading import NoRoomError
from intract_lsp.training import arms as arms_module
from intract_lsp.training.arms import BASE, CANDIDATE, loaded

CANDIDATES = AdapterFiles("a-1", Path("/a"), AdapterKind.LORA, "base", "")


class ShortOfMemory:
    """An engine on a GPU that holds one model in 16 bits, and beside it one in 4."""

    orders: list[LoadOrder]
    unloaded: int
    refuses = False
    room_for = 2

    def __init__(self, resolve: object) -> None:
        """Nothing is loaded yet."""

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        if len(self.orders) - self.unloaded >= self.room_for:
            self.orders.append(order)
            raise NoRoomError("base needs more.")
        chosen = ("bfloat16" if not self.orders else "nf4") if order.precision == "auto" else order.precision
        self.orders.append(order)
        id_ = order.adapter.id if order.adapter is not None and not self.refuses else ""
        return ModelCard("base", "none", "cuda", chosen, 1, 1, PromptBudget(1, 1), adapter=id_)

    def likelihood(self, context: CompletionContext, shape: object, middle: str) -> tuple[float, int]:
        return float(len(self.orders)), 1

    def unload(self) -> None:
        type(self).unloaded += 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[ShortOfMemory]:
    monkeypatch.setattr(arms_module, "ModelEngine", ShortOfMemory)
    monkeypatch.setattr(ShortOfMemory, "orders", [], raising=False)
    monkeypatch.setattr(ShortOfMemory, "unloaded", 0, raising=False)
    return ShortOfMemory


def load(order: LoadOrder) -> None:
    files = ModelFiles("base", Path("/base"))
    with loaded(files, {BASE: None, CANDIDATE: CANDIDATES}, order, lambda *said: None, CancelToken()) as found:
        assert list(found.by_name) == [BASE, CANDIDATE]


@pytest.mark.parametrize(("asked", "taken"), [("auto", "bfloat16"), ("nf4", "nf4")])
def test_all_are_in_the_format_of_the_first(engine: type[ShortOfMemory], asked: str, taken: str) -> None:
    load(LoadOrder("base", "auto", asked, 2))
    first, second = engine.orders
    assert (first.precision, first.adapter) == (asked, None)
    assert (second.device, second.precision, second.adapter) == ("cuda", taken, CANDIDATES)
    assert engine.unloaded == 2


def test_one_that_was_loaded_without_its_adapter_is_not_compared(
    engine: type[ShortOfMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "refuses", True)
    with pytest.raises(TrainingError, match="a-1 cannot be loaded"):
        load(LoadOrder("base"))
    assert engine.unloaded == 2


def test_without_room_for_all_one_is_in_memory_at_a_time(engine: type[ShortOfMemory]) -> None:
    order, place = LoadOrder("base"), CompletionContext("x = ", "", "python", Extent.LINE)
    adapters = {BASE: None, CANDIDATE: CANDIDATES}
    said: list[tuple[float, int, int]] = []
    with loaded(
        ModelFiles("base", Path("/base")), adapters, order, lambda *said: None, CancelToken(), together=False
    ) as found:
        assert found.places_a_turn > 1
        assert (len(engine.orders), engine.unloaded) == (1, 0)
        for name in (BASE, BASE, CANDIDATE, CANDIDATE, BASE):
            said.append((found.by_name[name].likelihood(place, "1")[0], len(engine.orders), engine.unloaded))
    assert said == [(1, 1, 0), (1, 1, 0), (2, 2, 1), (2, 2, 1), (3, 3, 2)]
    assert [(one.precision, one.adapter) for one in engine.orders[1:]] == [("bfloat16", CANDIDATES), ("bfloat16", None)]
    assert engine.unloaded == 3


def test_one_that_cannot_be_used_is_said_when_its_turn_comes(
    engine: type[ShortOfMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = CompletionContext("x = ", "", "python", Extent.LINE)
    files, adapters = ModelFiles("base", Path("/base")), {BASE: None, CANDIDATE: CANDIDATES}
    with (
        pytest.raises(TrainingError, match="a-1 cannot be loaded"),
        loaded(files, adapters, LoadOrder("base"), lambda *said: None, CancelToken(), together=False) as found,
    ):
        monkeypatch.setattr(engine, "refuses", True)
        found.by_name[CANDIDATE].likelihood(place, "1")
    assert engine.unloaded == 2


def test_where_the_second_has_no_room_after_all_they_take_turns(
    engine: type[ShortOfMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "room_for", 1)
    place = CompletionContext("x = ", "", "python", Extent.LINE)
    files, adapters = ModelFiles("base", Path("/base")), {BASE: None, CANDIDATE: CANDIDATES}
    with loaded(files, adapters, LoadOrder("base"), lambda *said: None, CancelToken()) as found:
        assert found.places_a_turn > 1
        for name in (BASE, CANDIDATE):
            found.by_name[name].likelihood(place, "1")
    assert [one.adapter for one in engine.orders] == [None, CANDIDATES, None, CANDIDATES]
