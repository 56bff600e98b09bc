"""Pull a model in a process of its own, so that a conversion's memory and computing never touch the server."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models.fetch import cached, pull
from intract_lsp.models.process import run_events, serve_parent
from intract_lsp.models.progress import ReportProgress
from intract_lsp.models.store import InstalledModel, is_path, user_path
from intract_lsp.paths import Paths

logger = logging.getLogger(__name__)


def pull_in_child(
    name: str,
    paths: Paths,
    *,
    offline: bool,
    fresh: bool,
    report: ReportProgress,
    token: CancelToken,
) -> InstalledModel:
    """Do what ``fetch.pull`` does, in a child process where there is anything to fetch or convert.

    Blocks until it is done and reports from the calling thread. Raises as ``fetch.pull`` does.
    """
    if not fresh:
        found = cached(name, paths)
        if found is not None:
            return found
    request = {
        # The child runs in a directory of ours, where a relative path would mean something else.
        "name": str(user_path(name)) if is_path(name) else name,
        "paths": {key: str(value) for key, value in asdict(paths).items()},
        "offline": offline,
        "fresh": fresh,
    }
    paths.models.mkdir(parents=True, exist_ok=True)
    ended = run_events("intract_lsp.models.pull_child", request, report, token, directory=paths.models)
    if ended.error:
        raise ModelError(ended.error)
    if ended.done is None:
        raise ModelError(
            f"The process that fetches {name} ended unexpectedly (status {ended.status}): "
            "see the log, or run `intract-lsp models pull` in a terminal."
        )
    for line in ended.errors.splitlines():
        logger.info("While fetching %s: %s", name, line)
    return _model(ended.done)


def _model(fields: Mapping[str, Any]) -> InstalledModel:
    return InstalledModel(
        name=str(fields["name"]),
        directory=Path(str(fields["directory"])),
        fim_family=str(fields["fim_family"]),
        source=str(fields["source"]),
        sha256=str(fields["sha256"]),
        size_bytes=int(str(fields["size_bytes"])),
    )


def _pull(request: dict[str, Any], report: ReportProgress, token: CancelToken) -> Mapping[str, Any]:
    """Do one pull as the child."""
    paths = Paths(**{key: Path(value) for key, value in request["paths"].items()})
    model = pull(request["name"], paths, offline=request["offline"], fresh=request["fresh"], report=report, token=token)
    return {**asdict(model), "directory": str(model.directory)}


if __name__ == "__main__":
    sys.exit(serve_parent(_pull))
