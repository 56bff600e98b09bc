"""The real default model, in the user's own cache; ``scripts/test`` has fetched it."""

from __future__ import annotations

import pytest

from intract_lsp.models import fetch
from intract_lsp.models.store import InstalledModel
from intract_lsp.paths import default_paths


@pytest.fixture(scope="session")
def real_model() -> InstalledModel:
    model = fetch.cached("qwen2.5-coder-0.5b", default_paths())
    if model is None:
        pytest.fail("The default model is not on this machine: run `intract-lsp models pull qwen2.5-coder-0.5b` first.")
    return model
