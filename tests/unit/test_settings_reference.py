"""The reference of the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from intract_lsp.cli import cli
from intract_lsp.settings import SettingsStack, layer_from_options, setting_names
from intract_lsp.settings_reference import reference

FILE = Path(__file__).parents[2] / "editors" / "SETTINGS.md"
ROWS = [line for line in reference().splitlines() if line.startswith("| `")]
CELLS = [re.split(r"(?<!\\) \| ", row.removeprefix("| ").removesuffix(" |")) for row in ROWS]


def test_the_file_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(cli, ["config", "reference"]).stdout
    assert FILE.read_text(encoding="utf-8") == printed, "run: intract-lsp config reference > editors/SETTINGS.md"


def test_it_has_a_row_for_every_setting() -> None:
    assert [cells[0].strip("`") for cells in CELLS] == setting_names()
    assert {len(cells) for cells in CELLS} == {4}
    assert all(cells[3].endswith(".") for cells in CELLS)


def test_the_defaults_are_values_that_the_settings_take() -> None:
    options = [f"{cells[0].strip('`')}={cells[2].strip('`')}" for cells in CELLS]
    problems: list[str] = []
    stack = SettingsStack()
    before = stack.current
    problems += stack.put("command line", "command line", layer_from_options(options, problems))
    assert (problems, stack.current) == ([], before)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("completion.popup", '`"off"`, `"auto"`, `"on"`'),
        ("completion.enabled", "`true`, `false`"),
        ("model.name", "text, not empty"),
        ("model.threads", "whole number, 0 to 256"),
        ("training.learning_rate", "number, 0 to 1"),
        ("training.bits", "`4`, `8`"),
        ("index.disabled_folders", "list of texts"),
    ],
)
def test_it_says_which_values_there_are(name: str, values: str) -> None:
    (found,) = (cells[1] for cells in CELLS if cells[0] == f"`{name}`")
    assert found == values


def test_the_examples_hold() -> None:
    text = reference()
    options = re.findall(r"--set '?([a-z_]+\.[a-z_]+=[^'` ]+)", text)
    problems: list[str] = []
    stack = SettingsStack()
    problems += stack.put("command line", "command line", layer_from_options(options, problems))
    assert not problems
    assert stack.current.completion.popup == "auto"
    assert stack.current.completion.disabled_languages == ("markdown",)
