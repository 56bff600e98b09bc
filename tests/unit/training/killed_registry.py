"""A program that has children change the registry and kills each of them at a random moment; see its test.

    killed_registry.py DATA CANDIDATE KILLS SEED

After each kill it looks at what is on disk as a server would that starts next. Its last line says ``ok`` and how many
kills struck in the middle of something.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from intract_lsp.errors import AdapterError
from intract_lsp.inference.engine import AdapterKind
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.provenance import Provenance, read_meta

WORKSPACE, BASE = "/project", "f" * 64
MADE_OF = Provenance(WORKSPACE, "run", "tiny", BASE, files=(("a.py", "1"), ("b.py", "2")))


def opened(data: Path) -> AdapterRegistry:
    return AdapterRegistry(data, open_state(data / "state.db"))


def serving(registry: AdapterRegistry) -> str:
    active = registry.active(WORKSPACE, BASE)
    return active.id if active else ""


def change(data: Path, candidate: Path, seed: int, say: int) -> None:
    """Take in, promote, roll back and remove without end; tell what is begun and what is done."""

    def tell(*words: str) -> None:
        os.write(say, (json.dumps(words) + "\n").encode())

    choose = random.Random(seed)
    registry = opened(data)
    registry.recover()
    while True:
        known = [adapter.id for adapter in registry.list()]
        action = choose.choice(["create", "promote", "promote", "rollback", "remove"])
        if action == "create" or len(known) < 3:
            tell("create")
            registry.create(candidate, AdapterKind.LORA, MADE_OF)
        elif action == "promote":
            id_ = choose.choice(known)
            tell("promote", id_)
            registry.promote(id_, WORKSPACE)
        elif action == "rollback" and serving(registry):
            tell("rollback", *(adapter.id for adapter in registry._table.stack(WORKSPACE, BASE)))
            registry.rollback(WORKSPACE, BASE)
        elif action == "remove" and known[-1] != serving(registry):
            tell("remove", known[-1])
            registry.remove(known[-1])
        tell("serves", serving(registry))


def check(data: Path, told: list[list[str]], before: str) -> bool:
    """Raise ``AssertionError`` unless all is whole and the last word stands; return whether something was amid."""
    root = data / "adapters"
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    for path in visible:
        read_meta(path).verify(path)  # before anything is put in order
    registry = opened(data)
    try:
        now = serving(registry)
        if now:
            registry.verify(now)
        allowed = {next((words[1] for words in reversed(told) if words[0] == "serves"), before)}
        amid = bool(told) and told[-1][0] != "serves"
        if amid and told[-1][0] == "promote":
            allowed.add(told[-1][1])
        if amid and told[-1][0] == "rollback":
            allowed.add(told[-1][2] if len(told[-1]) > 2 else "")
        assert now in allowed, f"{now or 'the base'} serves instead of {allowed}"
        registry.recover()
        assert serving(registry) == now
        left = [path.name for path in root.iterdir() if path.name.startswith(".") and path.is_dir()]
        assert not left, left
        adapters = registry.list()
        assert {adapter.id for adapter in adapters} == {path.name for path in root.iterdir() if path.is_dir()}
        for adapter in adapters:
            registry.verify(adapter.id)
            assert (adapter.status.value == "active") == (adapter.id == now), adapter
        return amid
    finally:
        registry.close()


def main() -> None:
    data, candidate, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    choose = random.Random(seed)
    before, amid = "", 0
    (data / "adapters").mkdir(parents=True)
    for number in range(kills):
        listen, say = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(listen)
            try:
                change(data, candidate, seed * 1000 + number, say)
            except AdapterError as error:
                os.write(say, (json.dumps(["failed", str(error)]) + "\n").encode())
            os._exit(1)
        os.close(say)
        with os.fdopen(listen, "rb") as stream:
            first = stream.readline()
            time.sleep(choose.uniform(0, 0.08))
            os.kill(child, signal.SIGKILL)
            lines = [first, *stream.readlines()]
        os.waitpid(child, 0)
        told = [json.loads(line) for line in lines if line.endswith(b"\n")]
        failed = [words for words in told if words[0] == "failed"]
        assert not failed, failed
        amid += check(data, told, before)
        registry = opened(data)
        before = serving(registry)
        registry.close()
    print("ok", amid)


if __name__ == "__main__":
    main()
