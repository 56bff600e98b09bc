from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.training.batches import PROMPT_STRIDE, Order, pack, split, usable, weight_of
from intract_lsp.training.sample import Sample, SampleKind

CPU = torch.device("cpu")


def sample(ids: list[int], supervised_from: int) -> Sample:
    return Sample(tuple(ids), supervised_from, SampleKind.LINE)


def test_a_packed_micro_batch() -> None:
    micro = pack([sample([5, 6, 7, 8], 2), sample([9, 10, 11], 0)], [False, True], CPU)
    assert micro.ids.tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert micro.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert micro.starts == (0, 4, 7)
    assert micro.tokens == 7
    assert micro.rows.tolist() == [1, 2, 4, 5], "each target is predicted by the token before it, the first by none"
    assert micro.targets.tolist() == [7, 8, 10, 11]
    assert micro.weights.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert micro.replayed.tolist() == [False, False, True, True]
    assert micro.answers.all()


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.01, 1.0))
def test_a_prompt_is_a_target_part_by_part(asked: int, answered: int, weight: float) -> None:
    ids = list(range(100, 102 + asked + answered))
    one = sample(ids, 1 + asked)
    seen: list[int] = []
    total = 0.0
    for phase in range(7, 7 + PROMPT_STRIDE):
        micro = pack([sample([1, 2], 1), one], [False, True], CPU, weight, phase)
        assert micro.answers.sum() == 2 + answered
        assert (micro.targets - micro.ids[0, micro.rows]).tolist() == [1] * len(micro.rows)
        inside = micro.targets[~micro.answers]
        assert micro.weights[~micro.answers].tolist() == pytest.approx([weight * PROMPT_STRIDE] * len(inside))
        seen += inside.tolist()
        total += float(micro.weights.sum()) - 1.0
    assert sorted(seen) == ids[1 : 1 + asked], "each once"
    assert total / PROMPT_STRIDE == pytest.approx(weight_of(one, weight))


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 80))
def test_groups_hold_each_sample_once_and_are_never_too_long(lengths: list[int], most: int) -> None:
    groups = split(lengths, most)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or sum(lengths[index] for index in group) <= most
    if lengths and max(lengths) <= most:
        assert len(groups) <= 2 * sum(lengths) // most + 1, "no two groups are half empty"


@given(st.integers(1, 40), st.integers(0, 9), st.floats(0.0, 0.9), st.integers(1, 9), st.integers(0, 3))
def test_each_epoch_holds_each_sample_once(training: int, replay: int, share: float, batch: int, seed: int) -> None:
    order = Order(training, replay, share, batch, seed)
    steps = -(-2 * order.epoch // batch)
    seen = [entry for step in range(steps) for entry in order.batch(step)]
    for epoch in range(2):
        part = seen[epoch * order.epoch : (epoch + 1) * order.epoch]
        assert sorted(index for again, index in part if not again) == list(range(training))
        replayed = sum(again for again, _ in part)
        assert abs(replayed - (share if replay else 0.0) * order.epoch) <= 1.0
        assert all(index < replay for again, index in part if again)
    assert order.batch(steps - 1) == Order(training, replay, share, batch, seed).batch(steps - 1), "no state"


def test_seeds_and_epochs_differ() -> None:
    order = Order(50, 0, 0.0, 50, 0)
    assert order.batch(0) != order.batch(1)
    assert order.batch(0) != Order(50, 0, 0.0, 50, 1).batch(0)


def test_samples_without_targets_or_too_long_are_left_out() -> None:
    good = sample([1, 2, 3], 2)
    bad = [sample([1, 2, 3], 3), sample([1], 0), sample([], 0), sample([1, 2, 3, 4], 1)]
    assert usable([good, *bad], 3) == [good]
