"""A real VS Code in a real browser: the built extension in a fresh profile, one server and one window for all tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import HERE, INSTALLED, NODE, Browser
from code_server import CodeServer
from window import Window

ENDING = pytest.StashKey[ExitStack]()
PACKAGE = HERE.parents[2] / "scripts" / "package-vscode"


@pytest.fixture(scope="session")
def installed_node() -> Path:
    """Node 24, which runs VS Code and our TypeScript."""
    if not NODE.exists() or not (INSTALLED / "stamp").exists():
        pytest.fail("The VS Code tests need what scripts/install-vscode installs: run it.", pytrace=False)
    return NODE


@pytest.fixture(scope="session")
def vsix(installed_node: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as users get it."""
    target = tmp_path_factory.mktemp("vsix") / "intract.vsix"
    done = subprocess.run([PACKAGE, target], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="session")
def window(request: pytest.FixtureRequest, vsix: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    """A window of a fresh profile with the extension installed; no folder is open yet."""
    folder = tmp_path_factory.mktemp("vscode")
    (folder / "work").mkdir()
    with ExitStack() as ending:
        request.session.stash[ENDING] = ending
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        code = CodeServer(folder, vsix)
        ending.callback(code.quit)
        browser = Browser()
        ending.callback(browser.quit)
        yield Window(code, browser, folder / "work")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End VS Code and the browser before tests of other directories begin: a session ends much later."""
    if ENDING in item.session.stash and (nextitem is None or HERE not in nextitem.path.parents):
        item.session.stash[ENDING].close()


@pytest.fixture
def code(window: Window) -> Window:
    """The window, with the settings as at first and nothing open."""
    window.configure()
    window.ensure_work()
    if "paused" in window.status():
        # Left so by a test that failed.
        window.run("intract.toggleSuggestions")
    window.wait_ready()
    return window
