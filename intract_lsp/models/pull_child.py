"""Pull a model in a process of its own, so that a conversion's memory and computing never touch the server.

The child prints one JSON object a line: ``{"progress": [sentence, fraction]}``, then ``{"done": {...}}`` or
``{"error": sentence}``. It ends when its standard input closes, so it does not outlive the server.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import ModelError
from intract_lsp.models.fetch import cached, pull
from intract_lsp.models.process import run_lines
from intract_lsp.models.progress import PullCancelled, ReportProgress
from intract_lsp.models.store import InstalledModel, is_path, user_path
from intract_lsp.paths import Paths

logger = logging.getLogger(__name__)

STOP_SECONDS = 3.0
"""How long a cancelled child may take before it ends itself: a running conversion cannot be interrupted."""
LOG_TAIL = 2000
"""Most characters of a failed child's error output that are logged."""


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
    outcome: list[InstalledModel | str] = []

    def on_line(line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            logger.warning("The process that fetches models wrote a line that is no event.")
            return
        if "progress" in event:
            report(*event["progress"])
        elif "done" in event:
            outcome.append(_model(event["done"]))
        else:
            outcome.append(str(event["error"]))

    paths.models.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "intract_lsp.models.pull_child", json.dumps(request)]
    with tempfile.TemporaryFile() as errors:
        status = run_lines(command, on_line, token, directory=paths.models, stderr=errors, ends_with_input=True)
        errors.seek(0)
        tail = errors.read().decode("utf-8", "replace")[-LOG_TAIL:]
    if not outcome:
        logger.error("The process that fetches models ended with status %d: %s", status, tail)
        raise ModelError(
            f"The process that fetches {name} ended unexpectedly (status {status}): "
            "see the log, or run `intract-lsp models pull` in a terminal."
        )
    result = outcome[-1]
    if isinstance(result, str):
        raise ModelError(result)
    for line in tail.splitlines():
        logger.info("While fetching %s: %s", name, line)
    return result


def _model(fields: dict[str, object]) -> InstalledModel:
    return InstalledModel(
        name=str(fields["name"]),
        directory=Path(str(fields["directory"])),
        fim_family=str(fields["fim_family"]),
        source=str(fields["source"]),
        sha256=str(fields["sha256"]),
        size_bytes=int(str(fields["size_bytes"])),
    )


def main() -> int:
    """Run one pull as the child: the request is the first argument; return the exit status."""
    request = json.loads(sys.argv[1])
    # Whatever a library prints must not look like an event.
    events, sys.stdout = sys.stdout, sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    token = CancelToken()
    ended = threading.Event()
    threading.Thread(target=_end_with_input, args=(token, ended), name="intract-parent", daemon=True).start()
    try:
        model = pull(
            request["name"],
            Paths(**{key: Path(value) for key, value in request["paths"].items()}),
            offline=request["offline"],
            fresh=request["fresh"],
            report=lambda sentence, fraction: _send(events, {"progress": [sentence, fraction]}),
            token=token,
        )
    except PullCancelled:
        return 1
    except ModelError as error:
        _send(events, {"error": str(error)})
        return 1
    finally:
        ended.set()
    _send(events, {"done": {**asdict(model), "directory": str(model.directory)}})
    return 0


def _end_with_input(token: CancelToken, ended: threading.Event) -> None:
    sys.stdin.read()
    token.cancel()
    if not ended.wait(STOP_SECONDS):
        os._exit(1)


def _send(events: TextIO, event: dict[str, object]) -> None:
    print(json.dumps(event), file=events, flush=True)


if __name__ == "__main__":
    sys.exit(main())
