"""An adapter on trial in the switch: who answers, what is recorded, when it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_switch import PATIENCE, Bench

from intract_lsp.training.trial import Served


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.switch.share_held_back = lambda: 0.2
    yield bench
    bench.switch.close()
    assert bench.worker.stop(PATIENCE)


def draw(bench: Bench, chance: float) -> Served:
    bench.switch.chance = lambda: chance
    bench.switch.draw().result(PATIENCE)
    return bench.switch.served


def promoted(bench: Bench, *ids: str) -> None:
    bench.load()
    for id_ in ids:
        bench.switch.promote(id_).result(PATIENCE)


def test_chance_says_who_answers(bench: Bench) -> None:
    first, second = bench.adapter(), bench.adapter()
    promoted(bench, first, second)
    assert bench.switch.served.place is None, "that it serves at once was not left to chance"
    held = draw(bench, 0.1)
    assert (bench.serves, held.adapter, held.held_back, held.promoted) == (first, first, second, second)
    assert bench.recorded == [second]
    free = draw(bench, 0.3)
    assert (bench.serves, free.held_back, free.place) == (second, "", held.place)
    assert free.place is not None


def test_before_the_first_adapter_there_is_the_model_alone(bench: Bench) -> None:
    adapter = bench.adapter()
    promoted(bench, adapter)
    assert (draw(bench, 0.0).held_back, bench.serves) == (adapter, "")
    bench.switch.share_held_back = lambda: 0.0
    assert (draw(bench, 0.0).place, bench.serves) == (None, adapter)


def test_what_the_trial_has_found_so_far_is_told_with_the_adapter(bench: Bench) -> None:
    adapter = bench.adapter()
    promoted(bench, adapter)
    assert bench.switch.show(adapter).result(PATIENCE).values()["trial"] is None
    bench.switch.record(draw(bench, 0.3), 20, 6).result(PATIENCE)
    bench.switch.record(draw(bench, 0.1), 8, 1).result(PATIENCE)
    expected = {
        "decision": "go-on",
        "seen": 20,
        "kept": 6,
        "seenBefore": 8,
        "keptBefore": 1,
        "message": "6 of 20 suggestions seen with it were kept, and 1 of 8 without it",
    }
    (entry,) = bench.switch.entries(None).result(PATIENCE)
    assert entry.values()["trial"] == expected
    bench.switch.rollback(Path(entry.adapter.workspace)).result(PATIENCE)
    assert bench.switch.show(adapter).result(PATIENCE).values()["trial"] == expected


def test_without_an_adapter_there_is_no_trial(bench: Bench) -> None:
    bench.load()
    assert draw(bench, 0.0).place is None
    assert bench.switch.record(bench.switch.served, 50, 50).result(PATIENCE) == ""


def test_one_that_harms_is_taken_back_and_said_so(bench: Bench) -> None:
    first, second = bench.adapter(), bench.adapter()
    promoted(bench, first, second)
    said = ""
    for number in range(20):
        served = draw(bench, 0.0 if number % 4 == 0 else 1.0)
        said = bench.switch.record(served, 12, 6 if served.held_back else 0).result(PATIENCE)
        if said:
            break
    assert said.startswith(f"The adapter {second} was taken back: 0 of ")
    assert said.endswith(f"Now {first} serves.")
    assert (bench.serves, bench.recorded) == (first, [first])
    assert draw(bench, 1.0).adapter == first, "what stood before it is on its own trial again"


def test_one_that_helps_ends_its_trial(bench: Bench) -> None:
    adapter = bench.adapter()
    promoted(bench, adapter)
    for number in range(40):
        served = draw(bench, 0.0 if number % 4 == 0 else 1.0)
        assert bench.switch.record(served, 12, 0 if served.held_back else 6).result(PATIENCE) == ""
    assert (draw(bench, 0.0).place, bench.serves) == (None, adapter)


def test_a_version_that_cannot_be_loaded_leaves_all_as_it_is(bench: Bench) -> None:
    adapter = bench.adapter()
    promoted(bench, adapter)
    draw(bench, 1.0)
    bench.engine.refused = {""}
    served = draw(bench, 0.0)
    assert (bench.serves, served.adapter, served.place) == (adapter, adapter, None)


def test_each_folder_has_its_adapter(bench: Bench) -> None:
    other = bench.root / "other"
    other.mkdir()
    here, there = bench.adapter(), bench.adapter(workspace=other)
    promoted(bench, here, there)
    assert bench.serves == here
    bench.switch.move(other).result(PATIENCE)
    assert (bench.serves, bench.switch.served.folder) == (there, other)
    bench.switch.move(bench.root).result(PATIENCE)
    assert bench.serves == ""
    bench.switch.move(bench.work).result(PATIENCE)
    assert bench.serves == here


def test_what_is_seen_of_another_promotion_takes_nothing_back(bench: Bench) -> None:
    first, second = bench.adapter(), bench.adapter()
    promoted(bench, first)
    blocks = []
    for number in range(20):
        served = draw(bench, 0.0 if number % 4 == 0 else 1.0)
        blocks.append(served)
    bench.switch.promote(second).result(PATIENCE)
    for served in blocks:
        assert bench.switch.record(served, 12, 6 if served.held_back else 0).result(PATIENCE) == ""
    assert bench.serves == second
