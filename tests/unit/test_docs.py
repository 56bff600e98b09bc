"""The README names what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from intract_lsp.app import build_app, load_settings
from intract_lsp.cli import cli
from intract_lsp.completion.request import RejectReason
from intract_lsp.paths import default_paths
from intract_lsp.server.convert import ACCEPTED_COMMAND
from intract_lsp.server.server import create_server

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
REASONS = [reason.value for reason in RejectReason]


def leaves(command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from (name if leaf == child.name else f"{name} {leaf}" for leaf in leaves(child))
    else:
        yield command.name or ""


@pytest.mark.parametrize("command", list(leaves(cli)))
def test_every_command_is_documented(command: str) -> None:
    group, _, leaf = command.rpartition(" ")
    rows = [line for line in README.splitlines() if line.startswith(f"| `intract-lsp {group or leaf}")]
    assert any(re.search(rf"\b{leaf}\b", row) for row in rows), f"the README's table of commands lacks {command}"


def test_every_editor_command_is_documented() -> None:
    settings, problems = load_settings(default_paths())
    server = create_server(build_app(settings, default_paths(), "echo"), problems)
    names = set(server.protocol.fm.commands) - {ACCEPTED_COMMAND}
    assert names
    assert [name for name in sorted(names) if f"`{name}`" not in README] == []


def test_the_reasons_that_the_readme_explains_exist() -> None:
    section = README.partition("## Nothing appears?")[2].partition("\n## ")[0]
    named = re.findall(r"\*\*([a-z-]+)\*\*", section)
    assert len(named) >= 5
    assert [name for name in named if name not in REASONS] == []
