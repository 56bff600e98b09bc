"""Commands that serve, show and score completions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from intract_lsp.cli.options import FOLDER, adapter_option, model_option, quiet_app, reporter, set_option

SWITCH_SECONDS = 0.001
"""A fifth of Python's own."""


@click.command()
@click.option("--tcp", metavar="HOST:PORT", help="Listen on an address instead of stdio; one client at a time.")
@click.option("--engine", type=click.Choice(["model", "echo"]), default="model", help="What answers.")
@set_option
def serve(tcp: str | None, engine: str, options: tuple[str, ...]) -> None:
    """Run the language server (over stdio); editors start this.

    The engine `echo` needs no model: it repeats the last word, to try out an editor's set-up.
    """
    import gc

    # The imports make many objects that stay; collecting among them costs a seventh of the time to `initialize`.
    gc.disable()
    from intract_lsp.app import build_app, load_settings
    from intract_lsp.logs import start_logging
    from intract_lsp.paths import default_paths
    from intract_lsp.server.server import serve as run

    gc.freeze()
    gc.enable()
    # Threads that work in Python, the one that looks for pieces among them, wait this long for each other's turn.
    sys.setswitchinterval(SWITCH_SECONDS)
    address = _address(tcp) if tcp else None
    paths = default_paths()
    settings, problems = load_settings(paths, options)
    start_logging(paths, settings.current.log.level)
    run(build_app(settings, paths, engine), problems, address)


@click.command()
@click.argument("location", metavar="FILE:LINE:COL")
@click.option("--workspace", type=FOLDER, help="The folder to show pieces of; default: the file's git repository.")
@click.option("--explain", is_flag=True, help="List the pieces of other files that the model was shown, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@model_option
@adapter_option
@set_option
def complete(
    location: str,
    workspace: Path | None,
    explain: bool,
    as_json: bool,
    model: str | None,
    adapter: str | None,
    options: tuple[str, ...],
) -> None:
    """Complete at a place in a file and print the suggestion.

    LINE and COL count from 1, as editors show them; COL may be one past the line's last character. The file is left
    as it is. Its workspace is indexed first; --set completion.retrieval=false does without.
    """
    from intract_lsp.location import read_request
    from intract_lsp.oneshot import complete_once

    request, folder = read_request(location, workspace and workspace.absolute())
    app = quiet_app(options, model, folder)
    app.adapters.chosen = adapter or ""
    app.adapters.workspace = folder
    result = complete_once(app, request, folder, reporter())
    suggestion = result.suggestion
    reason = result.reject_reason
    if as_json:
        values = {
            "suggestion": suggestion.text if suggestion else None,
            "replace": suggestion.replace if suggestion else 0,
            "reject_reason": reason.value if reason is not None else None,
            "timings_ms": result.timings.milliseconds(),
            "prompt_tokens": result.timings.prompt_tokens,
            "generated_tokens": result.timings.generated_tokens,
            "model": result.model,
            "context": [piece.values() for piece in result.pieces],
        }
        click.echo(json.dumps(values, ensure_ascii=False))
        return
    if explain:
        for piece in result.pieces:
            shown = piece.values()
            click.echo(
                f"{shown['path']}:{shown['start_line']}-{shown['end_line']}  {', '.join(piece.sources)}  "
                f"score {piece.score:.3f}  {piece.tokens} tokens",
                err=True,
            )
        stages = ", ".join(f"{name} {value} ms" for name, value in result.timings.milliseconds().items())
        click.echo(f"{len(result.pieces)} pieces; {result.timings.prompt_tokens} prompt tokens; {stages}", err=True)
    if suggestion is not None:
        click.echo(suggestion.text)
    else:
        click.echo(reason.sentence if reason is not None else "", err=True)


@click.command("eval")
@click.argument("items", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="ITEMS.jsonl")
@click.option("--workspace", type=FOLDER, help="The folder that the items' paths are in.")
@click.option("--repositories", type=FOLDER, help="Clones of the items' repositories, for the tree of each parent.")
@model_option
@adapter_option
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N items.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a row for each item here.")
@click.option("--json", "as_json", is_flag=True, help="Print only the summary, as one JSON line.")
@set_option
def evaluate_items(
    items: Path,
    workspace: Path | None,
    repositories: Path | None,
    model: str | None,
    adapter: str | None,
    limit: int | None,
    out: Path | None,
    as_json: bool,
    options: tuple[str, ...],
) -> None:
    """Score completions on recorded cursors; the last line printed is a JSON summary.

    The deadline is two minutes unless set, so that a busy machine makes the run slow and not the scores low.
    """
    from intract_lsp.oneshot import evaluate_file

    app = quiet_app(("completion.deadline_ms=120000", *options), model)
    app.adapters.chosen = adapter or ""
    table, summary = evaluate_file(app, items, workspace, repositories, limit, out, reporter())
    if not as_json:
        click.echo(table)
    click.echo(json.dumps(summary))


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise click.BadParameter(f"{text!r} is no HOST:PORT, such as 127.0.0.1:7777.", param_hint="--tcp")
    return host or "127.0.0.1", int(port)


COMMANDS = (serve, complete, evaluate_items)
