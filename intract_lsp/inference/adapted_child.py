"""Make the int8 copy of a model with an adapter merged in: in a process of its own, while the old one serves.

It takes about a minute and, for a while, the memory of the float weights. The child prints one JSON object a line:
``{"progress": sentence}``, then ``{"done": true}`` or ``{"error": sentence}``. It ends when its standard input closes.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

from intract_lsp.completion.generation import CancelToken
from intract_lsp.completion.prompt import resolve_format
from intract_lsp.errors import AdapterError, IntractError
from intract_lsp.inference.adapted import check_adapter, has_int8_copy, int8_copy, page_in
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, LoadOrder, ModelFiles, ReportProgress
from intract_lsp.inference.threads import physical_cores
from intract_lsp.models.process import run_lines
from intract_lsp.models.progress import PullCancelled

log = logging.getLogger(__name__)

NICENESS = 10
"""How far the child stands back behind what the user waits for."""

LOG_TAIL = 2000
"""Most characters of a failed child's error output that are logged."""


def make_int8_copy(files: ModelFiles, adapter: AdapterFiles, report: ReportProgress, token: CancelToken) -> None:
    """Make the int8 copy in this process, unless it is there. Raises ``ModelError`` or ``AdapterError``."""
    if has_int8_copy(files, adapter):
        return
    # They bring torch: only who makes a copy pays for it.
    from intract_lsp.inference.loading import load_network
    from intract_lsp.inference.model_engine import calibration_prompts
    from intract_lsp.inference.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(files.directory)
    fim, _ = resolve_format(files.fim_family, tokenizer)
    threads = physical_cores()
    order = LoadOrder(files.name, "cpu", "int8", threads, adapter=adapter)
    load_network(order, files, threads, partial(calibration_prompts, tokenizer, fim), report, token)
    if not has_int8_copy(files, adapter):
        raise AdapterError(
            f"The int8 copy of the adapter {adapter.id} cannot be kept: free space on the disk, and see the log."
        )


def int8_copy_in_child(files: ModelFiles, adapter: AdapterFiles, report: ReportProgress, token: CancelToken) -> None:
    """Do what ``make_int8_copy`` does in a child process, and have the copy in memory: then a swap takes no time.

    Blocks, and reports from the calling thread. Raises ``AdapterError``, also where the token is cancelled.
    """
    check_adapter(adapter, files)
    copy, _ = int8_copy(files, adapter)
    if copy is None:
        return
    if not has_int8_copy(files, adapter):
        _run_child(files, adapter, copy.parent, report, token)
    try:
        page_in(copy)
    except OSError as error:
        raise AdapterError(f"The int8 copy of the adapter {adapter.id} cannot be read ({error}): try again.") from error


def _run_child(
    files: ModelFiles, adapter: AdapterFiles, directory: Path, report: ReportProgress, token: CancelToken
) -> None:
    if token.cancelled:
        raise _cancelled(adapter)
    outcome: list[str] = []

    def on_line(line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            log.warning("the process that makes an int8 copy wrote a line that is no event")
            return
        if "progress" in event:
            report(str(event["progress"]), None)
        else:
            outcome.append(str(event.get("error", "")))

    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "intract_lsp.inference.adapted_child", json.dumps(_request(files, adapter))]
    with tempfile.TemporaryFile() as errors:
        try:
            status = run_lines(command, on_line, token, directory=directory, stderr=errors, ends_with_input=True)
        except PullCancelled as error:
            raise _cancelled(adapter) from error
        errors.seek(0)
        tail = errors.read().decode("utf-8", "replace")[-LOG_TAIL:]
    if not outcome:
        log.error("the process that makes an int8 copy ended with status %d: %s", status, tail)
        raise AdapterError(
            f"The process that prepares the adapter {adapter.id} ended unexpectedly (status {status}): "
            "close other programs if memory is short, and try again."
        )
    if outcome[-1]:
        raise AdapterError(outcome[-1])


def _cancelled(adapter: AdapterFiles) -> AdapterError:
    return AdapterError(f"Preparing the adapter {adapter.id} was cancelled.")


def _request(files: ModelFiles, adapter: AdapterFiles) -> dict[str, list[str]]:
    # The child runs in another directory.
    return {
        "files": [files.name, str(files.directory.absolute()), files.fim_family, str(Path(files.quantized or ""))],
        "adapter": [adapter.id, str(adapter.directory.absolute()), adapter.kind.value, adapter.base_name, adapter.base],
    }


def main() -> int:
    """Make one copy as the child: the request is the first argument; return the exit status."""
    request = json.loads(sys.argv[1])
    # Whatever a library prints must not look like an event.
    events, sys.stdout = sys.stdout, sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    threading.Thread(target=_end_with_input, name="intract-parent", daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)

    def send(event: dict[str, object]) -> None:
        print(json.dumps(event), file=events, flush=True)

    name, directory, family, copy = request["files"]
    id_, place, kind, base_name, base = request["adapter"]
    files = ModelFiles(name, Path(directory), family, Path(copy))
    adapter = AdapterFiles(id_, Path(place), AdapterKind(kind), base_name, base)
    try:
        make_int8_copy(files, adapter, lambda sentence, fraction: send({"progress": sentence}), CancelToken())
    except IntractError as error:
        send({"error": str(error)})
        return 1
    send({"done": True})
    return 0


def _end_with_input() -> None:
    # Nothing is lost: an unfinished copy is another file, which the next one removes.
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
