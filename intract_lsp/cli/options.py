"""Options that several commands have, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from intract_lsp.app import App
    from intract_lsp.paths import Paths
    from intract_lsp.settings import SettingsStack

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

set_option = click.option(
    "--set",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting for this run, such as model.threads=2; repeatable.",
)
model_option = click.option("--model", metavar="NAME", help="A model's name or path instead of the settings' model.")
adapter_option = click.option("--adapter", metavar="ID", help="An adapter's id from `intract-lsp adapters list`.")


def quiet_app(options: tuple[str, ...], model: str | None, folder: Path | None = None) -> App:
    """Build an app for one command, on a folder if given; wrong settings end the command."""
    from intract_lsp.app import build_app

    if model is not None:
        options = (*options, f"model.name={json.dumps(model)}")
    settings, paths = settings_of(options, folder)
    return build_app(settings, paths, watch=False)


def settings_of(options: tuple[str, ...], folder: Path | None = None) -> tuple[SettingsStack, Paths]:
    """Return the settings for one command, on a folder if given; wrong ones end the command."""
    from intract_lsp.app import load_settings
    from intract_lsp.errors import SettingsError
    from intract_lsp.paths import default_paths

    paths = default_paths()
    settings, problems = load_settings(paths, options, folder)
    if problems:
        raise SettingsError(problems)
    return settings, paths


def reporter() -> Any:
    """Return what shows progress on a terminal."""
    from intract_lsp.console import Reporter

    return Reporter()
