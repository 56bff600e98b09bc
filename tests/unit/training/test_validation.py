from __future__ import annotations

import pytest

from intract_lsp.training.budget import VALIDATION_SHARE
from intract_lsp.training.sample import Sample, SampleKind
from intract_lsp.training.validation import LEAST_WITHOUT_TIME, affordable


@pytest.mark.parametrize(
    ("trained", "count"), [(0, LEAST_WITHOUT_TIME), (40_000, 18), (100_000, 45), (10_000_000, 60), (39_000, 17)]
)
def test_where_no_time_is_set_scoring_takes_its_share_of_the_run(trained: float, count: int) -> None:
    samples = [Sample(tuple(range(100)), 90, SampleKind.LINE)] * 60
    found = affordable(samples, trained)
    assert found == samples[:count]
    if LEAST_WITHOUT_TIME < count < len(samples):
        # A forward pass is a third of a step.
        assert 100 * count / 3 <= VALIDATION_SHARE * trained < 100 * (count + 1) / 3


def test_few_samples_are_all_scored() -> None:
    samples = [Sample((1, 2, 3), 1, SampleKind.LINE)] * 3
    assert affordable(samples, 0) == samples
