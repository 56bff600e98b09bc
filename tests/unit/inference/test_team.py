from __future__ import annotations

import gc
import threading

import pytest

from intract_lsp.inference.team import Team


def team_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("intract-team")]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_each_number_has_a_thread_of_its_own(size: int) -> None:
    team = Team(4)
    team.size = size
    meeting, ran = threading.Barrier(size), list[tuple[int, int]]()

    def take_part(number: int) -> None:
        meeting.wait(5)
        ran.append((number, threading.get_ident()))

    for _ in range(3):
        team.run(take_part)
    assert sorted(number for number, _ in ran) == sorted(list(range(size)) * 3)
    assert len({thread for _, thread in ran[:size]}) == size


def test_a_failure_is_told() -> None:
    def fails(number: int) -> None:
        if number == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match="one"):
        Team(2).run(fails)


def test_threads_are_there_from_the_start_and_go_with_the_team() -> None:
    before = set(team_threads())
    team = Team(3)
    new = set(team_threads()) - before
    assert len(new) == 2
    del team
    gc.collect()
    for thread in new:
        thread.join(5)
    assert not any(thread.is_alive() for thread in new)


def test_a_thread_that_cannot_be_begun_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if len(begun) == 1:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start"):
        Team(3)
    gc.collect()
    begun[0].join(5)
    assert not begun[0].is_alive()
