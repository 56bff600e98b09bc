"""Commands for the models on this machine."""

from __future__ import annotations

import json

import click

from intract_lsp.cli.options import reporter


@click.group()
def models() -> None:
    """List, fetch, find and remove models."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def models_list(as_json: bool) -> None:
    """List the models of the catalogue and those on this machine."""
    from rich.console import Console

    from intract_lsp.models.listing import model_table, model_values
    from intract_lsp.paths import default_paths

    paths = default_paths()
    if as_json:
        click.echo(json.dumps(model_values(paths)))
    else:
        Console().print(model_table(paths))


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

    with reporter() as report:
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


COMMANDS = (models,)
