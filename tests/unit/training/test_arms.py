"""The versions that are compared are loaded alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from intract_lsp.completion.generation import CancelToken, PromptBudget
from intract_lsp.errors import TrainingError
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, LoadOrder, ModelCard, ModelFiles, ReportProgress
from intract_lsp.training import arms as arms_module
from intract_lsp.training.arms import BASE, CANDIDATE, loaded

CANDIDATES = AdapterFiles("a-1", Path("/a"), AdapterKind.LORA, "base", "")


class ShortOfMemory:
    """An engine on a GPU that holds one model in 16 bits, and beside it one in 4."""

    orders: list[LoadOrder]
    unloaded: int
    refuses = False

    def __init__(self, resolve: object) -> None:
        """Nothing is loaded yet."""

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        chosen = ("bfloat16" if not self.orders else "nf4") if order.precision == "auto" else order.precision
        self.orders.append(order)
        id_ = order.adapter.id if order.adapter is not None and not self.refuses else ""
        return ModelCard("base", "none", "cuda", chosen, 1, 1, PromptBudget(1, 1), adapter=id_)

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
