from __future__ import annotations

import pytest

from intract_lsp.completion.debounce import LONGEST_WAIT, AdaptiveDebounce


def typing(gap: float, keys: int = 40) -> AdaptiveDebounce:
    debounce = AdaptiveDebounce()
    for key in range(keys):
        debounce.keystroke(100 + key * gap)
    return debounce


def test_waits_longer_for_those_who_type_slowly() -> None:
    waits = [typing(gap).wait("name") for gap in (0.08, 0.12, 0.2, 0.26)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(0.088)
    assert waits[-1] == pytest.approx(0.286)


def test_waits_less_where_a_pause_is_natural() -> None:
    debounce = typing(0.1)
    assert debounce.wait("call(") == debounce.wait("    ") == debounce.wait("") == pytest.approx(0.04)
    assert debounce.wait("name_") == debounce.wait("größe") == pytest.approx(0.11)


@pytest.mark.parametrize("gap", [0.0, 0.001, 0.39])
def test_is_bounded(gap: float) -> None:
    assert 0.06 < typing(gap).wait("name") <= LONGEST_WAIT


def test_pauses_say_nothing_of_the_speed() -> None:
    assert typing(5.0).wait("name") == AdaptiveDebounce().wait("name") == pytest.approx(0.165)


def test_follows_a_change_of_speed() -> None:
    debounce = typing(0.08)
    for key in range(60):
        debounce.keystroke(200 + key * 0.2)
    assert debounce.wait("name") == pytest.approx(0.22)


@pytest.mark.parametrize("client_wait", [0.05, 0.2])
def test_what_the_editor_has_waited_is_taken_off(client_wait: float) -> None:
    debounce = typing(0.1)
    debounce.client_wait = client_wait
    assert debounce.wait("name") == pytest.approx(max(0.0, 0.11 - client_wait))
