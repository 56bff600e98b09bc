#!/usr/bin/env python3
"""What the machine gives: prefill, decoding with and without speculation, load time, the server's start and its memory.

Prefill is compute: about 2 x parameters operations a prompt token, many tokens a matrix product. Decoding is bandwidth:
each step reads all weights for one token, so its ceiling is memory bandwidth over the weights' bytes; speculation
verifies several drafted tokens in one such step and passes that ceiling where drafts come true.

Cold: nothing cached, a prompt of 512 + 128 tokens and one token of answer. ``cold_*`` and ``prefill_*`` are medians
over the items whose text fills at least 85 % of that. Decoding goes on at each item's cursor to the end of the line or
64 tokens; tokens a second are those of all lines over their time, without the prefill and the token that it gives. All
prompts are rendered at the cursor itself (``completion.exact``), as llama.cpp gets them.

The server is started three times; ``warm_start_s`` is the median from process start to the first answer of the model
over stdio, ``rss_mib`` what it holds when 400 keystrokes of typed lines have reached the model, each line in a document
of its own: the cache of keys and values has then come to its budget. With ``--requests N`` it answers N keystrokes
more, and ``rss_growth_percent`` says what they added.

``warm_line_ms`` is what a line takes, from the call to its last token, a keystroke after the same prompt was computed
with one character less: as while typing, without the editor. Median over the items; speculation is on.

With ``--against llama.cpp`` the arms take turns prompt by prompt in this process, the first one changing.
``cold_ratio`` is ours over llama.cpp's time (below 1: ours is faster); ``prefill_ratio``, ``decode_ratio`` and
``decode_ratio_speculative`` are ours over its tokens a second (above 1: ours is faster).

With ``--against transformers`` the rival is ``model.generate`` on the same device, in that one's fastest float format.
It keeps nothing between two calls, so its line is always computed from the prompt on; ``transformers_*`` are its
figures, ``*_ratio_transformers`` ours over its. This is the comparison to make on a GPU.

    scripts/bench/engine.py scripts/bench/items.jsonl --against llama.cpp --gguf FILE
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from statistics import median

import setup_bench
from keystrokes import Answered, Figures, Keystroke, TypedLine, ratio, typed_line
from replay import PATIENCE, type_line
from server_session import ServerSession

from intract_lsp.app import load_order
from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptShape
from intract_lsp.completion.stop import stop_rule
from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item
from intract_lsp.inference.engine import CompletionEngine, ModelFiles
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.models.store import quantized_copy
from intract_lsp.paths import default_paths

STARTS = 3
WARM_UP_REQUESTS = 400
LONGEST_LINE = 64
"""Tokens, as serving has it by default."""

FULL = 0.85
"""Share of the budget from which on a prompt counts as full: it begins at a line's start, and files may be short."""

ROWS = (
    ("cold prompt and first token, ms", "cold_ms", "cold_n"),
    ("llama.cpp's", "llama_cold_ms", "cold_n"),
    ("ours / llama.cpp's time", "cold_ratio", "cold_n"),
    ("prefill, tokens/s", "prefill_tokens_per_second", "cold_n"),
    ("llama.cpp's", "llama_prefill_tokens_per_second", "cold_n"),
    ("decoding, tokens/s", "decode_tokens_per_second", "decoded_tokens"),
    ("with speculation", "speculative_tokens_per_second", "decoded_tokens"),
    ("llama.cpp's", "llama_decode_tokens_per_second", "decoded_tokens"),
    ("ours / llama.cpp's", "decode_ratio", "decoded_tokens"),
    ("with speculation / llama.cpp's", "decode_ratio_speculative", "decoded_tokens"),
    ("warm line, one keystroke later, ms", "warm_line_ms", "warm_lines"),
    ("transformers' cold prompt, ms", "transformers_cold_ms", "cold_n"),
    ("transformers' line, ms", "transformers_line_ms", "warm_lines"),
    ("transformers' decoding, tokens/s", "transformers_decode_tokens_per_second", "decoded_tokens"),
    ("ours / transformers'", "decode_ratio_transformers", "decoded_tokens"),
    ("with speculation / transformers'", "decode_ratio_speculative_transformers", "decoded_tokens"),
    ("loading in process, s", "load_s", "loads"),
    ("server's start to first answer, s", "warm_start_s", "starts"),
    ("server's memory, MiB", "rss_mib", "rss_requests"),
    ("its growth since, %", "rss_growth_percent", "requests"),
)


@dataclass
class Arm:
    """One engine, and what was measured of it, an entry an item."""

    engine: CompletionEngine
    shape: PromptShape
    colds: list[tuple[float, Generation]] = field(default_factory=list)
    """Milliseconds of the whole call, and its answer of one token."""
    lines: list[Generation] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    """Milliseconds of the whole call for each line."""
    warm: list[float] = field(default_factory=list)
    """The same one keystroke after the last call."""

    def cold(self, context: CompletionContext) -> None:
        self.engine.forget()
        began = time.perf_counter()
        generation = self._generate(context, 1)
        self.colds.append(((time.perf_counter() - began) * 1000, generation))

    def decode(self, context: CompletionContext) -> None:
        began = time.perf_counter()
        self.lines.append(self._generate(context, LONGEST_LINE))
        self.whole.append((time.perf_counter() - began) * 1000)

    def type(self, context: CompletionContext) -> None:
        """Ask for the line as it was before its last character, then with it."""
        if not context.prefix:
            return
        shape = replace(self.shape, exact=False)
        self._generate(replace(context, prefix=context.prefix[:-1]), 1, shape)
        began = time.perf_counter()
        self._generate(context, LONGEST_LINE, shape)
        self.warm.append((time.perf_counter() - began) * 1000)

    def _generate(self, context: CompletionContext, most: int, shape: PromptShape | None = None) -> Generation:
        limits = Limits(most, time.monotonic() + PATIENCE, stop_rule(context))
        return self.engine.generate(context, shape or self.shape, limits, CancelToken(), lambda text: None)


def steps(generation: Generation) -> int:
    """Return the tokens that decoding gave: all but the prefill's, and the end token where the model came to it."""
    return max(0, len(generation.token_ids) - 1 + (generation.finish is Finish.END))


def decode_rate(lines: Sequence[Generation]) -> float | None:
    """Return tokens a second over all lines."""
    seconds = sum(line.decode_ms for line in lines if steps(line)) / 1000
    return sum(map(steps, lines)) / seconds if seconds else None


def cold_figures(colds: Sequence[tuple[float, Generation]], full: Sequence[int]) -> tuple[float | None, float | None]:
    """Return the median milliseconds and the median prefill rate over the items ``full``."""
    chosen = [colds[index] for index in full]
    if not chosen:
        return None, None
    rates = [1000 * answer.prompt_tokens / answer.prefill_ms for _, answer in chosen if answer.prefill_ms]
    return median(ms for ms, _ in chosen), median(rates)


def compare(plain: Arm, speculating: Arm, llama: Arm | None, budget: int) -> Figures:
    """Return the engines' figures; ``budget`` is how many tokens a full prompt has."""
    lengths = [answer.prompt_tokens for _, answer in plain.colds]
    full = [index for index, length in enumerate(lengths) if length >= FULL * budget]
    cold, prefill = cold_figures(plain.colds, full)
    llama_cold, llama_prefill = cold_figures(llama.colds, full) if llama else (None, None)
    decode, fast = decode_rate(plain.lines), decode_rate(speculating.lines)
    llama_decode = decode_rate(llama.lines) if llama else None
    return {
        "cold_n": len(full),
        "cold_prompt_tokens": median(lengths[index] for index in full) if full else None,
        "cold_ms": cold,
        "llama_cold_ms": llama_cold,
        "cold_ratio": ratio(cold, llama_cold),
        "prefill_tokens_per_second": prefill,
        "llama_prefill_tokens_per_second": llama_prefill,
        "prefill_ratio": ratio(prefill, llama_prefill),
        "lines": len(plain.lines),
        "decoded_tokens": sum(map(steps, plain.lines)),
        "decode_tokens_per_second": decode,
        "speculative_tokens_per_second": fast,
        "llama_decode_tokens_per_second": llama_decode,
        "decode_ratio": ratio(decode, llama_decode),
        "decode_ratio_speculative": ratio(fast, llama_decode),
        "speculation_equal_text": same_text(plain.lines, speculating.lines),
        "llama_equal_text": same_text(plain.lines, llama.lines) if llama else None,
    }


def compare_generate(plain: Arm, speculating: Arm, generate: Arm | None, budget: int) -> Figures:
    """Return the warm line's figures, and those of transformers' ``generate`` where it was measured."""
    full = [index for index, (_, answer) in enumerate(plain.colds) if answer.prompt_tokens >= FULL * budget]
    cold, prefill = cold_figures(generate.colds, full) if generate else (None, None)
    decode = decode_rate(generate.lines) if generate else None
    return {
        "warm_line_ms": median(speculating.warm) if speculating.warm else None,
        "warm_lines": len(speculating.warm),
        "transformers_cold_ms": cold,
        "transformers_prefill_tokens_per_second": prefill,
        "transformers_line_ms": median(generate.whole) if generate and generate.whole else None,
        "transformers_decode_tokens_per_second": decode,
        "decode_ratio_transformers": ratio(decode_rate(plain.lines), decode),
        "decode_ratio_speculative_transformers": ratio(decode_rate(speculating.lines), decode),
        "transformers_equal_text": same_text(plain.lines, generate.lines) if generate else None,
    }


def same_text(ours: Sequence[Generation], others: Sequence[Generation]) -> float | None:
    """Return the percentage of lines with equal text: different answers would make different work."""
    pairs = list(zip(ours, others, strict=True))
    return 100 * sum(a.text == b.text for a, b in pairs) / len(pairs) if pairs else None


def measure(items: Sequence[Item], plain: Arm, speculating: Arm, rival: Arm | None) -> None:
    """Let the arms take turns at each item."""
    arms = [arm for arm in (plain, speculating, rival) if arm is not None]
    for number, item in enumerate(setup_bench.progress(items, "Generating", len(items))):
        context = CompletionContext(item.prefix, item.suffix, item.language_id, Extent.LINE, item.path)
        for arm in islice(cycle(arms), number, number + len(arms)):
            if arm is not speculating:  # it would prefill as ``plain`` does
                arm.cold(context)
            arm.decode(context)
            if arm is speculating:
                arm.type(context)


def load(arguments: argparse.Namespace, speculate: bool) -> tuple[ModelEngine, int, float]:
    """Return an engine with its model, its threads, and the seconds that loading took."""
    found = setup_bench.installed_model(arguments.model)
    copy = quantized_copy(found.directory, default_paths())
    files = ModelFiles(found.name, found.directory, found.fim_family, copy)
    engine = ModelEngine(lambda name, report, token: files, speculate=speculate)
    order = load_order(setup_bench.settings_in_force(arguments))
    began = time.perf_counter()
    card = engine.load(order, lambda sentence, fraction: None, CancelToken())
    seconds = time.perf_counter() - began
    return engine, card.threads, seconds


def engine_figures(items: Sequence[Item], arguments: argparse.Namespace) -> Figures:
    """Measure the engines in this process."""
    budget = setup_bench.budget_in_force(arguments)
    exact = PromptShape(budget, exact=True)
    engine, threads, seconds = load(arguments, speculate=False)
    fast, _, _ = load(arguments, speculate=True)
    rival = setup_bench.rival(arguments, threads)
    plain, speculating = Arm(engine, exact), Arm(fast, exact)
    llama = Arm(rival.engine, exact) if rival else None
    generate, facts = generating(arguments, threads, exact)
    measure(items, plain, speculating, llama or generate)
    figures = compare(plain, speculating, llama, budget.prefix + budget.suffix)
    figures |= compare_generate(plain, speculating, generate, budget.prefix + budget.suffix) | facts
    figures |= {"load_s": seconds, "loads": 1, "llama_load_s": rival.load_s if rival else None}
    return figures | (rival.facts if rival else {})


def generating(arguments: argparse.Namespace, threads: int, shape: PromptShape) -> tuple[Arm | None, Figures]:
    """Load transformers where the arguments ask for it; return its arm and what the last line says of it."""
    if arguments.against != "transformers":
        return None, {}
    from transformers_engine import VERSION, TransformersEngine

    budget = setup_bench.budget_in_force(arguments)
    rival = TransformersEngine(setup_bench.installed_model(arguments.model), threads, budget)
    order = load_order(setup_bench.settings_in_force(arguments))
    card = rival.load(order, lambda sentence, fraction: None, CancelToken())
    facts = {"transformers": VERSION, "transformers_device": card.device, "transformers_precision": card.precision}
    return Arm(rival, shape), facts


def start(arguments: argparse.Namespace, item: Item) -> tuple[ServerSession, float]:
    """Start a server and return it with the seconds until the model had answered for the first time."""
    began = time.perf_counter()
    session = setup_bench.start_server(arguments)
    try:
        session.wait_ready()
        uri = "file:///bench/start"
        session.open(uri, item.language_id, item.prefix + item.suffix)
        line = item.prefix.count("\n")
        session.complete(uri, line, len(item.prefix) - item.prefix.rfind("\n") - 1)
        seconds = time.perf_counter() - began
        if not session.command("intract.why", uri=uri)["promptTokens"]:
            raise IntractError(f"The first request, at {item.task_id}, did not reach the model; choose other items.")
        session.close(uri)
    except BaseException:
        session.stop()
        raise
    return session, seconds


def typing_without_end(session: ServerSession, lines: Sequence[TypedLine]) -> Iterator[Keystroke]:
    """Type the lines again and again, each time into new documents."""
    for number, line in enumerate(cycle(lines)):
        yield from type_line(session, line, number)


def server_figures(items: Sequence[Item], arguments: argparse.Namespace) -> Figures:
    """Measure the server's start and memory."""
    longest = max(items, key=lambda item: len(item.prefix) + len(item.suffix))
    times: list[float] = []
    for _ in setup_bench.progress(range(STARTS - 1), "Starting servers", STARTS - 1):
        session, seconds = start(arguments, longest)
        session.stop()
        times.append(seconds)
    session, seconds = start(arguments, longest)
    times.append(seconds)
    try:
        facts = setup_bench.engine_facts(session.wait_ready())
        requests = typing_without_end(session, [typed_line(item) for item in items])
        for _ in islice((stroke for stroke in requests if stroke.answered is Answered.MODEL), WARM_UP_REQUESTS):
            pass
        before = session.resident_mib()
        for _ in setup_bench.progress(islice(requests, arguments.requests), "Asking", arguments.requests):
            pass
        growth = 100 * (session.resident_mib() / before - 1) if arguments.requests else None
    finally:
        session.stop()
    return {
        "warm_start_s": median(times),
        "starts": STARTS,
        "rss_mib": before,
        "rss_requests": WARM_UP_REQUESTS,
        "rss_growth_percent": growth,
        "requests": arguments.requests,
        **facts,
    }


def main(arguments: argparse.Namespace) -> None:
    items = setup_bench.chosen_items(arguments)
    # One after the other: the server's model would take memory and, loading, the cores of the engines measured here.
    figures = {**server_figures(items, arguments), **engine_figures(items, arguments)}
    setup_bench.report("Engine", ROWS, {**figures, **setup_bench.machine()})


if __name__ == "__main__":
    parser = setup_bench.parser(__doc__, ("llama.cpp", "transformers"))
    parser.add_argument("--requests", type=int, default=0, metavar="N", help="measure the memory's growth over N more")
    setup_bench.run("engine.py", main, parser.parse_args())
