#!/usr/bin/env python3
"""What a busy machine does to completions: typing.py's lines, typed quiet and beside processes that burn a core each.

Two threads that meet after every matrix product wait for the slower one: where a burner takes half of a core, a step
takes up to twice as long, and a runtime whose threads spin while they wait takes much longer still. Losing one of two
cores alone would cost 2 x. ``p50_over_quiet`` is the median latency of the warm model calls (see typing.py) beside the
burners over the quiet one, of the same keystrokes.

Each line is typed twice with all caches cleared before, once quiet and once busy, the order changing from line to line,
so that what drifts and what the engine learns falls on both. With ``--against llama.cpp`` it goes through the same, in
the same intervals: ``llama_p50_over_quiet``.

    scripts/bench/busy.py scripts/bench/items.jsonl --limit 6 --keys 20 --burners 1
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import contextlib
from collections.abc import Sequence

import setup_bench
from burners import Burners
from keystrokes import Keystroke, TypedLine, over_quiet, typed_line
from replay import type_line, with_rival
from server_session import ServerSession

from intract_lsp.app import policy
from intract_lsp.completion.service import Policy

ROWS = (
    ("quiet, p50 ms", "quiet_p50_ms", "n"),
    ("busy, p50 ms", "busy_p50_ms", "n"),
    ("busy / quiet, p50", "p50_over_quiet", "n"),
    ("busy / quiet, p95", "p95_over_quiet", "n"),
    ("llama.cpp quiet, p50 ms", "llama_quiet_p50_ms", "n"),
    ("llama.cpp busy, p50 ms", "llama_busy_p50_ms", "n"),
    ("llama.cpp busy / quiet, p50", "llama_p50_over_quiet", "n"),
    ("llama.cpp busy / quiet, p95", "llama_p95_over_quiet", "n"),
)


def type_both(
    session: ServerSession, line: TypedLine, number: int, rival: setup_bench.Rival | None, obeyed: Policy
) -> list[Keystroke]:
    """Type a line with nothing cached, then give llama.cpp the same."""
    session.command("intract.clearCache")
    strokes = list(type_line(session, line, number))
    if rival is None:
        return strokes
    session.wait_ready()
    rival.engine.forget()
    return list(with_rival(rival.engine, line, strokes, obeyed))


def replay(
    session: ServerSession,
    lines: Sequence[TypedLine],
    rival: setup_bench.Rival | None,
    burners: Burners,
    obeyed: Policy,
) -> tuple[list[Keystroke], list[Keystroke]]:
    """Return the keystrokes typed quiet and those typed busy."""
    quiet: list[Keystroke] = []
    busy: list[Keystroke] = []
    for number, line in enumerate(setup_bench.progress(lines, "Typing twice", len(lines))):
        for burn in (False, True) if number % 2 == 0 else (True, False):
            with burners.burning() if burn else contextlib.nullcontext():
                (busy if burn else quiet).extend(type_both(session, line, number, rival, obeyed))
    return quiet, busy


def main(arguments: argparse.Namespace) -> None:
    lines = [typed_line(item, arguments.keys) for item in setup_bench.chosen_items(arguments)]
    obeyed = policy(setup_bench.settings_in_force(arguments))
    session = setup_bench.start_server(arguments)
    burners = Burners(arguments.burners)
    try:
        status = session.wait_ready()
        rival = setup_bench.rival(arguments, status["engine"]["threads"])
        figures = over_quiet(*replay(session, lines, rival, burners, obeyed))
    finally:
        burners.stop()
        session.stop()
    facts = {**setup_bench.engine_facts(status), **setup_bench.machine(), **(rival.facts if rival else {})}
    setup_bench.report(
        f"Beside {arguments.burners} busy processes", ROWS, {**figures, "burners": arguments.burners, **facts}
    )


if __name__ == "__main__":
    parser = setup_bench.parser(__doc__)
    setup_bench.add_typing_arguments(parser)
    parser.add_argument("--burners", type=int, default=1, metavar="N", help="processes that burn a core (default: 1)")
    setup_bench.run("busy.py", main, parser.parse_args())
