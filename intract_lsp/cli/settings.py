"""Commands that show the settings and what they mean on this machine."""

from __future__ import annotations

import json
import sys

import click

from intract_lsp.cli.options import set_option


@click.command()
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


@click.group()
def config() -> None:
    """Show the settings."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@set_option
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


COMMANDS = (doctor, config)
