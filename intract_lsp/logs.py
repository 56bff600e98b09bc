"""Where the log goes: stderr and a rotating file, with libraries that would write code into it kept quiet."""

from __future__ import annotations

import logging
import logging.handlers
import sys

from intract_lsp.paths import Paths

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
FILE_BYTES = 1_000_000
FILES = 3


def start_logging(paths: Paths, level: str) -> None:
    """Log our own messages at ``level``. Without a writable log directory stderr has to do.

    pygls logs message bodies, that is source code, at several levels: it is silenced as a whole, and what matters of
    it (malformed messages, failed handlers) is logged by ``server.protocol`` without contents.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    try:
        paths.logs.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            paths.logs / "server.log", maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8", delay=True
        )
        handlers.append(file)
    except OSError as error:
        print(f"intract-lsp: no log file ({error}); logging to stderr only.", file=sys.stderr)
    logging.basicConfig(level=logging.WARNING, format=FORMAT, handlers=handlers, force=True)
    logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
    logging.getLogger("intract_lsp").setLevel(level.upper())
