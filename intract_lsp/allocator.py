"""What the C library does with memory that was freed: kept for later, or given back to the system.

glibc gives each thread an arena of its own and hardly ever returns what was freed in one. LanceDB starts a dozen
threads: after ten compactions of 50,000 rows they held 150 MB that nobody used, and with two arenas none.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_ARENA_MAX, _TRIM_THRESHOLD, _MMAP_THRESHOLD = -8, -1, -3
"""``M_ARENA_MAX`` and the like of glibc's ``malloc.h``."""


def share_arenas() -> None:
    """Have threads that start from now on share two arenas. It holds for the whole process; only glibc has it."""
    call = _glibc("mallopt")
    if call is not None:
        call(_ARENA_MAX, 2)


def keep_freed_memory() -> None:
    """Have what is freed from now on kept for the next of its size, until ``return_freed_memory``; only glibc has it.

    Otherwise each large tensor's pages are taken from the system anew, which clears them: a training step took 4 %
    longer.
    """
    call = _glibc("mallopt")
    if call is not None:
        call(_TRIM_THRESHOLD, -1)
        # Older ones take no more than the second, and without either would map all that is larger than 128 KiB anew.
        call(_MMAP_THRESHOLD, 1 << 30) or call(_MMAP_THRESHOLD, 1 << 25)


def return_freed_memory() -> None:
    """Give freed memory back to the system. Takes some milliseconds; only glibc has it."""
    call = _glibc("malloc_trim")
    if call is not None:
        call(0)


def _glibc(name: str) -> Any:
    """Return a function of the C library, if it is one that has it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
