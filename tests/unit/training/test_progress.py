"""What the events of a run's process make of how it stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.training.events import Event, Stage, Step
from intract_lsp.training.progress import SHARES, RunStatus, follow
from intract_lsp.training.runs import RunState

STAGES = st.builds(Stage, st.sampled_from(sorted(SHARES)), st.just("Working"), st.none() | st.floats(0, 1))
STEPS = st.builds(
    Step, st.integers(1, 90), st.integers(90, 120), st.just(1.0), st.just(100), st.just(50.0), st.just(60.0)
)


@given(st.lists(STAGES | STEPS, max_size=12))
def test_the_fraction_never_falls(events: list[Event]) -> None:
    status = RunStatus("run", "/folder", RunState.RUNNING)
    fractions = [0.0]
    for event in events:
        status = follow(status, event)
        assert status.fraction is not None
        fractions.append(status.fraction)
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1.0


def test_measuring_once_more_leaves_the_fraction_where_it_was() -> None:
    measured = follow(RunStatus("run", "/folder", RunState.RUNNING), Stage("evaluate", "Looking", 0.2))
    again = follow(measured, Stage("merge", "Preparing", 0.0))
    assert again.fraction == measured.fraction
    assert again.message == "Preparing"
