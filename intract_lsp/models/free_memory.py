"""How much memory a program may still take: of the machine, and of the container or group that it runs in.

A container's limit is not in what the system says is available, and whoever goes beyond it is killed without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that may still be taken; ``root`` is where ``proc`` and ``sys`` are.

    Limits are those of Linux' control groups, of either version (kernel documentation, cgroup-v1/memory and cgroup-v2).
    """
    return min([int(psutil.virtual_memory().available), *_left(root)])


def _left(root: Path) -> Iterator[int]:
    """Yield what is left of each limit that holds for this process; a page cache that can be let go of is not taken."""
    for group in _groups(root):
        for most, taken, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(group / most), _number(group / taken)
            if limit is not None and used is not None:
                yield max(0, limit - used + _idle(group / "memory.stat", idle))


def _groups(root: Path) -> Iterator[Path]:
    """Yield the directories of this process's groups, and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mounted = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            mounted = root / "sys/fs/cgroup/memory"
        else:
            continue
        # Inside a container the path may be the one outside, while only its own group is mounted: at the top.
        below = PurePosixPath(path.lstrip("/"))
        yield from dict.fromkeys(mounted / each for each in (below, *below.parents))


def _number(path: Path) -> int | None:
    """Return the number in a file; ``None`` where there is none, as for a limit that is ``max``."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _idle(path: Path, name: str) -> int:
    try:
        rows = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        return int(rows.get(name, 0))
    except (OSError, ValueError):
        return 0
