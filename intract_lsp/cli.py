"""The command line. Each command imports what it needs when it runs, so that ``--help`` stays instant."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intract_lsp import __version__

if TYPE_CHECKING:
    from intract_lsp.app import App
    from intract_lsp.paths import Paths
    from intract_lsp.settings import SettingsStack

SWITCH_SECONDS = 0.001
"""A fifth of Python's own."""

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_SET_HELP = "A setting for this run, such as model.threads=2; repeatable."
_ADAPTER_HELP = "An adapter's id from `intract-lsp adapters list`."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="intract-lsp")
def cli() -> None:
    """Inline code completions from a model on your own machine, for every editor that speaks LSP."""


@cli.command()
@click.option("--tcp", metavar="HOST:PORT", help="Listen on an address instead of stdio; one client at a time.")
@click.option("--engine", type=click.Choice(["model", "echo"]), default="model", help="What answers.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
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


@cli.command()
@click.argument("location", metavar="FILE:LINE:COL")
@click.option("--workspace", type=_FOLDER, help="The folder to show pieces of; default: the file's git repository.")
@click.option("--explain", is_flag=True, help="List the pieces of other files that the model was shown, and why.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--model", metavar="NAME", help="A model's name or path instead of the settings' model.")
@click.option("--adapter", metavar="ID", help=_ADAPTER_HELP)
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
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

    app = _quiet_app(options, model)
    request, folder = read_request(location, workspace and workspace.absolute())
    app.adapters.chosen = adapter or ""
    app.adapters.workspace = folder
    result = complete_once(app, request, folder, _progress())
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


@cli.group()
def models() -> None:
    """List, fetch, find and remove models."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def models_list(as_json: bool) -> None:
    """List the models of the catalogue and those on this machine."""
    from intract_lsp.models.listing import model_table, model_values
    from intract_lsp.paths import default_paths

    paths = default_paths()
    if as_json:
        click.echo(json.dumps(model_values(paths)))
    else:
        _console().print(model_table(paths))


@models.command("pull")
@click.argument("name", default="auto")
@click.option("--offline", is_flag=True, help="Use the network for nothing; only check what is here.")
def models_pull(name: str, offline: bool) -> None:
    """Fetch a model (default: the one that fits this machine) and print where it is.

    NAME is a name from `models list`, a directory or a GGUF file, which is converted once.
    """
    from intract_lsp.completion.generation import CancelToken
    from intract_lsp.models.fetch import pull
    from intract_lsp.paths import default_paths

    with _progress() as report:
        model = pull(name, default_paths(), offline=offline, fresh=True, report=report, token=CancelToken())
    click.echo(f"{model.name}  {model.size_bytes >> 20} MiB  {model.directory}")


@models.command("path")
@click.argument("name", default="auto")
def models_path(name: str) -> None:
    """Print a fetched model's directory."""
    from intract_lsp.errors import ModelError
    from intract_lsp.models import fetch
    from intract_lsp.paths import default_paths

    model = fetch.cached(name, default_paths())
    if model is None:
        raise ModelError(f"{name} is not on this machine; fetch it with `intract-lsp models pull {name}`.")
    click.echo(model.directory)


@models.command("remove")
@click.argument("name")
def models_remove(name: str) -> None:
    """Delete a fetched model from the cache."""
    from intract_lsp.models import store
    from intract_lsp.paths import default_paths

    freed = store.remove(name, default_paths())
    click.echo(f"{name} is removed; {freed >> 20} MiB are free again.")


@cli.command("eval")
@click.argument("items", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="ITEMS.jsonl")
@click.option("--workspace", type=_FOLDER, help="The folder that the items' paths are in.")
@click.option("--repositories", type=_FOLDER, help="Clones of the items' repositories, for the tree of each parent.")
@click.option("--model", metavar="NAME", help="A model's name or path instead of the settings' model.")
@click.option("--adapter", metavar="ID", help=_ADAPTER_HELP)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N items.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a row for each item here.")
@click.option("--json", "as_json", is_flag=True, help="Print only the summary, as one JSON line.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
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

    app = _quiet_app(("completion.deadline_ms=120000", *options), model)
    app.adapters.chosen = adapter or ""
    table, summary = evaluate_file(app, items, workspace, repositories, limit, out, _progress())
    if not as_json:
        click.echo(table)
    click.echo(json.dumps(summary))


@cli.command()
@click.argument("directory", type=_FOLDER, default=".", metavar="[DIR]")
@click.option("--method", type=click.Choice(["auto", "standard", "lora", "qlora"]), help="What is trained, and how.")
@click.option("--minutes", type=click.FloatRange(0, 10_080, min_open=True), help="Time for the training itself.")
@click.option("--dry-run", is_flag=True, help="Show what would be learnt from and what it would take, and end.")
@click.option("--model", metavar="NAME", help="A model's name or path instead of the settings' model.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one JSON line.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
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

    app = _quiet_app(options, model)
    given = {"method": method, "minutes": minutes}
    changes = {name: value for name, value in given.items() if value is not None}
    if dry_run:
        values = look(app, directory, changes, _progress())
        if not as_json:
            _echo_plan(values)
        click.echo(json.dumps(values, ensure_ascii=False))
        return
    values = fine_tune(app, directory, changes)
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
    if values["minutes"]:
        click.echo(f"{values['minutes']:g} minutes of training, and the time to measure what came of it.")


@cli.command("evaluate")
@click.argument("directory", type=_FOLDER, default=".", metavar="[DIR]")
@click.option("--adapter", metavar="ID", help="An adapter's id; default: the one that serves in the folder.")
@click.option("--model", metavar="NAME", help="A model's name or path instead of the settings' model.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one JSON line.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
def evaluate_on_folder(
    directory: Path, adapter: str | None, model: str | None, as_json: bool, options: tuple[str, ...]
) -> None:
    """Measure an adapter on a folder's newest code (default: this one), as the gate of `finetune` does.

    The last line printed is a JSON object. Nothing is trained, and nothing changes.
    """
    from intract_lsp.finetune import evaluate_adapter

    app = _quiet_app(options, model)
    values = evaluate_adapter(app, directory, adapter, _progress())
    if not as_json:
        click.echo(f"As a candidate {values['adapter']} would be {_AS_CANDIDATE[values['status']]}.")
        for reason in values["reasons"]:
            click.echo(reason)
    click.echo(json.dumps(values, ensure_ascii=False))


_AS_CANDIDATE = {"promoted": "promoted", "shadow": "kept aside: too little could be measured", "rejected": "rejected"}


@cli.group()
def adapters() -> None:
    """List, use, take back, export and remove what was fine-tuned."""


@adapters.command("list")
@click.option("--dir", "directory", type=_FOLDER, help="Only those that were trained on this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def adapters_list(directory: Path | None, as_json: bool) -> None:
    """List the adapters on this machine, the newest first."""
    from intract_lsp.finetune import done

    app = _quiet_app((), None)
    entries = [entry.values() for entry in done(app, app.adapters.entries(directory))]
    if as_json:
        click.echo(json.dumps(entries))
        return
    if not entries:
        click.echo("There is no adapter yet: `intract-lsp finetune` makes one.", err=True)
    for entry in entries:
        click.echo(f"{entry['id']}  {entry['status']:9}  {entry['base']}  {entry['workspace']}")


@adapters.command("show")
@click.argument("adapter", metavar="ID")
def adapters_show(adapter: str) -> None:
    """Print what is known of an adapter as a JSON object, after checking its files."""
    from intract_lsp.finetune import done

    app = _quiet_app((), None)
    click.echo(json.dumps(done(app, app.adapters.show(adapter)).values(), indent=2, ensure_ascii=False))


@adapters.command("promote")
@click.argument("adapter", metavar="ID")
@click.option("--dir", "directory", type=_FOLDER, help="Where it serves; default: the folder it was trained on.")
def adapters_promote(adapter: str, directory: Path | None) -> None:
    """Have an adapter serve in a folder, from the next start of the model on."""
    from intract_lsp.finetune import done

    app = _quiet_app((), None)
    click.echo(done(app, app.adapters.promote(adapter, directory)))


@adapters.command("rollback")
@click.option("--dir", "directory", type=_FOLDER, default=".", help="The folder; default: this one.")
@click.option("--model", metavar="NAME", help="A model's name or path instead of the settings' model.")
def adapters_rollback(directory: Path, model: str | None) -> None:
    """Have the adapter before the present one serve in a folder again, or the model alone."""
    from intract_lsp.finetune import done

    app = _quiet_app((), model)
    click.echo(done(app, app.adapters.rollback(directory.absolute())))


@adapters.command("remove")
@click.argument("adapter", metavar="ID")
def adapters_remove(adapter: str) -> None:
    """Delete an adapter that does not serve."""
    from intract_lsp.finetune import done

    app = _quiet_app((), None)
    click.echo(done(app, app.adapters.remove(adapter)))


@adapters.command("export")
@click.argument("adapter", metavar="ID")
@click.argument("target", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--merged", is_flag=True, help="Write the whole model, merged, instead of the adapter.")
def adapters_export(adapter: str, target: Path, merged: bool) -> None:
    """Write an adapter to a new directory, as peft or, merged, transformers loads it."""
    from intract_lsp.finetune import done

    app = _quiet_app((), None)
    click.echo(done(app, app.adapters.export(adapter, target.absolute(), merged=merged)))


@adapters.command("forget")
@click.argument("path", metavar="FILE")
@click.option("--dir", "directory", type=_FOLDER, default=".", help="The folder that FILE is in; default: this one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def adapters_forget(path: str, directory: Path, yes: bool) -> None:
    """Delete the adapters that were trained on a file or folder; those that serve are rolled back first.

    FILE is a path inside the folder. It need not exist any more.
    """
    from intract_lsp.finetune import done

    app = _quiet_app((), None)
    found = app.adapters.saw(path, directory).result()
    if found and not yes:
        click.confirm(f"{', '.join(found)} will be deleted. Go on?", abort=True, err=True)
    click.echo(done(app, app.adapters.forget(path, directory)))


@cli.command("index")
@click.argument("directory", type=_FOLDER, default=".", metavar="[DIR]")
@click.option("--anew", is_flag=True, help="Drop what is indexed and read every file again.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
def index_directory(directory: Path, anew: bool, as_json: bool, options: tuple[str, ...]) -> None:
    """Bring the index of a folder (default: this one) up to date and say what is in it.

    The language server does the same for each folder that is open in the editor.
    """
    from intract_lsp.oneshot import index_folder

    settings, paths = _settings(options)
    status, seconds = index_folder(settings.current, paths, directory.absolute(), anew, _progress())
    refused = {reason.name.lower().replace("_", "-"): count for reason, count in status.refused.items()}
    refused = dict(sorted(refused.items(), key=lambda item: -item[1]))
    if as_json:
        values = {
            **{name: getattr(status, name) for name in ("root", "files", "chunks", "symbols", "disk_bytes", "message")},
            "seconds": round(seconds, 2),
            "refused": refused,
        }
        click.echo(json.dumps(values, ensure_ascii=False))
        return
    click.echo(
        f"{status.files:,} files, {status.chunks:,} chunks, {status.symbols:,} symbols; "
        f"{status.disk_bytes / 2**20:.1f} MiB on disk; {seconds:.1f} s"
    )
    if refused:
        click.echo(f"left out: {', '.join(f'{count:,} {reason}' for reason, count in refused.items())}")
    if status.message:
        click.echo(status.message, err=True)


@cli.command("search")
@click.argument("query")
@click.option("--dir", "directory", type=_FOLDER, default=".", metavar="DIR", help="The folder; default: this one.")
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="Most results.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
def search_index(query: str, directory: Path, limit: int, as_json: bool, options: tuple[str, ...]) -> None:
    """Search a folder's index, after bringing it up to date, and print the pieces that fit best.

    What is found is what a completion may be shown of the folder.
    """
    from intract_lsp.oneshot import search_folder

    settings, paths = _settings(options)
    root = directory.absolute()
    found, status, update_seconds, search_seconds = search_folder(
        settings.current, paths, root, query, limit, _progress()
    )
    if as_json:
        values = {
            "results": [one.values() for one in found],
            "chunks": status.chunks,
            "update_seconds": round(update_seconds, 3),
            "search_seconds": round(search_seconds, 4),
            "message": status.message,
        }
        click.echo(json.dumps(values, ensure_ascii=False))
        return
    for one in found:
        values = one.values()
        place = click.style(f"{values['path']}:{values['start_line']}-{values['end_line']}", bold=True)
        click.echo(f"{place}  {values['symbol']}  {values['score']:.1f}".replace("    ", "  "))
        click.echo(textwrap.indent(one.chunk.text.rstrip("\n"), "    ") + "\n")
    what = f"{len(found)} of {status.chunks:,} chunks in {search_seconds * 1000:.1f} ms"
    click.echo(f"{what}; bringing the index up to date took {update_seconds:.1f} s", err=True)
    if status.message:
        click.echo(status.message, err=True)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def doctor(as_json: bool) -> None:
    """Show what was found on this machine, what was chosen and why, and what is wrong."""
    from intract_lsp.app import load_settings
    from intract_lsp.doctor import examine
    from intract_lsp.paths import default_paths

    paths = default_paths()
    settings, problems = load_settings(paths)
    findings = examine(settings.current, problems, paths)
    if as_json:
        click.echo(json.dumps({finding.name: finding.value for finding in findings}))
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = click.style("!", fg="red") if finding.wrong else click.style("·", fg="green")
        click.echo(f"{mark} {finding.name:<{width}}  {finding.value}")
    if any(finding.wrong for finding in findings):
        sys.exit(1)


@cli.group()
def config() -> None:
    """Show the settings."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help=_SET_HELP)
def config_show(as_json: bool, options: tuple[str, ...]) -> None:
    """Print the settings in force, as TOML that the settings file takes."""
    from intract_lsp.app import load_settings
    from intract_lsp.paths import default_paths
    from intract_lsp.settings import as_toml

    paths = default_paths()
    settings, problems = load_settings(paths, options)
    for problem in problems:
        click.echo(problem, err=True)
    if as_json:
        click.echo(settings.current.model_dump_json())
    else:
        click.echo(f"# {paths.user_settings}")
        click.echo(as_toml(settings.current))


@config.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the settings."""
    from intract_lsp.settings import Settings

    click.echo(json.dumps(Settings.model_json_schema(), indent=2))


@config.command("reference")
def config_reference() -> None:
    """Print what every setting does, in Markdown (editors/SETTINGS.md)."""
    from intract_lsp.settings_reference import reference

    click.echo(reference())


def main() -> None:
    """Run the command line; errors meant for the user are one sentence and exit code 2."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        # Imported here for the start-up time of `--help`.
        from intract_lsp.errors import IntractError

        if not isinstance(error, IntractError):
            raise
        click.echo(f"intract-lsp: {error}", err=True)
        sys.exit(2)


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise click.BadParameter(f"{text!r} is no HOST:PORT, such as 127.0.0.1:7777.", param_hint="--tcp")
    return host or "127.0.0.1", int(port)


def _quiet_app(options: tuple[str, ...], model: str | None) -> App:
    """Build an app for one command; wrong settings end the command."""
    from intract_lsp.app import build_app

    if model is not None:
        options = (*options, f"model.name={json.dumps(model)}")
    settings, paths = _settings(options)
    return build_app(settings, paths, watch=False)


def _settings(options: tuple[str, ...]) -> tuple[SettingsStack, Paths]:
    """Return the settings for one command; wrong ones end the command."""
    from intract_lsp.app import load_settings
    from intract_lsp.errors import SettingsError
    from intract_lsp.paths import default_paths

    paths = default_paths()
    settings, problems = load_settings(paths, options)
    if problems:
        raise SettingsError(problems)
    return settings, paths


def _console() -> Any:
    from rich.console import Console

    return Console()


def _progress() -> Any:
    from intract_lsp.console import Reporter

    return Reporter()
