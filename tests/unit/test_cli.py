from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from intract_lsp import __version__
from intract_lsp.cli import cli

HELP_SECONDS = 0.4


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


TREE = dict(commands())


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does; settings and cache are those of the test."""
    command = [sys.executable, "-m", "intract_lsp", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that a failing command says."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.endswith((".", "?", ")", "'"))
    return sentence


def test_the_tree() -> None:
    assert {" ".join(path) for path in TREE} >= {
        *("", "serve", "complete", "models", "models list", "models pull", "models path", "models remove"),
        *("eval", "doctor", "config", "config show", "config schema"),
    }


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_everything_has_help(path: tuple[str, ...]) -> None:
    command = TREE[path]
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    assert command.help is not None
    assert command.help.strip().split("\n")[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.name}"
            assert parameter.help.endswith(".")
            assert parameter.opts[0] in result.output


def test_the_version() -> None:
    assert __version__ in invoke("--version").output


def test_help_is_instant_and_loads_no_torch() -> None:
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        done = program("--help")
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0
    assert min(seconds) < HELP_SECONDS
    code = "import sys; sys.argv = ['x', '--help']\ntry:\n import intract_lsp.__main__\n intract_lsp.__main__.main()\n"
    code += "except SystemExit: pass\nassert not {'torch', 'transformers', 'pygls'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["complete", "nowhere.py:1:1"], "nowhere.py cannot be read: No such file or directory."),
        (["complete", "nowhere.py"], "'nowhere.py' is no FILE:LINE:COL, such as src/app.py:12:9."),
        (["complete", "x.py:1:1", "--set", "model.thread=2"], "did you mean model.threads?"),
        (["complete", "x.py:1:1", "--set", "nonsense"], "'nonsense' is no setting; write section.name=value"),
        (["models", "path", "qwen2.5-coder-0.5b"], "fetch it with `intract-lsp models pull qwen2.5-coder-0.5b`."),
        (["models", "path", "qwen2.5-codr-0.5b"], "qwen2.5-coder-0.5b"),
        (["models", "pull", "/no/such/model"], "/no/such/model"),
        (["serve", "--tcp", "nowhere"], "'nowhere' is no HOST:PORT, such as 127.0.0.1:7777."),
        (["serve", "--tcp", "localhost:99999"], "'localhost:99999' is no HOST:PORT"),
        (["eval", "nowhere.jsonl"], "'nowhere.jsonl' does not exist"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], says: str) -> None:
    assert says in only_error(program(*arguments))


def test_a_place_outside_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("ab\n")
    assert "there is no line 9." in only_error(program("complete", f"{tmp_path}/a.py:9:1"))
    assert "COL is 1 to 3, not 5." in only_error(program("complete", f"{tmp_path}/a.py:1:5"))


def test_two_wrong_settings_are_both_named(tmp_path: Path) -> None:
    sentence = only_error(program("complete", "x.py:1:1", "--set", "model.threads=-1", "--set", "log.level=loud"))
    assert "model.threads" in sentence
    assert "log.level" in sentence


def test_the_schema_is_json() -> None:
    result = invoke("config", "schema")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["properties"]) == {"model", "completion", "log"}


def test_settings_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "home" / "config" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[model]\nthreads = 3\ndevice = "tpu"\n')
    result = invoke("config", "show", "--set", "completion.enabled=false")
    assert result.exit_code == 0
    assert f"# {file}" in result.stdout
    assert "\nthreads = 3\n" in result.stdout
    assert "\nenabled = false\n" in result.stdout
    assert "model.device cannot be 'tpu'" in result.stderr
    assert json.loads(invoke("config", "show", "--json").stdout)["model"]["threads"] == 3


def test_models_are_listed() -> None:
    result = invoke("models", "list", "--json")
    assert result.exit_code == 0
    assert any("qwen2.5-coder-0.5b" in json.dumps(model) for model in json.loads(result.stdout))
    assert "qwen2.5-coder-0.5b" in invoke("models", "list").stdout
