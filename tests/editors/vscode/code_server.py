"""VS Code as a server: a fresh profile with our extension in it, its settings, its logs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from browser import ENDS_BY_ITSELF, HERE, INSTALLED, NODE, end_group

from intract_lsp.paths import default_paths

CODE_SERVER = INSTALLED / "node_modules" / "code-server" / "out" / "node" / "entry.js"
SERVER = Path(sys.executable).parent / "intract-lsp"

QUIET: Mapping[str, Any] = {
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.suggestOnTriggerCharacters": False,
    "editor.wordBasedSuggestions": "off",
    "editor.autoClosingBrackets": "never",
    "editor.autoClosingQuotes": "never",
    "editor.autoIndent": "none",
    "editor.occurrencesHighlight": "off",
    "editor.minimap.enabled": False,
    "chat.disableAIFeatures": True,
    "workbench.colorTheme": "Dark Modern",
    "workbench.startupEditor": "none",
    "workbench.editor.enablePreview": False,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.tips.enabled": False,
    "workbench.enableExperiments": False,
    "window.menuBarVisibility": "compact",
    "telemetry.telemetryLevel": "off",
    "git.enabled": False,
    "extensions.autoUpdate": False,
    "extensions.autoCheckUpdates": False,
    "security.workspace.trust.enabled": False,
    "security.workspace.trust.startupPrompt": "never",
    "security.workspace.trust.banner": "never",
    "files.autoSave": "off",
    "files.hotExit": "off",
}
"""What in VS Code would be in the way of a test or of a picture, switched off."""

BRIDGE_MANIFEST = {
    "name": "bridge",
    "publisher": "intract-tests",
    "version": "0.0.1",
    "engines": {"vscode": "^1.91.0"},
    "main": "./bridge.cjs",
    "activationEvents": ["*"],
    "extensionKind": ["workspace"],
    "capabilities": {"untrustedWorkspaces": {"supported": True}},
}


class CodeServer:
    """VS Code's server process; ``home`` is what the programs that it starts take for the user's."""

    def __init__(self, folder: Path, extension: Path) -> None:
        self.home = folder / "home"
        self.bridge_file = folder / "bridge-port"
        self._folder = folder
        self._user = folder / "user"
        self._port = _free_port()
        self._base = [str(NODE), str(CODE_SERVER), "--config", str(folder / "config.yaml")]
        self._base += ["--user-data-dir", str(self._user), "--extensions-dir", str(folder / "extensions")]
        self._environment = self._environ()
        self._share_copies()
        self.write_settings({})
        self._install(_bridge(folder))
        self._install(extension)
        self._process = self._start()

    def url(self, query: str) -> str:
        """Return the address of a window."""
        return f"http://127.0.0.1:{self._port}/?{query}"

    def answers(self) -> bool:
        """Return whether windows can be opened."""
        try:
            with urllib.request.urlopen(self.url("").replace("?", "healthz"), timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def write_settings(self, ours: Mapping[str, Any], **others: Any) -> None:
        """Make these the settings of our section, and change others; nothing else of the user is kept."""
        # The browser's window is a remote one: what belongs to a machine is read from that machine's own file.
        user = {**QUIET, **others}
        for part, values in (("User", user), ("Machine", ours)):
            path = self._user / part / "settings.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(values, indent=1)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")

    def server_log(self) -> str:
        """Return the language server's log."""
        path = self.home / "intract" / "logs" / "server.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def extension_log(self) -> str:
        """Return what the extension wrote into its output channel, in all windows."""
        files = sorted(self._user.glob("logs/**/*Intract*.log"), key=lambda path: path.stat().st_mtime)
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)

    def processes(self) -> list[psutil.Process]:
        """Return what VS Code started, and what that started."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def quit(self) -> None:
        """End VS Code and all that it started."""
        end_group(self._process)

    def _environ(self) -> dict[str, str]:
        """A machine on which intract-lsp is not installed, though what it depends on would be quick to get."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VSCODE_", "PYTEST_"))}
        directories = os.environ["PATH"].split(os.pathsep)
        without = [one for one in directories if not (Path(one) / "intract-lsp").exists()]
        return kept | {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "INTRACT_HOME": str(self.home / "intract"),
            "INTRACT_TEST_BRIDGE": str(self.bridge_file),
            "EXTENSIONS_GALLERY": "{}",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(NODE.parent), *without]),
            # The extension's own copy of the server is installed by the real pip from the real wheel; what the wheel
            # depends on, gigabytes, is that of the environment that the tests run in.
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PYTHONPATH": sysconfig.get_path("purelib"),
        }

    def _share_copies(self) -> None:
        """Have the int8 copies of models, which each machine makes once, found in the fresh home as well."""
        shared = default_paths().cache / "int8"
        shared.mkdir(parents=True, exist_ok=True)
        (self.home / "intract" / "cache").mkdir(parents=True)
        (self.home / "intract" / "cache" / "int8").symlink_to(shared)

    def _install(self, vsix: Path) -> None:
        done = subprocess.run(
            [*self._base, "--install-extension", str(vsix)],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        assert "successfully installed" in said, said

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["--auth", "none", "--bind-addr", f"127.0.0.1:{self._port}", "--disable-telemetry"]
        options += ["--disable-update-check", "--disable-getting-started-override", "--ignore-last-opened"]
        with (self._folder / "code-server.log").open("wb") as log:
            return subprocess.Popen(
                [*ENDS_BY_ITSELF, *self._base, *options],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _bridge(folder: Path) -> Path:
    path = folder / "bridge.vsix"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("extension/package.json", json.dumps(BRIDGE_MANIFEST))
        archive.write(HERE / "bridge.cjs", "extension/bridge.cjs")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
