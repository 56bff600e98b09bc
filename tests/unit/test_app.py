from __future__ import annotations

from intract_lsp.app import at_most_every, policy
from intract_lsp.completion.generation import PromptBudget, PromptShape
from intract_lsp.settings import CompletionSettings, Settings


def test_a_reading_is_good_for_a_while() -> None:
    now, values = 100.0, iter([True, False])
    look = at_most_every(10, lambda: next(values), lambda: now)
    assert look()
    now += 9.9
    assert look()
    now += 0.2
    assert not look()


def test_work_ahead_follows_the_setting() -> None:
    assert policy(Settings()).work_ahead
    assert not policy(Settings(completion=CompletionSettings(work_ahead=False))).work_ahead


def test_the_shape_of_prompts_follows_the_settings() -> None:
    assert policy(Settings()).shape == PromptShape()
    narrow = Settings(completion=CompletionSettings(prefix_tokens=100, exact=True))
    assert policy(narrow).shape == PromptShape(PromptBudget(100, 0), exact=True)
