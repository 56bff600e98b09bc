#!/usr/bin/env python3
"""What finds the code that a line is about to use: words (BM25), meaning (an embedder), or both.

An item counts whose line uses names that its file does not have and some other file of its repository does. Its
workspace is indexed at the item's parent commit; the pieces of all other files are ranked by BM25 as completions ask
it, by the cosine of an embedder's vectors, and by both (reciprocal ranks, Cormack 2009). Recall is the share of such
names that stand in the first k pieces; of those that a piece defines, the share whose definition is among them.

An embedder is a folder with a transformers model, mean pooled; with ``:static`` behind it only its table of token
embeddings is used, without the layers. A completion model's own folder will do.

    scripts/bench/recall.py commit-replay.jsonl --repositories CLONES --embedder MINILM --embedder QWEN:static
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import setup_bench
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from intract_lsp.errors import IntractError
from intract_lsp.evaluation.items import Item, read_items
from intract_lsp.evaluation.workspaces import Workspaces
from intract_lsp.index.chunk import SourceChunk
from intract_lsp.index.query import query_weights
from intract_lsp.index.status import IndexedFolder
from intract_lsp.index.worker import IndexWorker

CUTS = (4, 8, 16)
RANKED = 64
"""Pieces that each way ranks."""
RRF = 60
MOST_TOKENS = 128
"""Of a piece that an embedder reads."""
BATCH = 32
LINES_ABOVE = 12
LINES_BELOW = 3
"""Lines above and below the cursor that an embedder is asked with."""
NAME = re.compile(r"[A-Za-z_]\w{2,}")

Ranking = list[SourceChunk]


class Embedder:
    """Vectors of texts, each text's computed once."""

    def __init__(self, spec: str) -> None:
        """``spec`` is a folder, with ``:static`` behind it where its layers are not to be used."""
        folder, _, how = spec.partition(":")
        self.name = f"{Path(folder).name} {how}".strip()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self._model = model.get_input_embeddings() if how == "static" else model
        self._static = how == "static"
        self._known: dict[str, NDArray[np.float32]] = {}
        self._pool: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self.seconds = 0.0

    def __len__(self) -> int:
        """Return of how many pieces there are vectors."""
        return len(self._known)

    def rank(self, item: Item, chunks: Sequence[SourceChunk]) -> Ranking:
        """Return the pieces nearest to what stands around an item's cursor; ``prepare`` comes first."""
        above, below = lines_around(item)
        asked = "\n".join([*with_text(above)[-LINES_ABOVE:], *with_text(below)[:LINES_BELOW]])
        order = np.argsort(-(self._pool @ self._embed([asked])[0]))
        return [chunks[number] for number in order[:RANKED].tolist()]

    def prepare(self, chunks: Sequence[SourceChunk]) -> None:
        """Compute the vectors of new texts, those of one length together, and have all ready to be ranked."""
        new = sorted({chunk.text for chunk in chunks} - self._known.keys(), key=len)
        began = time.perf_counter()
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self._known.update(zip(batch, self._embed(batch), strict=True))
        self.seconds += time.perf_counter() - began
        self._pool = np.stack([self._known[chunk.text] for chunk in chunks])

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
        hidden = self._model(batch["input_ids"]) if self._static else self._model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        found: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return found


def lines_around(item: Item) -> tuple[list[str], list[str]]:
    """Return the lines above and below the cursor's line."""
    return item.prefix.split("\n")[:-1], item.suffix.split("\n")[1:]


def with_text(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.strip()]


def fused(rankings: Sequence[Ranking]) -> Ranking:
    """Return the pieces by the sum of their reciprocal ranks."""
    scores: dict[SourceChunk, float] = defaultdict(float)
    for ranking in rankings:
        for rank, chunk in enumerate(ranking, start=1):
            scores[chunk] += 1 / (RRF + rank)
    return sorted(scores, key=lambda chunk: -scores[chunk])


def names_of(text: str) -> set[str]:
    return set(NAME.findall(text))


def defined_in(chunks: Sequence[SourceChunk]) -> set[str]:
    """Return the names that pieces define: the last part of their symbols."""
    return {re.split(r"[.:#]", chunk.symbol)[-1] for chunk in chunks}


class Recall:
    """What each way found of the names that were to be found."""

    def __init__(self) -> None:
        self.shares: dict[str, list[float]] = defaultdict(list)
        self.milliseconds: dict[str, list[float]] = defaultdict(list)
        self.pool: list[int] = []

    def add(self, item: Item, chunks: Sequence[SourceChunk], ways: dict[str, Callable[[], Ranking]]) -> None:
        """Rank the pieces for an item, unless its line uses no name that only they have."""
        missing = names_of(item.truth_line) - names_of(item.prefix + item.suffix)
        named = missing & names_of("\n".join(chunk.text for chunk in chunks))
        if not named:
            return
        defined = named & defined_in(chunks)
        self.pool.append(len(chunks))
        rankings: dict[str, Ranking] = {}
        for way, rank in ways.items():
            began = time.perf_counter()
            rankings[way] = rank()
            self.milliseconds[way].append(1000 * (time.perf_counter() - began))
        words, *others = ways
        rankings.update({f"{words} and {way}": fused([rankings[words], rankings[way]]) for way in others})
        for way, ranking in rankings.items():
            for cut in CUTS:
                text = "\n".join(chunk.text for chunk in ranking[:cut])
                self.shares[f"{way}, named in {cut}"].append(len(named & names_of(text)) / len(named))
                if defined:
                    found = defined & defined_in(ranking[:cut])
                    self.shares[f"{way}, defined in {cut}"].append(len(found) / len(defined))


def pieces(folder: IndexedFolder, item: Item) -> list[SourceChunk]:
    """Return the pieces of all files but the item's own."""
    return [chunk for path in folder.symbols.files if path != item.path for chunk in folder.store.chunks_of(path)]


def by_words(folder: IndexedFolder, item: Item) -> Ranking:
    above, below = lines_around(item)
    return [hit.chunk for hit in folder.store.search(query_weights(above, below), RANKED, (item.path,))]


def ways_of(
    folder: IndexedFolder, item: Item, chunks: list[SourceChunk], embedders: Sequence[Embedder]
) -> dict[str, Callable[[], Ranking]]:
    """Return each way of ranking, by its name; words come first."""
    ways: dict[str, Callable[[], Ranking]] = {"BM25": lambda: by_words(folder, item)}
    ways.update({one.name: partial(one.rank, item, chunks) for one in embedders})
    return ways


def main(arguments: argparse.Namespace) -> None:
    """Rank for each item and print what was found."""
    items = [item for item in read_items(arguments.items) if item.crossfile is not False]
    items = items[:: arguments.every][: arguments.limit]
    embedders = [Embedder(spec) for spec in arguments.embedder]
    recall = Recall()
    with tempfile.TemporaryDirectory(prefix="intract-recall-") as scratch:
        workspaces = Workspaces(arguments.repositories, Path(scratch) / "trees")
        index = IndexWorker(Path(scratch) / "index", Path(scratch) / "state.db", 20_000, lambda: False, watch=False)
        index.start()
        shown: Path | None = None
        try:
            for item in setup_bench.progress(items, "items", len(items)):
                root, changed = workspaces.folder(item)
                if root == shown:
                    index.note(changed)
                else:
                    index.set_folders([root])
                shown = root
                index.settled().result()
                (folder,) = index.folders()
                chunks = pieces(folder, item)
                for one in embedders:
                    one.prepare(chunks)
                recall.add(item, chunks, ways_of(folder, item, chunks, embedders))
        finally:
            index.stop()
    if not recall.pool:
        raise IntractError(f"{arguments.items} has no item whose line uses a name that only other files have.")
    show(recall, embedders)


def show(recall: Recall, embedders: Sequence[Embedder]) -> None:
    """Print a row a way and cut."""
    figures: dict[str, Any] = {"n": len(recall.pool), "pieces": float(np.mean(recall.pool))}
    rows = []
    for key, shares in recall.shares.items():
        figures[key], figures[f"{key} n"] = 100 * float(np.mean(shares)), len(shares)
        rows.append((f"{key} %", key, f"{key} n"))
    for way, found in recall.milliseconds.items():
        figures[f"{way}, ms"] = float(np.median(found))
        rows.append((f"{way}, median ms", f"{way}, ms", "n"))
    for one in embedders:
        figures[f"{one.name}, pieces a second"] = len(one) / max(one.seconds, 1e-9)
        figures[f"{one.name}, pieces"] = len(one)
        rows.append((f"{one.name}, pieces a second", f"{one.name}, pieces a second", f"{one.name}, pieces"))
    setup_bench.report("Finding what a line is about to use", rows, {**figures, **setup_bench.machine()})


def parsed() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("items", type=Path, metavar="ITEMS.jsonl")
    made.add_argument("--repositories", type=Path, required=True, metavar="DIR", help="git clones, one a repository")
    made.add_argument("--embedder", action="append", default=[], metavar="DIR[:static]", help="repeatable")
    made.add_argument("--limit", type=int, metavar="N", help="N items at most")
    made.add_argument("--every", type=int, default=1, metavar="N", help="take every n-th item")
    return made.parse_args()


if __name__ == "__main__":
    try:
        main(parsed())
    except IntractError as error:
        sys.exit(f"recall.py: {error}")
