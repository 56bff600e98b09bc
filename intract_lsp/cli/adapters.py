"""Commands for the adapters on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from intract_lsp.cli.options import FOLDER, model_option, quiet_app


@click.group()
def adapters() -> None:
    """List, use, take back, export and remove what was fine-tuned."""


@adapters.command("list")
@click.option("--dir", "directory", type=FOLDER, help="Only those that were trained on this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def adapters_list(directory: Path | None, as_json: bool) -> None:
    """List the adapters on this machine, the newest first."""
    from intract_lsp.finetune import done

    app = quiet_app((), None)
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

    app = quiet_app((), None)
    click.echo(json.dumps(done(app, app.adapters.show(adapter)).values(), indent=2, ensure_ascii=False))


@adapters.command("promote")
@click.argument("adapter", metavar="ID")
@click.option("--dir", "directory", type=FOLDER, help="Where it serves; default: the folder it was trained on.")
def adapters_promote(adapter: str, directory: Path | None) -> None:
    """Have an adapter serve in a folder, from the next start of the model on."""
    from intract_lsp.finetune import done

    app = quiet_app((), None)
    click.echo(done(app, app.adapters.promote(adapter, directory)))


@adapters.command("rollback")
@click.option("--dir", "directory", type=FOLDER, default=".", help="The folder; default: this one.")
@model_option
def adapters_rollback(directory: Path, model: str | None) -> None:
    """Have the adapter before the present one serve in a folder again, or the model alone."""
    from intract_lsp.finetune import done

    app = quiet_app((), model, directory)
    click.echo(done(app, app.adapters.rollback(directory.absolute())))


@adapters.command("remove")
@click.argument("adapter", metavar="ID")
def adapters_remove(adapter: str) -> None:
    """Delete an adapter that does not serve."""
    from intract_lsp.finetune import done

    app = quiet_app((), None)
    click.echo(done(app, app.adapters.remove(adapter)))


@adapters.command("export")
@click.argument("adapter", metavar="ID")
@click.argument("target", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--merged", is_flag=True, help="Write the whole model, merged, instead of the adapter.")
def adapters_export(adapter: str, target: Path, merged: bool) -> None:
    """Write an adapter to a new directory, as peft or, merged, transformers loads it."""
    from intract_lsp.finetune import done

    app = quiet_app((), None)
    click.echo(done(app, app.adapters.export(adapter, target.absolute(), merged=merged)))


@adapters.command("forget")
@click.argument("path", metavar="FILE")
@click.option("--dir", "directory", type=FOLDER, help="The folder that was trained on; default: the one around FILE.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--retrain", is_flag=True, help="Then fine-tune anew without it; the last line is a JSON object.")
def adapters_forget(path: str, directory: Path | None, yes: bool, retrain: bool) -> None:
    """Delete the adapters that were trained on a file or folder; those that serve are rolled back first.

    FILE is a path, with --dir one inside that folder. It need not exist any more.
    """
    from intract_lsp.cli.training import echo_result
    from intract_lsp.finetune import carry_out, find_trained

    app = quiet_app((), None)
    folder, known = find_trained(app, directory, path)
    found = app.adapters.saw(known, folder).result()
    if found and not yes:
        click.confirm(f"{', '.join(found)} will be deleted. Go on?", abort=True, err=True)
    try:
        sentence, changed = app.forget(folder, known)
    finally:
        app.stop()
    click.echo(sentence)
    if changed and retrain:
        app = quiet_app((), None, folder)
        echo_result(carry_out(app, app.run_without(folder, known)), as_json=False)


COMMANDS = (adapters,)
