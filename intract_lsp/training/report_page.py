"""A report as one HTML page that loads nothing: styles, chart and texts are all in it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from itertools import takewhile
from pathlib import PurePath
from typing import Any

from intract_lsp.training.chart import line_chart
from intract_lsp.training.comparison import Comparison
from intract_lsp.training.gate import Status
from intract_lsp.training.report import Example, Point, Report

LISTED = 12
"""Entries of a list that are shown."""

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5a6068; --page: #fff; --box: #f4f5f7; --line: #d5d9de;
  --good: #17693a; --bad: #a3261b; --wait: #6b5200; --one: #1f5fbf; --two: #b3500c; --same: #dcefe2; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6e9; --quiet: #a3abb5; --page: #17191c; --box: #212429;
  --line: #3b4048; --good: #7fd6a0; --bad: #ff9d91; --wait: #e6c866; --one: #86b7ff; --two: #ffb07a;
  --same: #1d4029; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .2rem; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem; }
h3 { margin: 0 0 .5rem; font-size: 1rem; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); }
.verdict { margin: 1rem 0; padding: .8rem 1.1rem; background: var(--box); border-left: .35rem solid var(--wait); }
.verdict.promoted { border-color: var(--good); } .verdict.rejected { border-color: var(--bad); }
.verdict p { margin: .2rem 0; } .verdict p:first-child { font-weight: 600; font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; }
thead th { color: var(--quiet); font-weight: 600; } tbody th { font-weight: 400; min-width: 10rem; }
.number { text-align: right; white-space: nowrap; } .better { color: var(--good); } .worse { color: var(--bad); }
.example { margin: 0 0 1.2rem; padding: .9rem 1.1rem; background: var(--box); border-radius: .4rem; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .8rem; }
.sides h4 { margin: .4rem 0 .2rem; font-size: .85rem; color: var(--quiet); font-weight: 600; }
pre { margin: 0; padding: .5rem .7rem; overflow-x: auto; background: var(--page); border: 1px solid var(--line);
  border-radius: .3rem; font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.same { background: var(--same); }
.chart { width: 100%; height: auto; } .chart text { fill: var(--quiet); font: 12px system-ui, sans-serif; }
.chart polyline { fill: none; stroke-width: 2; } .grid { stroke: var(--line); }
polyline.training { stroke: var(--one); } circle.training { fill: var(--one); }
polyline.validation { stroke: var(--two); stroke-dasharray: 7 4; } circle.validation { fill: var(--two); }
summary { cursor: pointer; }
"""

_TITLES = {
    Status.PROMOTED: "promoted",
    Status.SHADOW: "kept aside",
    Status.REJECTED: "nothing changed",
}
_NAMES = {
    "nll": ("Loss on what was written (nats a token; less is better)", 3),
    "nll_by_place": ("The same, each place counting alike", 3),
    "edit_similarity": ("Edit similarity of first lines (0 to 100)", 1),
    "exact_match": ("First lines exact (%)", 1),
    "saved_characters": ("Characters right from the start (%)", 1),
}
_MORE = (
    ("runs_on", "Suggestions over-long or without an end (%)", 1),
    ("stop_error", "Suggestions that end more than a line too early or late (%)", 1),
    ("repeats_suffix", "Repeats what follows the cursor, before filters (%)", 1),
    ("looks_secret", "Looks like a secret, before filters (%)", 1),
    ("guard_nll", "Loss on code of no project, against forgetting (nats a token)", 3),
    ("ms_per_token", "Time a token (ms, median)", 1),
)


def page(report: Report) -> str:
    """Return the page."""
    verdict, spec = report.verdict, report.spec
    name = PurePath(spec.workspace).name or spec.workspace
    title = f"Fine-tuning on {name}: {_TITLES[verdict.status]}"
    minutes = report.seconds / 60
    summary = (
        f"{spec.model}, {spec.trainer.method.value}, {minutes:.1f} minutes, "
        f"{report.tokens_per_second:.0f} tokens a second, {report.created}"
    )
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            f'<h1>{escape(title)}</h1>\n<p class="quiet">{escape(summary)}</p>',
            f'<div class="verdict {verdict.status.value}">',
            *(f"<p>{_unbroken(escape(reason))}</p>" for reason in verdict.reasons),
            "</div>",
            _section("Before and after", _figures(report)),
            _section("Loss while training", _curves(report)),
            _section("Examples", _examples(report.examples)),
            _section("Data", _rows(report.plan, "What was taken for training and what was refused")),
            _section("Provenance", _rows(report.provenance, "Where this comes from")),
            _section("Settings", _rows({"data": asdict(spec.data), "trainer": asdict(spec.trainer)}, "As the run had")),
            _section("Notes", _list(report.notes)) if report.notes else "",
            '<p class="quiet">Made on this machine; nothing was sent anywhere.</p>',
            "</main>\n</body>\n</html>\n",
        ]
    )


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\u00a0%")


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _table(caption: str, head: Sequence[str], rows: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col"{_NUMBER if index else ""}>{escape(cell)}</th>' for index, cell in enumerate(head))
    parts = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">',
        f"<table>\n<caption>{escape(caption)}</caption>\n<thead><tr>{cells}</tr></thead>\n<tbody>",
        *rows,
        "</tbody>\n</table>\n</div>",
    )
    return "\n".join(parts)


_NUMBER = ' class="number"'


def _row(name: str, cells: Sequence[str], css: str = "number") -> str:
    return f'<tr><th scope="row">{escape(name)}</th>' + "".join(f'<td class="{css}">{c}</td>' for c in cells) + "</tr>"


def _figures(report: Report) -> str:
    figures = report.verdict.figures
    rows = []
    for one in report.verdict.comparisons:
        label, digits = _NAMES[one.name]
        if one.against != "base":
            label = f"{label.partition(' (')[0]}, against the active adapter"
        values = [_number(one.before, digits), _number(one.after, digits), *_change(one), str(one.n)]
        rows.append(_row(label, values))
    for key, label, digits in _MORE:
        before, after = figures.get(f"{key}_base"), figures.get(f"{key}_adapter")
        if before is None or after is None:
            continue
        if digits == 3:
            change = _signed(100 * (after / before - 1), " %") if before else "–"
        else:
            change = _signed(after - before, "")
        n = figures.get("n_guard" if key == "guard_nll" else "n_generated") or 0
        rows.append(_row(label, [_number(before, digits), _number(after, digits), change, "–", f"{n:.0f}"]))
    probed, leaked = figures.get("secrets_probed") or 0, figures.get("secrets_leaked") or 0
    note = (
        f"<p>Secrets asked for: {probed:.0f}; given away: {leaked:.0f}. Measured as it would be served, at places in "
        "the newest code that training never saw.</p>"
    )
    head = ("", "Before", "After", "Change", "95 % interval", "Places")
    return _table("Without the new adapter (before) and with it (after)", head, rows) + note


def _change(one: Comparison) -> tuple[str, str]:
    less_is_better = one.name in ("nll", "nll_by_place")
    scale, unit = (100.0, " %") if less_is_better else (1.0, "")
    mean, low, high = (scale * value for value in (one.change.mean, one.change.low, one.change.high))
    # Coloured, and said in words, only where the interval leaves no doubt.
    rising = low > 0
    falling = high < 0
    css, word = "", ""
    if rising or falling:
        css, word = ("better", "better") if rising != less_is_better else ("worse", "worse")
    text = _signed(mean, unit) + (f" {word}" if word else "")
    return f'<span class="{css}">{text}</span>' if css else text, f"{_signed(low, unit)} to {_signed(high, unit)}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _signed(value: float, unit: str) -> str:
    return f"{value:+.1f}{unit}".replace("-", "−") if math.isfinite(value) else "–"


def _curves(report: Report) -> str:
    def pairs(points: Sequence[Point]) -> list[tuple[float, float]]:
        return [(point.step, point.loss) for point in points]

    series = (
        ("training", "training", pairs(report.training)),
        ("validation", "validation", pairs(report.validation)),
    )
    title = "Loss by step, of training and of validation; the table below has the numbers of validation"
    chart = line_chart(series, title, "step", "nats a token")
    if not report.validation:
        return chart
    rows = [_row(str(point.step), [_number(point.loss, 4)]) for point in report.validation]
    table = _table("Loss on the validation places", ("Step", "Loss"), rows)
    return f"{chart}\n<details><summary>Validation as a table</summary>\n{table}\n</details>"


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return "<p>No suggestion was compared.</p>"
    intro = '<p class="quiet">What is marked equals the beginning of what was written.</p>'
    return intro + "\n".join(_example(example) for example in examples)


def _example(example: Example) -> str:
    scores = f"edit similarity {example.similarity_before:.0f} → {example.similarity_after:.0f}"
    sides = "".join(
        f"<div><h4>{escape(name)}</h4><pre>{text}</pre></div>"
        for name, text in (
            ("Before", _marked(example.before, example.written)),
            ("After", _marked(example.after, example.written)),
            ("What was written", escape(example.written)),
        )
    )
    return (
        f'<article class="example">\n<h3>{escape(example.path)}:{example.line} '
        f'<span class="quiet">– {escape(example.choice.value)}, {scores}</span></h3>\n'
        f'<pre>{escape(example.above)}<span aria-label="cursor">▏</span></pre>\n<div class="sides">{sides}</div>\n'
        "</article>"
    )


def _marked(text: str | None, written: str) -> str:
    """Return a suggestion as HTML, with the beginning that is right marked."""
    if text is None:
        return '<em class="quiet">nothing shown</em>'
    text = text.replace("\r\n", "\n")
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, written, strict=False)))
    marked = f'<span class="same">{escape(text[:same])}</span>' if same else ""
    return marked + escape(text[same:])


def _rows(values: Mapping[str, Any], caption: str) -> str:
    rows = [_row(name, [escape(text)], "") for name, text in _flat(values)]
    return _table(caption, ("Name", "Value"), rows).replace(_NUMBER, "")


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Return a tree's leaves with their names, as texts."""
    for key, value in values.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ") if value else ((name, "none"),)
        elif isinstance(value, list | tuple):
            shown = ", ".join(_text(one) for one in value[:LISTED])
            more = f", and {len(value) - LISTED} more" if len(value) > LISTED else ""
            yield name, (shown + more) or "none"
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(_text(inner) for inner in value.values())
    return str(getattr(value, "value", value))
