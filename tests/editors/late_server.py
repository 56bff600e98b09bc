"""Our server, of which a part waits until a file is there: ``late_server.py FILE model|server serve ...``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from intract_lsp.cli import main
from intract_lsp.inference.echo_engine import EchoEngine


def run(file: Path, late: str) -> None:
    """Wait before anything is answered, or before the model is there."""
    load_at_once = EchoEngine.load

    def wait() -> None:
        while not file.exists():
            time.sleep(0.01)

    def load(*arguments: Any, **options: Any) -> Any:
        wait()
        return load_at_once(*arguments, **options)

    if late == "server":
        wait()
    else:
        EchoEngine.load = load  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    file, late = sys.argv[1:3]
    del sys.argv[1:3]
    run(Path(file), late)
