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
        *("config", "config show", "config schema", "config reference"),
        *("eval", "index", "search", "doctor", "finetune", "adapters"),
        *(f"adapters {name}" for name in ("list", "show", "promote", "rollback", "remove", "export", "forget")),
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
        (["complete", f"{__file__}:1:1", "--set", "model.thread=2"], "did you mean model.threads?"),
        (["complete", f"{__file__}:1:1", "--set", "nonsense"], "'nonsense' is no setting; write section.name=value"),
        (["models", "path", "qwen2.5-coder-0.5b"], "fetch it with `intract-lsp models pull qwen2.5-coder-0.5b`."),
        (["models", "path", "qwen2.5-codr-0.5b"], "qwen2.5-coder-0.5b"),
        (["models", "pull", "/no/such/model"], "/no/such/model"),
        (["serve", "--tcp", "nowhere"], "'nowhere' is no HOST:PORT, such as 127.0.0.1:7777."),
        (["serve", "--tcp", "localhost:99999"], "'localhost:99999' is no HOST:PORT"),
        (["eval", "nowhere.jsonl"], "'nowhere.jsonl' does not exist"),
        (["index", "/no/such/folder"], "'/no/such/folder' does not exist"),
        (["search", "word", "--dir", "/no/such/folder"], "'/no/such/folder' does not exist"),
        (["search", "word", "--limit", "0"], "0 is not in the range 1<=x<=100"),
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
    sentence = only_error(
        program("complete", f"{__file__}:1:1", "--set", "model.threads=-1", "--set", "log.level=loud")
    )
    assert "model.threads" in sentence
    assert "log.level" in sentence


def test_the_schema_is_json() -> None:
    result = invoke("config", "schema")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["properties"]) == {"model", "completion", "index", "training", "log"}


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "wörk"
    folder.mkdir()
    (folder / "billing.py").write_text("class Invoice:\n    def settle(self, amount):\n        return amount\n")
    (folder / "orders.py").write_text("import billing\n\n\ndef place_order():\n    return billing.Invoice()\n")
    (folder / ".env").write_text("PASSWORD=hunter2hunter2\n")
    return folder


def test_a_folder_is_indexed_and_searched(folder: Path) -> None:
    first = program("index", str(folder), "--json")
    assert first.returncode == 0, first.stderr
    values = json.loads(first.stdout)
    assert (values["root"], values["files"], values["refused"]) == (str(folder), 2, {"secret-name": 1})
    assert values["chunks"] >= 2
    assert values["symbols"] >= 2
    assert values["disk_bytes"] > 0
    again = program("index", str(folder))
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"2 files, {values['chunks']} chunks, ")
    assert "left out: 1 secret-name" in again.stdout
    (folder / "fresh.py").write_text("def added_since():\n    pass\n")
    found = program("search", "added since", "--dir", str(folder), "--json")
    assert found.returncode == 0, found.stderr
    (result,) = json.loads(found.stdout)["results"]
    assert (result["path"], result["start_line"], result["end_line"]) == ("fresh.py", 1, 2)
    assert (result["symbol"], result["text"].split("(")[0]) == ("added_since", "def added_since")


def test_results_are_shown_with_their_places(folder: Path) -> None:
    done = program("search", "settle", "--dir", str(folder), "--limit", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("billing.py:1-3  Invoice")
    assert "    class Invoice:\n        def settle(self, amount):\n" in done.stdout
    assert "1 of " in done.stderr
    nothing = program("search", "hunter2hunter2", "--dir", str(folder))
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "0 of " in nothing.stderr


def test_a_folder_is_indexed_anew(folder: Path) -> None:
    assert invoke("index", str(folder)).exit_code == 0
    values = json.loads(invoke("index", str(folder), "--anew", "--json").stdout)
    assert values["files"] == 2
    capped = json.loads(invoke("index", str(folder), "--json", "--set", "index.max_files=1").stdout)
    assert capped["files"] == 1
    assert "index.max_files" in capped["message"]


def test_an_index_that_cannot_be_written_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "cache").write_text("in the way")
    assert "index directory" in only_error(program("index", str(folder)))
