#!/usr/bin/env python3
"""What fine-tuning does to completions: typing.py's lines typed twice, idle and while a real run trains beside them.

The run learns from --project in a home of its own and is cancelled at the end. Each line is typed in bursts with pauses
of --pause seconds between, in which the server lets the run go on: the first key of a burst comes while it works. The
idle arm is a server of its own without a run, and while it is typed into the bench holds the run of the other one. The
order of the arms changes from line to line.

``p50_over_idle`` is the median latency of the warm model calls (see typing.py) beside the run over the idle one, of the
same keystrokes. ``all_*`` is over every keystroke, ``burst_*`` over the first of each burst alone, where the run has to
be stopped first. ``training_share`` says how much the run got done meanwhile: its processor time beside the typing over
what all of its threads could have used in that time.

    scripts/bench/training_beside.py scripts/bench/items.jsonl --limit 6 --keys 24 --project DIR
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import setup_bench
from keystrokes import Figures, Keystroke, TypedLine, over_quiet, percentile, ratio, typed_line
from replay import type_line
from server_session import ServerSession

from intract_lsp.errors import IntractError
from intract_lsp.models.store import quantized_copy
from intract_lsp.paths import HOME_VARIABLE, default_paths
from intract_lsp.training.supervisor import Timing

LONGEST_START = 900.0
"""Seconds that a run may take to its first step."""

ROWS = (
    ("idle, p50 ms", "idle_p50_ms", "n"),
    ("beside a run, p50 ms", "beside_p50_ms", "n"),
    ("beside / idle, p50", "p50_over_idle", "n"),
    ("beside / idle, p95", "p95_over_idle", "n"),
    ("every keystroke, beside / idle, p50", "all_p50_over_idle", "keystrokes"),
    ("first of a burst, idle, p50 ms", "burst_idle_p50_ms", "bursts"),
    ("first of a burst, beside / idle, p50", "burst_p50_over_idle", "bursts"),
    ("the run's processor time beside typing, %", "training_share", "steps_beside"),
)


@dataclass
class Arm:
    """What was typed under one condition."""

    strokes: list[Keystroke] = field(default_factory=list)
    bursts: list[Keystroke] = field(default_factory=list)
    """The first keystroke of each burst."""
    seconds: float = 0.0
    worked: float = 0.0
    """Processor seconds of the run's process."""
    steps: int = 0


class Run:
    """A real run beside the session."""

    def __init__(self, session: ServerSession, project: Path) -> None:
        """Begin it and wait until it trains. Raises ``IntractError``."""
        self._session = session
        self.id = session.command("intract.fineTune", folder=str(project.resolve()), minutes=600)["run"]
        end = time.monotonic() + LONGEST_START
        while not self.steps():
            if time.monotonic() > end:
                raise IntractError(f"The run has not begun to train within {LONGEST_START:.0f} seconds.")
            time.sleep(1.0)
        # Of this program's descendants, the one that trains; the server has no other that does.
        own = psutil.Process().children(recursive=True)
        self._process = next(one for one in own if "intract_lsp.training.child" in one.cmdline())
        self.threads = session.command("intract.status")["engine"]["threads"]

    def steps(self) -> int:
        status = self._session.command("intract.fineTune.status", run=self.id)
        if status["state"] in ("failed", "stopped", "rejected"):
            raise IntractError(f"The run has ended: {status['message']}")
        return int(status["step"] or 0)

    def worked(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it from computing. What was typed before must not have the server let it go on meanwhile."""
        time.sleep(Timing().quiet + 1.0)
        self._process.suspend()
        try:
            yield
        finally:
            self._process.resume()


def type_in_bursts(
    session: ServerSession, line: TypedLine, number: int, arm: Arm, arguments: argparse.Namespace
) -> None:
    """Type a line with nothing cached, pausing before each burst."""
    session.command("intract.clearCache")
    strokes = type_line(session, line, number)
    for index in range(len(line.keys)):
        begins = index % arguments.burst == 0
        if begins:
            time.sleep(arguments.pause)
        stroke = next(strokes)
        arm.strokes.append(stroke)
        if begins:
            arm.bursts.append(stroke)
    next(strokes, None)  # closes the document


def replay(
    quiet: ServerSession, session: ServerSession, run: Run, lines: Sequence[TypedLine], arguments: argparse.Namespace
) -> tuple[Arm, Arm]:
    """Return what was typed idle and what beside the run."""
    idle, beside = Arm(), Arm()
    for number, line in enumerate(setup_bench.progress(lines, "Typing twice", len(lines))):
        for hold in (True, False) if number % 2 == 0 else (False, True):
            if hold:
                with run.held():
                    type_in_bursts(quiet, line, number, idle, arguments)
                continue
            began, worked, steps = time.monotonic(), run.worked(), run.steps()
            type_in_bursts(session, line, number, beside, arguments)
            beside.seconds += time.monotonic() - began
            beside.worked += run.worked() - worked
            beside.steps += run.steps() - steps
    return idle, beside


def summarise(idle: Arm, beside: Arm, threads: int) -> Figures:
    compared = over_quiet(idle.strokes, beside.strokes)
    figures: Figures = {"n": compared["n"], "keystrokes": len(beside.strokes), "bursts": len(beside.bursts)}
    for level in ("p50", "p95"):
        figures[f"idle_{level}_ms"] = compared[f"quiet_{level}_ms"]
        figures[f"beside_{level}_ms"] = compared[f"busy_{level}_ms"]
        figures[f"{level}_over_idle"] = compared[f"{level}_over_quiet"]
    for name, before, after in (("all", idle.strokes, beside.strokes), ("burst", idle.bursts, beside.bursts)):
        own, slowed = (percentile([stroke.latency_ms for stroke in strokes], 0.5) for strokes in (before, after))
        figures |= {f"{name}_idle_p50_ms": own, f"{name}_beside_p50_ms": slowed}
        figures[f"{name}_p50_over_idle"] = ratio(slowed, own)
    figures["training_share"] = 100 * beside.worked / (beside.seconds * threads) if beside.seconds else None
    figures["steps_beside"] = beside.steps
    return figures


@contextmanager
def own_home(arguments: argparse.Namespace) -> Iterator[None]:
    """Let the server keep runs and adapters elsewhere than the user's; the model's int8 copy is used where it is."""
    paths = default_paths()
    model = setup_bench.installed_model(arguments.model)
    arguments.model = str(model.directory)
    copy = quantized_copy(model.directory, paths)
    with tempfile.TemporaryDirectory(prefix="intract-bench-") as home:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(paths.cache / "kernels"))
        os.environ[HOME_VARIABLE] = home
        if copy.is_file():
            place = quantized_copy(model.directory, default_paths())
            place.parent.mkdir(parents=True)
            place.symlink_to(copy)
        yield


def main(arguments: argparse.Namespace) -> None:
    lines = [typed_line(item, arguments.keys) for item in setup_bench.chosen_items(arguments)]
    with own_home(arguments):
        quiet, session = setup_bench.start_server(arguments), setup_bench.start_server(arguments)
        try:
            status, _ = session.wait_ready(), quiet.wait_ready()
            run = Run(session, arguments.project)
            figures = summarise(*replay(quiet, session, run, lines, arguments), run.threads)
            session.command("intract.fineTune.cancel", run=run.id)
        finally:
            session.stop()
            quiet.stop()
    facts = {**setup_bench.engine_facts(status), **setup_bench.machine()}
    setup_bench.report("Beside a fine-tuning run", ROWS, {**figures, "pause": arguments.pause, **facts})


if __name__ == "__main__":
    parser = setup_bench.parser(__doc__)
    setup_bench.add_typing_arguments(parser)
    parser.add_argument("--project", type=Path, required=True, metavar="DIR", help="what the run learns from")
    parser.add_argument("--burst", type=int, default=8, metavar="N", help="keys between two pauses (default: 8)")
    parser.add_argument("--pause", type=float, default=5.0, metavar="S", help="seconds of a pause (default: 5)")
    setup_bench.run("training_beside.py", main, parser.parse_args())
