"""Suggestions of the real 0.5B model in Neovim; its files come from `intract-lsp models pull`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from intract_lsp.models import fetch
from intract_lsp.paths import default_paths

if TYPE_CHECKING:
    from conftest import StartNeovim

MODEL = "qwen2.5-coder-0.5b"
ARTEFACTS = Path(__file__).resolve().parents[2] / ".cache" / "artefacts" / "neovim"
SOURCE = Path(__file__).resolve().parents[2] / "intract_lsp" / "paths.py"
COMPLETE_LINE = "        root = Path(home).expanduser().absolute()"
TYPED = "root ="
GHOST_SECONDS = 60
LOAD_SECONDS = 280
"""The first load on a machine quantises the model."""


@pytest.fixture(scope="module")
def model_path() -> str:
    """Where the model lies in the user's own cache, which Neovim's own home hides."""
    model = fetch.cached(MODEL, default_paths())
    if model is None:
        pytest.fail(f"This test needs the model: run `intract-lsp models pull {MODEL}`.", pytrace=False)
    return str(model.directory)


@pytest.fixture
def shared_copies(tmp_path: Path) -> None:
    """Let the server use what was computed for this machine before: the int8 copy and the compiled kernels."""
    cache = tmp_path / "home" / "intract" / "cache"
    cache.mkdir(parents=True)
    for name in ("int8", "kernels"):
        shared = default_paths().cache / name
        shared.mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(shared)


def test_ghost_text_of_the_real_model_is_accepted_into_the_file(
    start_neovim: StartNeovim, model_path: str, shared_copies: None, tmp_path: Path
) -> None:
    original = SOURCE.read_text(encoding="utf-8").split("\n")
    at = original.index(COMPLETE_LINE)
    source = tmp_path / "work" / SOURCE.name
    source.parent.mkdir()
    source.write_text("\n".join(original[:at] + original[at + 1 :]), encoding="utf-8")

    # What counts here is the way, not the speed, and other tests may keep the processor busy.
    neovim = start_neovim(model={"name": model_path}, completion={"deadline_ms": GHOST_SECONDS * 1000})
    neovim.open(source)
    neovim.api.command(f"cd {source.parent}")

    def engine_state() -> dict[str, Any] | None:
        engine = neovim.execute("intract.status")["engine"]
        assert engine["state"] != "failed", engine["message"]
        return engine if engine["state"] == "ready" else None

    neovim.wait(engine_state, "the model to load", seconds=LOAD_SECONDS)
    neovim.keys(f":{at}<CR>o{TYPED}")
    row, _, ghost = neovim.wait_ghost(seconds=GHOST_SECONDS)
    assert row == at
    neovim.picture(ARTEFACTS / f"completion-{neovim.version}.svg")
    neovim.keys("<Tab>")
    completed = f"        {TYPED}{ghost}".split("\n")
    neovim.wait_lines([*original[:at], *completed, *original[at + 1 : -1]])
    accepted = neovim.wait(lambda: neovim.execute("intract.status")["accepted"] or None, "the acceptance to arrive")
    assert accepted == 1
    neovim.wait_written(source, "\n".join(neovim.lines).encode() + b"\n")
