from __future__ import annotations

import time
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.inference.threads import INTERVAL, ThreadCount, on_battery, physical_cores, spent_seconds


class Machine:
    """A clock, and processor time that the test spends."""

    def __init__(self, cores: int) -> None:
        self.now = self.total = self.own = 0.0
        self.count = ThreadCount(cores, lambda: self.total, lambda: self.own, lambda: self.now)

    def passes(self, seconds: float, others: float, own: float = 0.0) -> int:
        """Let time pass in which others and this process keep that many cores busy."""
        self.now += seconds
        self.total += (others + own) * seconds
        self.own += own * seconds
        return self.count.look()


def test_a_quiet_machine_is_used_whole() -> None:
    machine = Machine(4)
    assert machine.count.look() == 4
    assert machine.passes(1, others=0.1) == 4
    assert machine.passes(1, others=0.1, own=3.9) == 4  # its own work is nobody else's


def test_cores_that_others_use_are_left_to_them_and_taken_back() -> None:
    machine = Machine(4)
    assert machine.passes(1, others=1.0) == 3
    assert machine.passes(1, others=0.7, own=3.0) == 3
    assert machine.passes(1, others=2.6, own=1.4) == 1
    assert machine.passes(1, others=0.0) == 4


def test_a_load_between_two_numbers_changes_nothing() -> None:
    machine = Machine(2)
    assert [machine.passes(1, others) for others in (0.4, 0.5, 0.4, 0.3, 0.2, 0.4)] == [2, 1, 1, 1, 2, 2]


def test_the_load_is_averaged() -> None:
    machine = Machine(2)
    assert machine.passes(INTERVAL / 2, others=1.5) == 2
    assert machine.passes(INTERVAL / 2, others=1.5) == 1


@given(st.integers(1, 64), st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 64), st.floats(0, 64)), max_size=20))
def test_there_is_always_a_thread_and_never_more_than_cores(
    cores: int, story: list[tuple[float, float, float]]
) -> None:
    machine = Machine(cores)
    for seconds, others, own in story:
        assert 1 <= machine.passes(seconds, others, own) <= cores


def test_this_machines_clocks() -> None:
    before = spent_seconds()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert spent_seconds() - before >= 0.1
    assert ThreadCount(2).look() == 2


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (None, False),
        (SimpleNamespace(power_plugged=True), False),
        (SimpleNamespace(power_plugged=None), False),
        (SimpleNamespace(power_plugged=False), True),
    ],
)
def test_battery(monkeypatch: pytest.MonkeyPatch, battery: object, expected: bool) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert on_battery() is expected


@pytest.mark.parametrize(
    ("platform", "allowed", "physical", "expected"),
    [
        ("linux", {0, 1, 2, 3}, 2, 2),
        ("linux", {0}, 8, 1),
        ("linux", {0, 1}, None, 2),
        ("linux", set(), 4, 1),
        ("darwin", set(), 8, 8),
    ],
)
def test_physical_cores(
    monkeypatch: pytest.MonkeyPatch, platform: str, allowed: set[int], physical: int | None, expected: int
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: allowed, raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else physical)
    assert physical_cores() == expected
