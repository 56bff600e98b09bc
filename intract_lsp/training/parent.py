"""How a run's process learns that nobody wants its work any more, whatever has become of its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def watch_parent(on_gone: Callable[[], None]) -> None:
    """Have ``on_gone`` called on another thread when standard input ends: the parent has closed it, or is dead.

    Where the parent may have paused this process, its death has to wake it first: Linux can be asked for that. A
    Ctrl-C in the parent's terminal is the parent's to see to.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal_at_parents_death(signal.SIGCONT)
    threading.Thread(target=_watch, args=(on_gone,), name="intract-parent", daemon=True).start()


def signal_at_parents_death(number: int) -> None:
    """Have this process get a signal when its parent dies; Linux alone can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _watch(on_gone: Callable[[], None]) -> None:
    # Not through `sys.stdin`: its lock would be held when the interpreter ends.
    while os.read(0, 4096):
        pass
    on_gone()
