"""Commands that fine-tune, and measure what was fine-tuned."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from intract_lsp.cli.options import FOLDER, model_option, quiet_app, reporter, set_option


@click.command()
@click.argument("directory", type=FOLDER, default=".", metavar="[DIR]")
@click.option("--method", type=click.Choice(["auto", "standard", "lora", "qlora"]), help="What is trained, and how.")
@click.option("--minutes", type=click.FloatRange(0, 10_080, min_open=True), help="Time for the training itself.")
@click.option("--dry-run", is_flag=True, help="Show what would be learnt from and what it would take, and end.")
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one JSON line.")
@set_option
def finetune(
    directory: Path,
    method: str | None,
    minutes: float | None,
    dry_run: bool,
    model: str | None,
    as_json: bool,
    options: tuple[str, ...],
) -> None:
    """Fine-tune the model on a folder (default: this one) and use the result there if it is better.

    The last line printed is a JSON object. What was trained is measured on the folder's newest code, which it has not
    seen; without a gain nothing changes. Ctrl-C cancels. All settings are in the section `training`.
    """
    from intract_lsp.finetune import dry_run as look
    from intract_lsp.finetune import fine_tune

    app = quiet_app(options, model, directory)
    given = {"method": method, "minutes": minutes}
    changes = {name: value for name, value in given.items() if value is not None}
    if dry_run:
        values = look(app, directory, changes, reporter())
        if not as_json:
            _echo_plan(values)
        click.echo(json.dumps(values, ensure_ascii=False))
        return
    echo_result(fine_tune(app, directory, changes), as_json=as_json)


def echo_result(values: dict[str, Any], *, as_json: bool) -> None:
    """Print how a run has ended, and end the program with a status that says whether it did by itself."""
    if not as_json:
        for note in values["notes"]:
            click.echo(note, err=True)
        click.echo(values["reason"])
        if values["report"]:
            click.echo(f"The report is in {values['report']}")
    click.echo(json.dumps(values, ensure_ascii=False))
    if values["status"] in ("failed", "stopped"):
        sys.exit(130 if values["status"] == "stopped" else 1)


def _echo_plan(values: dict[str, Any]) -> None:
    data = values["data"]
    click.echo(f"{data['files']:,} files with {data['lines']:,} lines, of which samples are drawn:")
    for kind, count in data["samples"].items():
        click.echo(f"  {kind:8} {count:7,} samples {data['tokens'][kind]:10,} tokens")
    click.echo(f"{data['test_places']} places to measure at" + (", chosen by chance: no history" * data["weak"]))
    for reason, found in data["left_out"].items():
        such = f" ({', '.join(found['such_as'][:3])})" if found["such_as"] else ""
        click.echo(f"left out: {found['files']:,} files. {reason}{such}")
    click.echo(values["memory"]["message"])
    minutes, rate = values["seconds_expected"] / 60, values["tokens_per_second"]
    click.echo(f"About {minutes:,.0f} minutes in all, at some {rate:,.0f} tokens a second.")


@click.command("evaluate")
@click.argument("directory", type=FOLDER, default=".", metavar="[DIR]")
@click.option("--adapter", metavar="ID", help="An adapter's id; default: the one that serves in the folder.")
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one JSON line.")
@set_option
def evaluate_on_folder(
    directory: Path, adapter: str | None, model: str | None, as_json: bool, options: tuple[str, ...]
) -> None:
    """Measure an adapter on a folder's newest code (default: this one), as the gate of `finetune` does.

    The last line printed is a JSON object. Nothing is trained, and nothing changes.
    """
    from intract_lsp.finetune import evaluate_adapter

    app = quiet_app(options, model, directory)
    values = evaluate_adapter(app, directory, adapter, reporter())
    if not as_json:
        click.echo(f"As a candidate {values['adapter']} would be {_AS_CANDIDATE[values['status']]}.")
        for reason in values["reasons"]:
            click.echo(reason)
    click.echo(json.dumps(values, ensure_ascii=False))


_AS_CANDIDATE = {"promoted": "promoted", "shadow": "kept aside: too little could be measured", "rejected": "rejected"}


COMMANDS = (finetune, evaluate_on_folder)
