"""An adapter that has forgotten too much is weighed by less, once, and measured as it is then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, PromptBudget
from intract_lsp.errors import TrainingError
from intract_lsp.evaluation.items import Item
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, ModelCard
from intract_lsp.training.arm import Answer
from intract_lsp.training.arms import BASE, CANDIDATE, Arms
from intract_lsp.training.events import Event, Note, Stage
from intract_lsp.training.gate import Status
from intract_lsp.training.guard import guard_items
from intract_lsp.training.lightening import judge_candidate, weight_of
from intract_lsp.training.measure import places
from intract_lsp.training.step import Stopped
from intract_lsp.training.verdict import Judged

ALPHA = 51.2
GUARD = {place.context for place in places(guard_items(), None, 0)}
ITEMS = [Item(f"i{n}", f"i{n}.py", "x = ", "\n", "compute(1)", "compute(1)", "held-out") for n in range(60)]
NEWEST = places(ITEMS, None, 0)


class FakeArm:
    """Its losses are the base's, changed by a share: one at guard code, another at the newest."""

    def __init__(self, forgotten: float = 0.0, gained: float = 0.0) -> None:
        self.forgotten, self.gained = forgotten, gained
        self.guard_asked = 0

    def complete(self, context: CompletionContext) -> Answer:
        return Answer("compute(2)", raw="compute(2)", tokens=4, milliseconds=60.0)

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        self.guard_asked += context in GUARD
        return 2.0 * len(middle) * (1 + (self.forgotten if context in GUARD else -self.gained)), len(middle)


class Candidate:
    """An adapter's files, and the model loaded with what they weigh: forgetting grows with the weight's square."""

    def __init__(self, directory: Path, forgotten: float, kind: AdapterKind = AdapterKind.LORA) -> None:
        directory.mkdir()
        self.config = directory / "adapter_config.json"
        self.config.write_text(json.dumps({"r": 64, "lora_alpha": ALPHA, "peft_type": "LORA"}))
        self.files = AdapterFiles("a", directory, kind, "model", "base")
        self.base = FakeArm()
        self.loaded: list[FakeArm] = []
        self.events: list[Event] = []
        self.token = CancelToken()
        self._forgotten = forgotten

    @property
    def weight(self) -> float:
        return float(json.loads(self.config.read_text())["lora_alpha"]) / ALPHA

    @property
    def notes(self) -> list[str]:
        return [event.sentence for event in self.events if isinstance(event, Note)]

    @contextmanager
    def load(self) -> Iterator[Arms]:
        self.loaded.append(FakeArm(self._forgotten * self.weight**2, 0.1 * self.weight))
        card = ModelCard("model", "qwen", "cpu", "int8", 1, 1, PromptBudget(512, 128))
        yield Arms({BASE: self.base, CANDIDATE: self.loaded[-1]}, card)

    def judged(self) -> Judged:
        return judge_candidate(self.load, self.files, NEWEST, (), self.events.append, self.token, 1e6)


def test_one_that_has_forgotten_little_is_judged_as_it_is(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path / "a", 0.019)
    verdict = candidate.judged().verdict
    assert verdict.status is Status.PROMOTED
    assert (candidate.weight, len(candidate.loaded), candidate.notes) == (1.0, 1, [])


def test_one_that_has_forgotten_too_much_is_weighed_by_less_and_judged_so(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path / "a", 0.03)
    verdict = candidate.judged().verdict
    assert candidate.weight == pytest.approx(0.9 * 0.02 / 0.03)
    assert verdict.status is Status.PROMOTED
    assert verdict.figures["guard_nll_change"] == pytest.approx(0.03 * 0.6**2)
    assert verdict.figures["nll_change"] == pytest.approx(-0.06)
    assert candidate.notes == [
        "What was learnt is weighed by 0.60 of what it was: as it was trained, the model forgot more of what it knew "
        "than is allowed."
    ]
    # All else in the files is as it was, and nothing unfinished lies beside.
    assert json.loads(candidate.config.read_text()) | {"lora_alpha": ALPHA} == {
        "r": 64,
        "lora_alpha": ALPHA,
        "peft_type": "LORA",
    }
    assert [path.name for path in candidate.files.directory.iterdir()] == ["adapter_config.json"]
    # The base has not changed, and is not asked about guard code again.
    assert candidate.base.guard_asked == candidate.loaded[1].guard_asked == len(GUARD)


def test_an_attempt_after_one_that_was_killed_takes_it_as_it_was_weighed(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path / "a", 0.03)
    killed = candidate.load

    @contextmanager
    def until_it_is_weighed() -> Iterator[Arms]:
        if candidate.weight < 1:
            raise KeyboardInterrupt
        with killed() as arms:
            yield arms

    candidate.load = until_it_is_weighed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        candidate.judged()
    candidate.load = killed  # type: ignore[method-assign]
    assert candidate.judged().verdict.status is Status.PROMOTED
    assert (round(candidate.weight, 6), len(candidate.loaded)) == (0.6, 2)
    assert weight_of(candidate.files, 2 * ALPHA) == pytest.approx(0.3)


def test_it_is_weighed_by_less_once(tmp_path: Path) -> None:
    class Stubborn(Candidate):
        @contextmanager
        def load(self) -> Iterator[Arms]:
            with super().load() as arms:
                self.loaded[-1].forgotten = 0.03
                yield arms

    candidate = Stubborn(tmp_path / "a", 0.03)
    verdict = candidate.judged().verdict
    assert (verdict.status, len(candidate.loaded)) == (Status.REJECTED, 2)
    assert "forgotten" in verdict.reasons[1]


@pytest.mark.parametrize(
    ("forgotten", "kind"), [(0.2, AdapterKind.LORA), (float("nan"), AdapterKind.LORA), (0.03, AdapterKind.STANDARD)]
)
def test_what_weighing_does_not_mend_is_left_and_rejected(tmp_path: Path, forgotten: float, kind: AdapterKind) -> None:
    candidate = Candidate(tmp_path / "a", forgotten, kind)
    assert candidate.judged().verdict.status is Status.REJECTED
    assert (candidate.weight, len(candidate.loaded)) == (1.0, 1)


def test_once_cancelled_nothing_is_changed(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path / "a", 0.03)
    candidate.token.cancel()
    with pytest.raises(Stopped):
        candidate.judged()
    assert candidate.weight == 1.0


def test_files_that_cannot_be_weighed_are_told_in_a_sentence(tmp_path: Path) -> None:
    class Damaged(Candidate):
        @property
        def weight(self) -> float:
            return 1.0

    candidate = Damaged(tmp_path / "a", 0.03)
    candidate.config.write_text("{}")
    with pytest.raises(TrainingError, match=r"cannot be weighed by less .*: start the run again"):
        candidate.judged()
    assert candidate.config.read_text() == "{}"


def test_the_shares_of_the_time_rise(tmp_path: Path) -> None:
    candidate = Candidate(tmp_path / "a", 0.0)
    candidate.judged()
    shares = [event.fraction for event in candidate.events if isinstance(event, Stage)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 0.95)
