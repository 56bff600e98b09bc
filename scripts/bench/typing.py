#!/usr/bin/env python3
"""What a person who types waits for: items' lines replayed key by key through the real server over stdio.

Each item's document is opened without its line; then the line that the author wrote there is typed, one key after the
answer to the one before. The indentation comes as one key, as editors put it, and Enter is a key where the author's
block goes on. A keystroke's latency runs from sending the edit to having the answer at the client: protocol, queue,
prompt, prefill, decoding and filters, without debounce. Nobody thinks between the keys, so work done ahead gets no
time here.

Where the time goes: a keystroke that reaches the model pays for the prompt tokens that are not in the KV cache
(compute: about 2 x parameters operations a token) and for each decoded token (bandwidth: all weights are read once a
step). A line's first model call is cold and reported apart (``first_suggestion_*``); the others are warm: ``n`` of
them, those where every arm had something to suggest, give ``p50_ms`` and ``p95_ms``. ``first_token`` is the latency
without the decoding.

``answered_without_model`` is the percentage, among the keystrokes that no gate refused, answered from the cache or from
a generation that already ran. ``wasted_tokens`` were decoded and are not what the author wrote next, tokens in
proportion to characters. ``all_keystrokes_*`` is over every key, refusals included.

With ``--against llama.cpp`` the keystrokes of each line that reached our model go to llama.cpp in this process at once
behind the line: the same text, prompt, budget and stop rules, its KV cache kept, while the server stands idle. It is
spared the protocol and the filters. Ratios are ours over its: below 1 ours is faster.

    scripts/bench/typing.py scripts/bench/items.jsonl --keys 40 --against llama.cpp --gguf FILE
"""

from __future__ import annotations

import sys

# This file's name is a standard module's: its directory must come behind the standard library.
sys.path.append(sys.path.pop(0))

import argparse
from collections.abc import Sequence

import setup_bench
from keystrokes import Keystroke, TypedLine, summarise, typed_line
from replay import type_line, with_rival
from server_session import ServerSession

from intract_lsp.app import policy
from intract_lsp.completion.service import Policy

ROWS = (
    ("warm keystroke, p50 ms", "p50_ms", "n"),
    ("warm keystroke, p95 ms", "p95_ms", "n"),
    ("its first token, p50 ms", "first_token_p50_ms", "n"),
    ("llama.cpp, p50 ms", "llama_p50_ms", "n"),
    ("llama.cpp, p95 ms", "llama_p95_ms", "n"),
    ("llama.cpp's first token, p50 ms", "llama_first_token_p50_ms", "n"),
    ("ours / llama.cpp's, p50", "ratio_p50", "n"),
    ("ours / llama.cpp's, p95", "ratio_p95", "n"),
    ("ours / llama.cpp's, first token", "first_token_ratio_p50", "n"),
    ("first suggestion of a line, p50 ms", "first_suggestion_p50_ms", "first_suggestion_n"),
    ("llama.cpp's, p50 ms", "llama_first_suggestion_p50_ms", "first_suggestion_n"),
    ("answered without the model, %", "answered_without_model", "keystrokes"),
    ("refused by a gate, %", "refused_by_gate", "keystrokes"),
    ("all keystrokes, p50 ms", "all_keystrokes_p50_ms", "keystrokes"),
    ("wasted tokens, %", "wasted_share", "decoded_tokens"),
)


def replay(
    session: ServerSession, lines: Sequence[TypedLine], rival: setup_bench.Rival | None, obeyed: Policy
) -> list[Keystroke]:
    """Type every line, each followed by llama.cpp's turn."""
    strokes: list[Keystroke] = []
    for number, line in enumerate(setup_bench.progress(lines, "Typing", len(lines))):
        typed = list(type_line(session, line, number))
        if rival is not None:
            session.wait_ready()
            typed = list(with_rival(rival.engine, line, typed, obeyed))
        strokes += typed
    return strokes


def main(arguments: argparse.Namespace) -> None:
    lines = [typed_line(item, arguments.keys) for item in setup_bench.chosen_items(arguments)]
    obeyed = policy(setup_bench.settings_in_force(arguments))
    session = setup_bench.start_server(arguments)
    try:
        status = session.wait_ready()
        rival = setup_bench.rival(arguments, status["engine"]["threads"])
        figures = summarise(replay(session, lines, rival, obeyed))
        figures["model_calls"] = session.command("intract.status")["modelCalls"]
    finally:
        session.stop()
    facts = {**setup_bench.engine_facts(status), **setup_bench.machine(), **(rival.facts if rival else {})}
    setup_bench.report("Typing", ROWS, {**figures, **facts})


if __name__ == "__main__":
    parser = setup_bench.parser(__doc__)
    setup_bench.add_typing_arguments(parser)
    setup_bench.run("typing.py", main, parser.parse_args())
