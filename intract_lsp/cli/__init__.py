"""The command line. Each command imports what it needs when it runs, so that ``--help`` stays instant."""

from __future__ import annotations

import sys

import click

from intract_lsp import __version__
from intract_lsp.cli import adapters, completions, index, models, settings, training


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="intract-lsp")
def cli() -> None:
    """Inline code completions from a model on your own machine, for every editor that speaks LSP."""


for group in (completions, models, training, adapters, index, settings):
    for command in group.COMMANDS:
        cli.add_command(command)


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
