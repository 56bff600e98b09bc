"""Commands for the index of a folder."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import click

from intract_lsp.cli.options import FOLDER, reporter, set_option, settings_of


@click.command("index")
@click.argument("directory", type=FOLDER, default=".", metavar="[DIR]")
@click.option("--anew", is_flag=True, help="Drop what is indexed and read every file again.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@set_option
def index_directory(directory: Path, anew: bool, as_json: bool, options: tuple[str, ...]) -> None:
    """Bring the index of a folder (default: this one) up to date and say what is in it.

    The language server does the same for each folder that is open in the editor.
    """
    from intract_lsp.oneshot import index_folder

    settings, paths = settings_of(options, directory)
    status, seconds = index_folder(settings.current, paths, directory.absolute(), anew, reporter())
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


@click.command("search")
@click.argument("query")
@click.option("--dir", "directory", type=FOLDER, default=".", metavar="DIR", help="The folder; default: this one.")
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="Most results.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@set_option
def search_index(query: str, directory: Path, limit: int, as_json: bool, options: tuple[str, ...]) -> None:
    """Search a folder's index, after bringing it up to date, and print the pieces that fit best.

    What is found is what a completion may be shown of the folder.
    """
    from intract_lsp.oneshot import search_folder

    settings, paths = settings_of(options, directory)
    root = directory.absolute()
    found, status, update_seconds, search_seconds = search_folder(
        settings.current, paths, root, query, limit, reporter()
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


COMMANDS = (index_directory, search_index)
