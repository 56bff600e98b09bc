"""What goes wrong in Neovim: no server, a wrong one, one that crashes, settings and buffers that cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import VERSIONS, neovim_executable

if TYPE_CHECKING:
    from conftest import Neovim, StartNeovim

SERVER = Path(__file__).resolve().parent / "scripted_server.py"
PLUGIN = Path(__file__).resolve().parents[2] / "editors" / "nvim"
STARTS_MEASURED = 5
MOST_MILLISECONDS = 5.0


def scripted(directory: Path, **script: Any) -> list[str]:
    (directory / "script.json").write_text(json.dumps(script), encoding="utf-8")
    return [sys.executable, str(SERVER), str(directory)]


def edit(neovim: Neovim, path: Path) -> None:
    """Open a file to which no server may come."""
    neovim.api.command(f"edit {path}")


def wait_message(neovim: Neovim, text: str, seconds: float = 30) -> None:
    neovim.wait(lambda: text in neovim.messages or None, f"the message {text!r}", seconds)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_server_is_told_once(start_neovim: StartNeovim, source: Path, version: str) -> None:
    neovim = start_neovim(version=version, server=["/nowhere/intract-lsp", "serve"])
    edit(neovim, source)
    edit(neovim, source.with_name("other.py"))
    wait_message(neovim, "the program /nowhere/intract-lsp was not found: install it")
    assert neovim.messages.count("was not found") == 1
    assert neovim.attached == 0
    assert "/nowhere/intract-lsp was not found" in neovim.page("Intract why")
    neovim.api.command("checkhealth intract")
    report = "\n".join(neovim.lines)
    assert "ERROR" in report and "intract-install" in report


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_crashes_is_started_three_times_and_then_by_hand(
    start_neovim: StartNeovim, source: Path, tmp_path: Path, version: str
) -> None:
    neovim = start_neovim(version=version, server=scripted(tmp_path, crash=True))
    edit(neovim, source)
    wait_message(neovim, "intract: the server ended by itself 4 times and stays off: `:Intract log` shows why")

    def starts() -> int:
        received = (tmp_path / "received.jsonl").read_text(encoding="utf-8")
        return sum(json.loads(line)["method"] == "initialize" for line in received.splitlines())

    assert starts() == 4
    scripted(tmp_path)
    neovim.api.command("Intract restart")
    neovim.wait(lambda: neovim.attached == 1 or None, "the server to attach")
    assert starts() == 5


def test_an_old_server_is_told_of_once(start_neovim: StartNeovim, source: Path, tmp_path: Path) -> None:
    neovim = start_neovim(version="0.11", server=scripted(tmp_path, version="0.0.9"))
    neovim.open(source)
    wait_message(neovim, "intract-lsp 0.0.9 is too old for this plugin")
    neovim.keys(":Intract index<CR>")
    wait_message(neovim, "this server 0.0.9 has no intract.indexStatus; update intract-lsp.")


@pytest.mark.parametrize("version", ["0.10", "0.12"])
def test_a_setting_that_cannot_be_used_is_named_and_the_rest_holds(
    start_neovim: StartNeovim, source: Path, version: str
) -> None:
    settings: dict[str, Any] = {"completion": {"max_line_tokens": "many", "disabled_languages": ["rust"]}, "index": {}}
    neovim = start_neovim("--engine", "echo", version=version, **settings)
    neovim.open(source)
    wait_message(neovim, "max_line_tokens")
    assert "object" not in neovim.messages
    assert neovim.execute("intract.status")["disabledLanguages"] == ["rust"]
    neovim.keys("Gothird")
    neovim.wait_ghost("echo(third)")


def test_wrong_options_of_setup_are_named(start_neovim: StartNeovim, source: Path) -> None:
    neovim = start_neovim("--engine", "echo", version="0.11")
    neovim.keys(":lua require('intract').setup({ settings = 'fast', colour = 'red' })<CR>")
    wait_message(neovim, 'the option "settings" of setup() must be a table')
    wait_message(neovim, 'setup() knows no option "colour"')
    neovim.open(source)


@pytest.mark.parametrize("version", ["0.10", "0.12"])
def test_huge_buffers_are_left_alone(start_neovim: StartNeovim, source: Path, tmp_path: Path, version: str) -> None:
    huge = tmp_path / "work" / "huge.py"
    huge.write_text(("# " + "x" * 97 + "\n") * 45_000, encoding="utf-8")
    neovim = start_neovim("--engine", "echo", version=version)
    neovim.open(source)
    edit(neovim, huge)
    assert "This buffer is larger than 4 MiB" in neovim.page("Intract why")
    assert neovim.attached == 0
    neovim.keys("Gothird")
    neovim.wait(lambda: neovim.api.current.line == "third" or None, "the typed text")
    assert neovim.ghost() is None


@pytest.mark.parametrize("version", VERSIONS)
def test_the_plugin_costs_little_at_the_start_of_neovim(version: str, source: Path, tmp_path: Path) -> None:
    init = tmp_path / "init.lua"
    config = "{ cmd = { 'true' } }"  # a program that is there
    init.write_text(
        f"vim.opt.runtimepath:append('{PLUGIN}')\n"
        "vim.g.loaded_python3_provider = 0\n"
        f"if vim.lsp.config then vim.lsp.config('intract', {config}) vim.lsp.enable('intract')\n"
        f"else require('intract').setup({config}) end\n",
        encoding="utf-8",
    )
    costs = [_cost(version, init, source, tmp_path / f"start{number}.log") for number in range(STARTS_MEASURED)]
    cost = sorted(costs)[STARTS_MEASURED // 2]
    print(f"Neovim {version}: the plugin takes {cost:.2f} ms at the start")
    assert cost <= MOST_MILLISECONDS


def _cost(version: str, init: Path, source: Path, log: Path) -> float:
    """Return the milliseconds that Neovim, started with a file, spent in the plugin's own files."""
    editor = [neovim_executable(version), "--headless", "--clean", "-u", init, "--startuptime", log, source, "+qa!"]
    subprocess.run(list(map(str, editor)), check=True, capture_output=True, timeout=60)
    lines = log.read_text(encoding="utf-8").splitlines()
    # Clock, the time of a file with all that it loads, its own time; then what was done.
    ours = [line.split() for line in lines if "editors/nvim" in line or "require('intract" in line]
    assert any(words[-1].endswith("plugin/intract.lua") for words in ours), lines
    assert any("intract.server" in words[-1] for words in ours), lines
    return sum(float(words[2].rstrip(":")) for words in ours)
