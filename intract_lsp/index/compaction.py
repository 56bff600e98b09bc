"""Compacts a table in a process of its own: ``python -m intract_lsp.index.compaction DIRECTORY TABLE SECONDS``.

LanceDB reads the whole table for that, and what its allocators have taken for it they keep: 35 MiB for 50,000 rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

_MODULE = "intract_lsp.index.compaction"


def compact(directory: Path, table: str, versions_kept: timedelta) -> None:
    """Write a table anew as one fragment, and drop versions that are older than ``versions_kept``.

    Takes a second beyond the work. Nobody else may write the table meanwhile; it is whole whatever is killed when.
    Raises ``OSError`` with the last line that the process has said where it fails.
    """
    command = [sys.executable, "-m", _MODULE, str(directory.absolute()), table, str(versions_kept.total_seconds())]
    # In a folder of ours: Python looks for modules in the one that it is started in.
    with subprocess.Popen(
        command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise OSError(said.rpartition("\n")[2] or f"the process ended with {process.returncode}")


def main() -> None:
    """Compact the table that the arguments name; end when standard input ends, as the parent is gone then."""
    directory, table, seconds = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Behind the watch: it takes a second.
    import lancedb

    lancedb.connect(directory).open_table(table).optimize(cleanup_older_than=timedelta(seconds=float(seconds)))


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
