"""The extension without an editor: its types, its own tests, and its manifest against what the server says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXTENSION = ROOT / "editors" / "vscode"


def run(node: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [str(part) for part in arguments],
        cwd=EXTENSION,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_types(installed_node: Path) -> None:
    done = run(installed_node, "node_modules/.bin/tsc", "--noEmit")
    assert done.returncode == 0, done.stdout


def test_its_own_tests(installed_node: Path) -> None:
    files = sorted((EXTENSION / "test").glob("*.test.ts"))
    done = run(installed_node, installed_node, "--test", *files)
    assert done.returncode == 0, done.stdout
    assert f"tests {done.stdout.count('✔ ')}" in done.stdout


def test_settings_and_commands_are_those_of_the_schema_and_the_table(installed_node: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    command = [sys.executable, "-m", "intract_lsp", "config", "schema"]
    schema.write_bytes(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    done = run(installed_node, installed_node, "scripts/generate.mjs", schema, "--check")
    assert done.returncode == 0, done.stderr

    changed = json.loads(schema.read_text(encoding="utf-8"))
    changed["$defs"]["CompletionSettings"]["properties"]["enabled"]["default"] = False
    schema.write_text(json.dumps(changed), encoding="utf-8")
    assert run(installed_node, installed_node, "scripts/generate.mjs", schema, "--check").returncode == 1


@pytest.fixture
def announced(tmp_path: Path) -> list[str]:
    """The commands that the server announces."""
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}}})
    done = subprocess.run(
        [sys.executable, "-m", "intract_lsp", "serve", "--engine", "echo"],
        input=f"Content-Length: {len(message)}\r\n\r\n{message}".encode(),
        env={**os.environ, "INTRACT_HOME": str(tmp_path / "home")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    body = json.loads(done.stdout.partition(b"\r\n\r\n")[2].partition(b"Content-Length")[0])
    commands: list[str] = body["result"]["capabilities"]["executeCommandProvider"]["commands"]
    return commands


def test_every_command_of_the_server_is_reachable(installed_node: Path, announced: list[str]) -> None:
    assert "intract.why" in announced
    script = f"""
        import {{ COMMANDS, unreachable }} from '{EXTENSION}/src/commands/table.ts';
        const known = COMMANDS.map(({{ server }}) => server).filter(Boolean);
        const announced = {json.dumps(announced)};
        console.log(JSON.stringify([unreachable(announced), known.filter((name) => !announced.includes(name))]));
    """
    done = run(installed_node, installed_node, "--input-type=module", "-e", script)
    assert json.loads(done.stdout) == [[], []], done.stderr
