from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from intract_lsp.paths import HOME_VARIABLE

# Homes of tests are empty: the compiled kernels are kept beside the repository's other caches, for servers too.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "kernels"))

# How long an example takes says more of the machine than of the code; where time matters a test measures it.
settings.register_profile("intract", deadline=None)
settings.load_profile("intract")

OWN_HOME = ("model", "editors")
"""Directories whose tests need the user's models, or give their programs a home of their own."""


@pytest.fixture(autouse=True)
def isolated_home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's settings, models or logs."""
    if Path(request.path).relative_to(Path(__file__).parent).parts[0] not in OWN_HOME:
        monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def torch_globals() -> Iterator[None]:
    """Loading a model sets torch's number of threads for the whole process."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if "torch" in sys.modules and before is not None:
        sys.modules["torch"].set_num_threads(before)
