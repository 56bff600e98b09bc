from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from intract_lsp.completion.request import (
    CompletionRequest,
    CompletionResult,
    RejectReason,
    Suggestion,
    Timings,
    TriggerKind,
)
from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item
from intract_lsp.evaluation.run import Outcome, evaluate
from intract_lsp.evaluation.summary import format_summary, summarise


def item(name: str, truth: str, **tags: object) -> Item:
    fields: dict[str, object] = {"set": "s", **tags}
    return Item(
        task_id=name,
        path=f"{name}.py",
        prefix=f"{name} = ",
        suffix="\n",
        truth_line=truth.split("\n")[0],
        truth_block=truth,
        **fields,  # type: ignore[arg-type]
    )


class Service:
    """Answers from a table and keeps a record of what was asked and cleared, in order."""

    def __init__(self, answers: dict[str, str | RejectReason]) -> None:
        self.answers = answers
        self.log: list[str | CompletionRequest] = []

    async def complete(self, request: CompletionRequest) -> CompletionResult:
        self.log.append(request)
        await asyncio.sleep(0)
        answer = self.answers[request.path]
        timings = Timings(prefill=30.0, decode=500.0, total=530.0, generated_tokens=11)
        if isinstance(answer, RejectReason):
            return CompletionResult(None, answer, model="tiny")
        return CompletionResult(Suggestion(id="1", text=answer), None, timings, model="tiny")

    def run(self, items: list[Item], folder: Path | None = None, **options: object) -> list[Outcome]:
        async def workspace(item: Item) -> Path | None:
            return folder

        return asyncio.run(
            evaluate(
                items,
                self.complete,
                clear_suggestions=lambda: self.log.append("suggestions"),
                clear_kv=lambda: self.log.append("kv"),
                workspace=workspace,
                **options,  # type: ignore[arg-type]
            )
        )


def test_each_item_is_asked_cold_and_then_one_character_later() -> None:
    service = Service({"a.py": "f(1)"})
    service.run([item("a", "f(1)")])
    first, second, cold, third, warm = service.log
    assert (first, second, third) == ("suggestions", "kv", "suggestions")
    assert isinstance(cold, CompletionRequest)
    assert isinstance(warm, CompletionRequest)
    assert (cold.prefix, warm.prefix) == ("a = ", "a = f")
    assert (cold.version, warm.version) == (1, 2)
    assert (cold.uri, cold.path, cold.language_id) == (warm.uri, "a.py", "python")
    assert cold.trigger is warm.trigger is TriggerKind.INVOKED


def test_the_cold_answer_is_scored_and_timed() -> None:
    service = Service({"a.py": "f(1)", "b.py": "g", "c.py": RejectReason.EMPTY})
    outcomes = service.run([item("a", "f(1)"), item("b", "h"), item("c", "x")])
    assert [outcome.score.exact_match for outcome in outcomes] == [True, False, False]
    assert [outcome.text for outcome in outcomes] == ["f(1)", "g", None]
    assert all(outcome.cold_ms >= 0 and outcome.warm_ms >= 0 for outcome in outcomes)


def test_items_of_a_workspace_are_files_in_it(tmp_path: Path) -> None:
    service = Service({"a.py": "x"})
    service.run([item("a", "x")], folder=tmp_path)
    request = service.log[2]
    assert isinstance(request, CompletionRequest)
    assert request.uri == (tmp_path / "a.py").as_uri()


def test_items_without_a_workspace_are_documents_of_their_own() -> None:
    service = Service({"a.py": "x"})
    service.run([item("a", "x"), item("a", "x")])
    uris = [entry.uri for entry in service.log if isinstance(entry, CompletionRequest)]
    assert len(set(uris)) == 2


def test_rows_are_written_as_they_come_and_progress_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    rows_at_progress: list[tuple[int, int, int]] = []

    def progress(done: int, total: int) -> None:
        rows_at_progress.append((done, total, len(out.read_text(encoding="utf-8").splitlines())))

    service = Service({"a.py": "f(1)", "b.py": RejectReason.BLANK})
    service.run([item("a", "f(1)"), item("b", "h")], out=out, progress=progress)
    assert rows_at_progress == [(1, 2, 1), (2, 2, 2)]
    first, second = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert first["task_id"] == "a"
    assert first["suggestion"] == "f(1)"
    assert first["reject_reason"] is None
    assert first["timings_ms"]["decode"] == 500.0
    assert first["scores"] == {
        "shown": True,
        "exact_match": True,
        "edit_similarity": 100.0,
        "saved_characters": 1.0,
        "over_long": False,
    }
    assert (second["suggestion"], second["reject_reason"]) == (None, "blank")


def test_an_output_that_cannot_be_written_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    service = Service({})
    with pytest.raises(IntractError, match="cannot be written"):
        service.run([item("a", "x")], out=tmp_path / "absent" / "out.jsonl")
    assert service.log == []


def test_without_a_model_the_run_stops_instead_of_scoring_zeros() -> None:
    service = Service({"a.py": "x", "b.py": RejectReason.MODEL_FAILED})
    with pytest.raises(IntractError, match="stopped at its item 2: The model could not be loaded"):
        service.run([item("a", "x"), item("b", "x")])


def test_the_summary_adds_up() -> None:
    service = Service({"a.py": "f(1)", "b.py": "abXX", "c.py": RejectReason.EMPTY, "d.py": "x\nx\nx"})
    items = [
        item("a", "f(1)", crossfile=True, trigger="newline"),
        item("b", "abcd", crossfile=False, trigger="newline"),
        item("c", "y", crossfile=False),
        item("d", "x", set="other"),
    ]
    summary = summarise(service.run(items), device="cpu", seconds=2.0).to_json()
    assert summary["n"] == 4
    assert summary["exact_match"] == 50.0
    assert summary["edit_similarity"] == pytest.approx((100 + 50 + 0 + 100) / 4)
    assert summary["saved_characters"] == pytest.approx(100 * (1 + 0.5 + 0 + 1) / 4)
    assert summary["shown"] == 75.0
    assert summary["precision"] == pytest.approx(66.667)
    assert summary["over_long"] == 25.0
    assert summary["tokens_per_second"] == 20.0
    assert (summary["model"], summary["device"], summary["seconds"]) == ("tiny", "cpu", 2.0)
    assert summary["reject_reasons"] == {"empty": 1}
    assert {name: group["n"] for name, group in summary["groups"]["crossfile"].items()} == {
        "no": 2,
        "unknown": 1,
        "yes": 1,
    }
    assert summary["groups"]["crossfile"]["yes"]["exact_match"] == 100.0
    assert set(summary["groups"]["set"]) == {"s", "other"}
    assert summary["cold_ms_p50"] >= 0
    assert summary["warm_ms_p50"] >= 0
    json.dumps(summary)


def test_figures_without_a_base_are_null() -> None:
    service = Service({"a.py": RejectReason.EMPTY})
    summary = summarise(service.run([item("a", "x")]), device="cpu", seconds=0.0).to_json()
    assert summary["precision"] is None
    assert summary["tokens_per_second"] is None


def test_failures_of_the_engine_are_counted_and_not_timed() -> None:
    class BreaksWarm(Service):
        async def complete(self, request: CompletionRequest) -> CompletionResult:
            if request.version == 2:
                return CompletionResult(None, RejectReason.ENGINE_ERROR)
            return await super().complete(request)

    outcomes = BreaksWarm({"a.py": "x", "b.py": RejectReason.ENGINE_ERROR}).run([item("a", "x"), item("b", "x")])
    summary = summarise(outcomes, device="cpu", seconds=1.0)
    assert summary.engine_errors == 3
    assert summary.cold_ms_p50 == outcomes[0].cold_ms
    assert summary.warm_ms_p50 is None
    assert outcomes[0].row()["warm_reject_reason"] == "engine-error"
    assert "failed on 3 requests" in format_summary(summary)


def test_the_table_shows_groups_only_where_they_tell_apart() -> None:
    service = Service({"a.py": "x", "b.py": RejectReason.EMPTY})
    outcomes = service.run([item("a", "x", trigger="newline"), item("b", "y", trigger="midline")])
    table = format_summary(summarise(outcomes, device="cpu", seconds=3.0))
    rows = {" ".join(line.split()[:-7]): line.split()[-7:] for line in table.splitlines()[1:4]}
    assert rows["all"] == ["2", "50.0", "50.0", "50.0", "50.0", "100.0", "0.0"]
    assert rows["trigger midline"] == ["1", "0.0", "0.0", "0.0", "0.0", "–", "0.0"]
    assert "language" not in table
    assert "nothing shown: empty 1" in table
    assert table.splitlines()[-1].endswith("20.0 tokens/s, 3 s on cpu with tiny")
