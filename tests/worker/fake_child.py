"""Stands in for a run's process: does what ``script.json`` in the workspace says.

Its steps are objects of one member: ``say`` an event or any text, ``hold`` until a file of that name is in the
workspace, ``exit`` with a status, end by a ``signal``, be ``deaf`` to whoever wants it to end. It counts its starts in
the file ``starts``, and says that it has been stopped when it is asked to end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from intract_lsp.training.parent import watch_parent


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    workspace, folder = Path(spec["workspace"]), Path(spec["folder"])
    with (workspace / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    script = json.loads((workspace / "script.json").read_text())
    deaf = {"deaf": True} in script
    ending = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda number, frame: ending.set())

    watch_parent(lambda: None if deaf else ending.set())
    (folder / "checkpoints").mkdir(exist_ok=True)
    for step in script:
        if "say" in step:
            said = step["say"]
            print(said if isinstance(said, str) else json.dumps(said), flush=True)
        elif "hold" in step:
            while not (workspace / step["hold"]).exists():
                if ending.is_set():
                    (folder / "checkpoints" / "written").touch()
                    stopped = {"event": "finished", "status": "stopped", "reason": "Stopped."}
                    print(json.dumps(stopped), flush=True)
                    sys.exit(0)
                time.sleep(0.005)
        elif "signal" in step:
            sys.stdout.flush()
            os.kill(os.getpid(), step["signal"])
        elif "exit" in step:
            sys.stdout.flush()
            os._exit(step["exit"])


main()
