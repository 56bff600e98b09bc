"""The real server, whose runs do not leave out code because a random model finds all of it strange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from intract_lsp.app import App
from intract_lsp.cli import main
from intract_lsp.training.spec import RunSpec

as_it_is = App.new_run


def new_run(app: App, folder: Path, changes: Mapping[str, Any]) -> RunSpec:
    """Return a run that learns from everything."""
    spec = as_it_is(app, folder, changes)
    return replace(spec, data=replace(spec.data, largest_base_loss=100.0))


App.new_run = new_run  # type: ignore[method-assign]
main()
