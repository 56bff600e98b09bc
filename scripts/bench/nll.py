#!/usr/bin/env python3
"""What a number format costs in quality: negative log-likelihood of the true middles, against float32.

Exact match moves in steps of whole items and needs hundreds of them; the likelihood of what the author really typed
moves with every rounding. Each item's rest of the line, with its newline, is scored behind the prompt that serving
renders. The first format listed is the one that the others are compared with. The last line is one JSON object.

    scripts/bench/nll.py ITEMS.jsonl --every 5 --precisions float32 bfloat16 int8
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from intract_lsp.completion.generation import CancelToken, PromptBudget
from intract_lsp.completion.prompt import PromptSource, encode_text, render
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.inference.engine import LoadOrder, ModelFiles
from intract_lsp.inference.model_engine import ModelEngine
from intract_lsp.models import fetch
from intract_lsp.models.store import quantized_copy
from intract_lsp.paths import default_paths

LONGEST_MIDDLE = 40


def scored(engine: ModelEngine, item: Item, budget: PromptBudget) -> tuple[float, list[int], list[int]]:
    """Return the middle's summed negative log-likelihood, its tokens and the most likely ones in their places."""
    loaded = engine._loaded  # a bench of the engine's inside: serving has no use for likelihoods
    assert loaded is not None
    source = PromptSource(item.prefix, item.suffix, item.path)
    prompt = list(render(loaded.fim, source, budget, loaded.tokenizer).ids)
    middle = encode_text(item.truth_line + "\n", loaded.tokenizer)[:LONGEST_MIDDLE]
    loaded.cache.clear()
    logits = loaded.cache.append([*prompt, *middle], last=len(middle) + 1)[:-1].astype(np.float64)
    highest = logits.max(1, keepdims=True)
    normalised = logits - highest - np.log(np.exp(logits - highest).sum(1, keepdims=True))
    loss = -normalised[np.arange(len(middle)), middle].sum()
    return float(loss), middle, logits.argmax(1).tolist()


def run(items: Sequence[Item], model: str, precision: str, budget: PromptBudget) -> tuple[float, list[int], float]:
    """Return the mean negative log-likelihood a token, all most likely tokens, and the seconds it took."""
    paths = default_paths()
    found = fetch.cached(model, paths)
    if found is None:
        raise SystemExit(f"{model} is not on this machine; fetch it with `intract-lsp models pull {model}`.")
    files = ModelFiles(found.name, found.directory, found.fim_family, quantized_copy(found.directory, paths))
    engine = ModelEngine(lambda name, report, token: files)
    engine.load(LoadOrder(model, precision=precision), lambda sentence, fraction: None, CancelToken())
    began, total, count, best = time.monotonic(), 0.0, 0, list[int]()
    for item in track(items, precision):
        loss, middle, likely = scored(engine, item, budget)
        total, count = total + loss, count + len(middle)
        best += likely
    return total / count, best, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=Path)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--every", type=int, default=1, help="take every n-th item")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "int8"])
    parser.add_argument("--prefix", type=int, default=256)
    parser.add_argument("--suffix", type=int, default=64)
    given = parser.parse_args()
    items = read_items(given.items)[:: given.every]
    results = {}
    first: tuple[float, list[int]] | None = None
    for precision in given.precisions:
        nll, best, seconds = run(items, given.model, precision, PromptBudget(given.prefix, given.suffix))
        first = first or (nll, best)
        same = 100 * sum(a == b for a, b in zip(best, first[1], strict=True)) / len(best)
        change = 100 * (nll / first[0] - 1)
        results[precision] = {"nll": round(nll, 4), "change": round(change, 2), "same_top1": round(same, 1)}
        print(f"{precision:10} {nll:.4f}  {change:+.2f} %  same top token {same:.1f} %  {seconds:.0f} s")
    print(json.dumps({"n": len(items), "tokens": len(best), **results}))


if __name__ == "__main__":
    main()
