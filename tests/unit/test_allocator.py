from __future__ import annotations

import subprocess
import sys

import pytest

from intract_lsp.allocator import keep_freed_memory, return_freed_memory

FAULTS = """
import resource, sys
import torch
from intract_lsp.allocator import keep_freed_memory, return_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def use():
    for size in (3, 2, 3, 1):
        torch.ones(size << 22)

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(3):
    use()
before = faults()
for _ in range(5):
    use()
print(faults() - before)
held = resident()
return_freed_memory()
print(held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_is_kept_until_it_is_returned() -> None:
    """In processes of their own: what is set holds for the whole process."""
    found = {}
    for how in ("usual", "keep"):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        found[how] = [int(line) for line in done.stdout.split()]
    assert found["keep"][0] < found["usual"][0] / 5, found
    assert found["keep"][1] >= 3 << 24, "the largest tensor's bytes"


@pytest.mark.parametrize(("most", "asked"), [(1 << 31, [1 << 30]), (1 << 25, [1 << 30, 1 << 25])])
def test_older_c_libraries_keep_what_they_can(most: int, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        calls.append((option, value))
        return int(value <= most)

    monkeypatch.setattr("intract_lsp.allocator._glibc", lambda name: mallopt)
    keep_freed_memory()
    assert calls == [(-1, -1), *((-3, value) for value in asked)]


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("asked for"))
    keep_freed_memory()
    return_freed_memory()
