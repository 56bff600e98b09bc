from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.evaluation.items import Item
from intract_lsp.evaluation.scores import score
from intract_lsp.training.chart import line_chart, ticks
from intract_lsp.training.gate import Evidence, Rules, Status, judge
from intract_lsp.training.leak import Leaks
from intract_lsp.training.measure import Measured, Outcome, Place, Shown
from intract_lsp.training.report import EXAMPLES, Choice, Point, Report, choose_examples
from intract_lsp.training.report_files import write_report
from intract_lsp.training.report_page import page
from intract_lsp.training.spec import RunSpec

EVIL = "<script>alert('x')</script> & \"quoted\" </pre>"
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
VOID = {"meta", "line", "circle", "polyline", "br", "hr", "img", "input", "link"}


def place(name: str, written: str = "compute(first, second)", prefix: str = "import os\n\nresult = ") -> Place:
    item = Item(f"i{name}", f"src/{name}.py", prefix, "\n", written, written, "held-out")
    return Place(item, CompletionContext(prefix, "\n", "python", Extent.LINE, item.path), written)


def outcome(at: Place, text: str | None, nll: float = 12.0, looks_secret: bool = False) -> Outcome:
    shown = Shown(text, score(at.item, text), False, False, False, looks_secret, 20.0)
    return Outcome(at.item.task_id, nll, 8, shown)


def both(places: list[Place], texts: list[tuple[str | None, str | None]]) -> tuple[Measured, Measured]:
    pairs = list(zip(places, texts, strict=True))
    base = {at.item.task_id: outcome(at, before) for at, (before, _) in pairs}
    candidate = {
        at.item.task_id: outcome(at, after, nll=10.0 + number % 2) for number, (at, (_, after)) in enumerate(pairs)
    }
    return Measured(base), Measured(candidate)


def mixed(count: int = 45) -> tuple[list[Place], Measured, Measured]:
    """A third better, a ninth worse, the rest the same."""
    places = [place(str(number)) for number in range(count)]
    texts: list[tuple[str | None, str | None]] = []
    for number in range(count):
        wrong = f"other_{number}(value)"
        right = "compute(first, second)"[: 10 + number % 12]
        texts.append((wrong, right) if number % 3 == 0 else (right, wrong) if number % 9 == 1 else (wrong, wrong))
    return places, *both(places, texts)


def report(**more: object) -> Report:
    places, base, candidate = mixed()
    guard = Measured({str(number): Outcome(str(number), 10.0, 10) for number in range(120)})
    verdict = judge(Evidence(base, candidate, guard, guard, Leaks(3, 0, 1)), Rules(resamples=200))
    plain = Report(
        spec=RunSpec("run-1", "/home/someone/project", "/tmp/run", "tiny-0.5b", "/models/tiny", "qwen2.5-coder"),
        created="2026-11-23T08:00:00+00:00",
        seconds=754.0,
        tokens_per_second=151.4,
        training=tuple(Point(step, 2.0 / (1 + step / 30)) for step in range(1, 101)),
        validation=tuple(Point(step, 1.9 - step / 300) for step in range(0, 101, 10)),
        verdict=verdict,
        examples=choose_examples(places, base, candidate),
        provenance={"base": "tiny-0.5b", "git head": "0123abcd", "cut": "89ef", "data": "f00d"},
        plan={
            "taken": 120,
            "refused": {"too long": 3, "secret": 1},
            "paths": [f"f{n}.py" for n in range(40)],
            "weak": False,
        },
        notes=("The learning rate was halved once.",),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


class Checker(HTMLParser):
    """Sees to it that elements are closed in order, and keeps attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.wrong and not checker.open
    return checker


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    html = page(report())
    checker = checked(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(checker.tags)
    assert not [value for name, value in checker.attributes if name in ("src", "href", "srcset", "action", "onclick")]
    assert "http" not in html.replace("http-equiv", "") and "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html
    assert ("lang", "en") in checker.attributes


def test_it_can_be_read_by_all() -> None:
    html = page(report())
    checker = checked(html)
    assert "prefers-color-scheme: dark" in html
    assert checker.tags.count("h1") == 1 and "main" in checker.tags
    assert checker.tags.count("table") == checker.tags.count("caption") >= 4
    assert ("scope", "col") in checker.attributes and ("scope", "row") in checker.attributes
    (chart,) = re.findall("<svg [^>]*>", html)
    assert 'role="img"' in chart and 'aria-label="Loss by step' in chart


def test_it_says_what_came_of_it_and_why() -> None:
    made = report()
    text = checked(page(made)).text.replace("\u00a0", " ")
    assert made.verdict.status is Status.PROMOTED
    assert "Fine-tuning on project: promoted" in text
    assert all(reason in text for reason in made.verdict.reasons)
    assert "1.500" in text and "12.6 minutes" in text and "151 tokens a second" in text
    assert "refused: secret" in text and "f0.py, f1.py" in text and "and 28 more" in text
    assert "0123abcd" in text and "learning rate" in text and "halved once" in text
    assert "Secrets asked for: 3; given away: 0." in text


def test_each_verdict_has_its_title() -> None:
    made = report()
    for status, words in ((Status.REJECTED, "nothing changed"), (Status.SHADOW, "kept aside")):
        html = page(replace(made, verdict=replace(made.verdict, status=status)))
        assert f"project: {words}</h1>" in html and f'class="verdict {status.value}"' in html


def test_code_is_escaped_wherever_it_stands() -> None:
    at = place("evil", written=EVIL, prefix=f"# {EVIL}\nx = ")
    at = replace(at, item=replace(at.item, path=f"{EVIL}.py"))
    base, candidate = both([at], [(EVIL[:12], EVIL)])
    made = report(
        examples=choose_examples([at], base, candidate),
        provenance={EVIL: EVIL},
        plan={EVIL: [EVIL], "refused": {EVIL: 1}},
        notes=(EVIL,),
        spec=replace(report().spec, workspace=f"/x/{EVIL.replace('/', '')}", model=EVIL),
    )
    html = page(made)
    checker = checked(html)
    assert "script" not in checker.tags
    assert "<script>" not in html
    assert checker.text.count(EVIL) >= 8


def test_examples_are_the_best_the_worst_and_others() -> None:
    places, base, candidate = mixed()
    found = choose_examples(places, base, candidate)
    assert len(found) == EXAMPLES
    assert [one.choice for one in found] == [Choice.IMPROVED] * 4 + [Choice.WORSENED] * 3 + [Choice.ANY] * 3
    gains = {
        at.item.path: b.similarity_after - b.similarity_before for at in places for b in found if b.path == at.item.path
    }
    assert min(gains[one.path] for one in found[:4]) > 30 and max(gains[one.path] for one in found[4:7]) < -30
    assert len({one.path for one in found}) == EXAMPLES
    assert found[0].above == "import os\n\nresult = " and found[0].line == 3
    text = checked(page(report(examples=found))).text
    assert "most improved" in text and "most worsened" in text and "other_1(value)" in text


def test_without_changes_examples_are_others_and_nothing_shown_is_said() -> None:
    places = [place(str(number)) for number in range(3)]
    base, candidate = both(places, [(None, None), ("a", "a"), ("compute(first", "compute(first")])
    found = choose_examples(places, base, candidate)
    assert [one.choice for one in found] == [Choice.ANY] * 3
    html = page(report(examples=found))
    assert "nothing shown" in html
    assert '<span class="same">compute(first</span>' in html
    assert "No suggestion was compared" in page(report(examples=()))


def test_no_example_shows_a_secret() -> None:
    plain, told, typed = place("plain"), place("told"), place("typed", prefix=f'TOKEN = "{TOKEN}"\nx = ')
    base, candidate = both([plain, told, typed], [("a", "b")] * 3)
    outcomes = dict(candidate.outcomes) | {"itold": outcome(told, None, looks_secret=True)}
    found = choose_examples([plain, told, typed], base, Measured(outcomes))
    assert [one.path for one in found] == ["src/plain.py"]
    assert TOKEN not in page(report(examples=found))


def test_places_without_suggestions_are_no_examples() -> None:
    places, base, candidate = mixed(9)
    silent = {task: replace(one, shown=None) for task, one in candidate.outcomes.items()}
    assert choose_examples(places, base, Measured(silent)) == ()
    assert choose_examples(places, base, Measured({})) == ()


def test_files_are_written_whole(tmp_path: Path) -> None:
    made = report()
    as_json, as_html = write_report(made, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]
    values = json.loads(as_json.read_text(encoding="utf-8"))
    assert values["run"] == "run-1" and values["status"] == "promoted"
    assert values["figures"]["nll_base"] == 1.5 and values["figures"]["nll_adapter"] < 1.5
    assert values["reasons"][0] == made.verdict.reasons[0]
    assert values["validation"][0] == {"step": 0, "loss": 1.9}
    assert values["spec"]["trainer"]["method"] == "lora"
    assert {"change", "before", "after", "n"} < set(values["comparisons"][0])
    assert len(values["examples"]) == EXAMPLES and values["examples"][0]["choice"] == "most improved"
    assert as_html.read_text(encoding="utf-8") == page(made)
    write_report(made, tmp_path)
    with pytest.raises(OSError):
        write_report(made, tmp_path / "missing")


def test_what_no_file_takes_is_replaced(tmp_path: Path) -> None:
    curve = (Point(0, math.nan), Point(1, math.inf), Point(2, 1.0))
    made = report(
        notes=("half a character: \ud800",), validation=curve, training=curve, plan={"odd": object, "x": math.nan}
    )
    as_json, as_html = write_report(made, tmp_path)
    values = json.loads(as_json.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert values["validation"][0]["loss"] is None and values["plan"]["x"] is None
    checked(as_html.read_text(encoding="utf-8"))


def test_a_run_without_figures_has_a_report(tmp_path: Path) -> None:
    nothing = Measured({})
    verdict = judge(Evidence(nothing, nothing, nothing, nothing, Leaks()))
    write_report(report(verdict=verdict, training=(), validation=(), examples=(), notes=(), plan={}), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    checked(html)
    assert "No loss was recorded" in html


def test_an_active_adapter_has_rows_of_its_own() -> None:
    _, base, candidate = mixed()
    guard = Measured({"g": Outcome("g", 10.0, 10)})
    verdict = judge(Evidence(base, candidate, guard, guard, Leaks(), active=base), Rules(resamples=200))
    text = checked(page(report(verdict=verdict))).text
    assert text.count("against the active adapter") == 5


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
def test_chart_lines_stay_inside(points: list[tuple[int, float]]) -> None:
    svg = line_chart((("a & b", "training", points),), "t", "x", "y")
    checker = checked(svg)
    assert "a & b" in unescape(checker.text)
    drawn = re.findall(r'<polyline class="training" points="([^"]*)"', svg)[0]
    for pair in drawn.split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 720 and 0 <= y <= 300


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
@example(0.0, 5e-324)
def test_ticks_span_what_they_are_for(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 9
    assert found == sorted(found)
    room = 1e-6 * max(abs(low), abs(low + span), 1e-12)
    if len(found) > 1:
        assert found[0] <= low + room and found[-1] >= low + span - room
