#!/usr/bin/env python3
"""The index at work in the real server: how long it takes, what it costs, and what completions notice of it.

A workspace is made of Python files of SOURCE, in a repository of its own, until it has ``--lines`` lines. Measured on
it, in this order:

``first_index_s``: from opening the folder to an index that agrees with the disk, with an engine that needs no model;
``index_growth_mib``: what the process's resident memory has grown by ten seconds later, when the table has been
compacted, and ``disk_mib`` what lies on the disk before that.
``idle_cpu_percent``: of one core, over ``--idle`` seconds in which nothing happens.
``saved_p50_s``, ``saved_p95_s``: from writing a file to its new text being found, the editor saying nothing.

Then with the model, typing lines of the workspace's own files (``--typed`` of them, ``--keys`` keys each):
``retrieve_p50_ms``, ``retrieve_p95_ms``: looking for pieces, at each keystroke that began a new line of questions;
``retrieval_over_none``: the median latency of warm model calls (see typing.py) with retrieval over that without, each
line typed both ways by turns, with nothing cached;
``switch_over_quiet``: the same while the index takes in a switch to a branch in which ``--switched`` files differ, over
quiet; ``switch_s`` is how long it took to agree with the disk again, beside the typing.

    scripts/bench/index.py .venv/lib/python3.11/site-packages --lines 100000
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import itertools
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import setup_bench
from keystrokes import Keystroke, TypedLine, typed_line, warm_calls
from replay import type_line
from server_session import ServerSession

from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item

LARGEST = 200_000
"""Bytes of a file that is taken."""

POLL_SECONDS = 0.05

COMPACTED_SECONDS = 10.0
"""After a first index, until its table has been compacted."""

ROWS = (
    ("first index, s", "first_index_s", "lines"),
    ("memory for it, MiB", "index_growth_mib", "chunks"),
    ("on disk, MiB", "disk_mib", "chunks"),
    ("idle, % of a core", "idle_cpu_percent", "lines"),
    ("saved to found, p50 s", "saved_p50_s", "saves"),
    ("saved to found, p95 s", "saved_p95_s", "saves"),
    ("retrieval, p50 ms", "retrieve_p50_ms", "retrievals"),
    ("retrieval, p95 ms", "retrieve_p95_ms", "retrievals"),
    ("warm keystroke with it / without, p50", "retrieval_over_none", "warm"),
    ("warm keystroke beside a branch switch / quiet, p50", "switch_over_quiet", "switch_warm"),
    ("branch switch taken in, s", "switch_s", "switched"),
)


def make_workspace(source: Path, target: Path, lines: int) -> tuple[list[Path], int]:
    """Copy files until there are ``lines`` lines, commit them, and return them with their number of lines."""
    taken: list[Path] = []
    total = 0
    for file in sorted(source.rglob("*.py")):
        if total >= lines:
            break
        if file.stat().st_size <= LARGEST and (content := file.read_bytes()).strip():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            taken.append(place)
            total += content.count(b"\n")
    if not taken:
        raise IntractError(f"{source} has no Python files: give a folder that has.")
    git(target, "init", "-q", "-b", "main")
    git(target, "add", "-A")
    git(target, "commit", "-q", "-m", "all")
    return taken, total


def make_branch(workspace: Path, files: Sequence[Path], count: int) -> int:
    """Commit a branch ``other`` in which ``count`` files have one definition more; return how many they are."""
    git(workspace, "checkout", "-q", "-b", "other")
    changed = files[:count]
    for number, file in enumerate(changed):
        with file.open("ab") as stream:
            stream.write(f"\n\ndef on_the_other_branch_{number}(value):\n    return value + {number}\n".encode())
    git(workspace, "commit", "-q", "-a", "-m", "other")
    git(workspace, "checkout", "-q", "main")
    return len(changed)


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def settled(session: ServerSession) -> dict[str, Any]:
    """Wait until the index agrees with the disk and return how it stands."""
    while True:
        folders = session.command("intract.indexStatus")["folders"]
        if folders and folders[0]["state"] == "failed":
            raise IntractError(f"The index failed: {folders[0]['message']}")
        if folders and folders[0]["state"] == "idle" and folders[0]["updatedAt"] and not folders[0]["queue"]:
            return dict(folders[0])
        time.sleep(POLL_SECONDS)


def index_alone(arguments: argparse.Namespace, workspace: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Measure the index in a server without a model."""
    off = ServerSession([*setup_bench.bench_settings(arguments), "index.enabled=false"], "echo", workspace)
    off.command("intract.status")
    before = off.resident_mib()
    off.stop()
    began = time.monotonic()
    session = ServerSession(setup_bench.bench_settings(arguments), "echo", workspace)
    try:
        status = settled(session)
        figures = {
            "first_index_s": time.monotonic() - began,
            "disk_mib": status["diskBytes"] / 2**20,
            "chunks": status["chunks"],
            "files": status["files"],
        }
        time.sleep(COMPACTED_SECONDS)
        figures["index_growth_mib"] = session.resident_mib() - before
        spent = session.cpu_seconds()
        time.sleep(arguments.idle)
        figures["idle_cpu_percent"] = 100 * (session.cpu_seconds() - spent) / arguments.idle
        found = [found_after_save(session, file, number) for number, file in enumerate(files[: arguments.saves])]
    finally:
        session.stop()
    return {
        **figures,
        "saves": len(found),
        "saved_p50_s": percentile(found, 0.5),
        "saved_p95_s": percentile(found, 0.95),
    }


def found_after_save(session: ServerSession, file: Path, number: int) -> float:
    """Write a new name into a file as an editor does, and return the seconds until the index finds it."""
    name = f"freshly_saved_{number}_{random.randrange(10**9)}"
    text = file.read_text(encoding="utf-8", errors="replace") + f"\n\ndef {name}():\n    return {number}\n"
    written = file.with_name(f".{file.name}.swap")
    written.write_text(text, encoding="utf-8")
    began = time.monotonic()
    written.replace(file)
    while not any(name in one["text"] for one in session.command("intract.searchWorkspace", query=name)["results"]):
        if time.monotonic() - began > 60:
            raise IntractError(f"{file} was saved, and after a minute the index does not find what is new in it.")
        time.sleep(POLL_SECONDS / 5)
    return time.monotonic() - began


def lines_to_type(workspace: Path, files: Sequence[Path], count: int, keys: int) -> list[TypedLine]:
    """Choose lines inside of functions, spread over the files."""
    found = []
    for file in random.Random(0).sample(list(files), len(files)):
        rows = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        fit = [
            i
            for i, row in enumerate(rows)
            if 60 < i < len(rows) - 20 and 28 < len(row.strip()) < 80 and row[:4] == "    "
        ]
        if fit:
            at = fit[len(fit) // 2]
            path = file.relative_to(workspace).as_posix()
            line = rows[at].rstrip("\n")
            item = Item(path, path, "".join(rows[:at]), "\n" + "".join(rows[at + 1 :]), line, line, "workspace")
            found.append(typed_line(item, keys))
        if len(found) == count:
            break
    return found


class Typist:
    """Types lines of the workspace, each with nothing cached and under a number of its own."""

    def __init__(self, session: ServerSession, workspace: Path) -> None:
        self._session = session
        self._workspace = workspace
        self._numbers = itertools.count()

    def type(self, line: TypedLine) -> list[Keystroke]:
        """Type a line in its own file."""
        self._session.command("intract.clearCache")
        uri = (self._workspace / line.item.path).as_uri()
        return list(type_line(self._session, line, next(self._numbers), uri))


def completions(
    arguments: argparse.Namespace, workspace: Path, files: Sequence[Path], switched: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure what completions notice, in a server with the model; return the figures and its status."""
    lines = lines_to_type(workspace, files, arguments.typed, arguments.keys)
    session = ServerSession(setup_bench.bench_settings(arguments), "model", workspace)
    try:
        status = session.wait_ready()
        settled(session)
        typist = Typist(session, workspace)
        strokes: dict[bool, list[Keystroke]] = {False: [], True: []}
        retrievals: list[float] = []
        for number, line in enumerate(setup_bench.progress(lines, "Typing with and without", len(lines))):
            for retrieval in (True, False) if number % 2 == 0 else (False, True):
                session.configure({"completion": {"retrieval": retrieval}})
                for stroke in typist.type(line):
                    strokes[retrieval].append(stroke)
                    if retrieval and stroke.retrieve_ms > 0:
                        retrievals.append(stroke.retrieve_ms)
        session.configure({"completion": {"retrieval": True}})
        quiet: list[Keystroke] = []
        beside: list[Keystroke] = []
        seconds: list[float] = []
        for turn in range(arguments.rounds):
            quiet += [stroke for line in lines for stroke in typist.type(line)]
            git(workspace, "checkout", "-q", "main" if turn % 2 else "other")
            began = time.monotonic()
            for line in itertools.cycle(lines):
                beside += typist.type(line)
                folder = session.command("intract.indexStatus")["folders"][0]
                if folder["state"] == "idle" and not folder["queue"] and time.monotonic() - began > 1:
                    break
            seconds.append(time.monotonic() - began)
            settled(session)
    finally:
        session.stop()
    with_it, without = (warm_latencies(strokes[key]) for key in (True, False))
    calm, busy = warm_latencies(quiet), warm_latencies(beside)
    return {
        "retrievals": len(retrievals),
        "retrieve_p50_ms": percentile(retrievals, 0.5),
        "retrieve_p95_ms": percentile(retrievals, 0.95),
        "warm": len(with_it),
        "warm_p50_ms": percentile(with_it, 0.5),
        "retrieval_over_none": ratio(with_it, without),
        "switched": switched,
        "switch_s": statistics.median(seconds),
        "switch_warm": len(busy),
        "switch_over_quiet": ratio(busy, calm),
    }, status


def warm_latencies(strokes: Sequence[Keystroke]) -> list[float]:
    return [stroke.latency_ms for stroke in warm_calls(strokes)]


def ratio(left: Sequence[float], right: Sequence[float]) -> float | None:
    return statistics.median(left) / statistics.median(right) if left and right else None


def percentile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def main(arguments: argparse.Namespace) -> None:
    """Make the workspace, measure and print."""
    with tempfile.TemporaryDirectory(prefix="intract-index-") as scratch:
        workspace = Path(scratch) / "workspace"
        workspace.mkdir()
        files, lines = make_workspace(arguments.source, workspace, arguments.lines)
        switched = make_branch(workspace, files, arguments.switched)
        figures = {"lines": lines, **index_alone(arguments, workspace, files)}
        git(workspace, "checkout", "-q", "-f", "main")
        more, status = completions(arguments, workspace, files, switched)
    facts = {**setup_bench.engine_facts(status), **setup_bench.machine()}
    setup_bench.report("The index at work", ROWS, {**figures, **more, **facts})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder with Python files")
    parser.add_argument("--lines", type=int, default=100_000, metavar="N", help="size of the workspace (100,000)")
    parser.add_argument("--typed", type=int, default=12, metavar="N", help="lines to type (12)")
    parser.add_argument("--keys", type=int, default=16, metavar="N", help="keys of a line at most (16)")
    parser.add_argument("--saves", type=int, default=20, metavar="N", help="files to save (20)")
    parser.add_argument("--switched", type=int, default=2000, metavar="N", help="files that a branch changes (2,000)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="branch switches (2)")
    parser.add_argument("--idle", type=float, default=20.0, metavar="S", help="seconds of doing nothing (20)")
    parser.add_argument("--model", default="auto", metavar="M", help="the model (default: the one for this machine)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting")
    try:
        main(parser.parse_args())
    except IntractError as error:
        sys.exit(f"index.py: {error}")
