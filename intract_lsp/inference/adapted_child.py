"""Make the int8 copy of a model with an adapter merged in: in a process of its own, while the old one serves.

It takes about a minute and, for a while, the memory of the float weights.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from intract_lsp.completion.generation import CancelToken
from intract_lsp.completion.prompt import resolve_format
from intract_lsp.errors import AdapterError
from intract_lsp.inference.adapted import check_adapter, has_int8_copy, int8_copy, page_in
from intract_lsp.inference.engine import AdapterFiles, AdapterKind, LoadOrder, ModelFiles, ReportProgress
from intract_lsp.inference.threads import physical_cores
from intract_lsp.models.process import run_events, serve_parent
from intract_lsp.models.progress import PullCancelled

NICENESS = 10
"""How far the child stands back behind what the user waits for."""


def make_int8_copy(files: ModelFiles, adapter: AdapterFiles, report: ReportProgress, token: CancelToken) -> None:
    """Make the int8 copy in this process, unless it is there. Raises ``ModelError`` or ``AdapterError``."""
    if has_int8_copy(files, adapter):
        return
    # They bring torch: only who makes a copy pays for it.
    from intract_lsp.inference.loaded_model import calibration_prompts
    from intract_lsp.inference.loading import load_network
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
    directory.mkdir(parents=True, exist_ok=True)
    request = _request(files, adapter)
    try:
        ended = run_events("intract_lsp.inference.adapted_child", request, report, token, directory=directory)
    except PullCancelled as error:
        raise _cancelled(adapter) from error
    if ended.error:
        raise AdapterError(ended.error)
    if ended.done is None:
        raise AdapterError(
            f"The process that prepares the adapter {adapter.id} ended unexpectedly (status {ended.status}): "
            "close other programs if memory is short, and try again."
        )


def _cancelled(adapter: AdapterFiles) -> AdapterError:
    return AdapterError(f"Preparing the adapter {adapter.id} was cancelled.")


def _request(files: ModelFiles, adapter: AdapterFiles) -> dict[str, list[str]]:
    # The child runs in another directory.
    return {
        "files": [files.name, str(files.directory.absolute()), files.fim_family, str(Path(files.quantized or ""))],
        "adapter": [adapter.id, str(adapter.directory.absolute()), adapter.kind.value, adapter.base_name, adapter.base],
    }


def _make(request: dict[str, Any], report: ReportProgress, token: CancelToken) -> Mapping[str, Any]:
    """Make one copy as the child."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    name, directory, family, copy = request["files"]
    id_, place, kind, base_name, base = request["adapter"]
    files = ModelFiles(name, Path(directory), family, Path(copy))
    adapter = AdapterFiles(id_, Path(place), AdapterKind(kind), base_name, base)
    make_int8_copy(files, adapter, report, token)
    return {}


if __name__ == "__main__":
    sys.exit(serve_parent(_make))
