"""Libraries do not get to fetch compiled code from the Hugging Face hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FETCHING = "raise SystemExit('fetched')"


def python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def with_kernels(tmp_path: Path) -> Path:
    """A folder on the path where the package is installed that fetches."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(FETCHING)
    assert python("import kernels", tmp_path).stderr.strip() == "fetched"
    return tmp_path


@pytest.mark.parametrize("module", ["intract_lsp.training.child", "intract_lsp.models.convert", "intract_lsp.cli"])
def test_no_process_finds_the_package_that_fetches(with_kernels: Path, module: str) -> None:
    code = f"import {module}, importlib.util; print(importlib.util.find_spec('kernels'))"
    ended = python(code, with_kernels)
    assert (ended.returncode, ended.stdout.strip()) == (0, "None"), ended.stderr


def test_the_libraries_do_without_it_in_silence(with_kernels: Path) -> None:
    ended = python("import intract_lsp, bitsandbytes, peft, transformers.integrations.hub_kernels", with_kernels)
    assert ended.returncode == 0, ended.stderr
    assert "kernels" not in ended.stderr
