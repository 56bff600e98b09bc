#!/usr/bin/env python3
"""What adapters are worth at recorded cursors: the loss of what was written there, and what is suggested.

The base model and each adapter, loaded as a server loads them, take turns at each item; prompts show the file alone.
The likelihood of what was written tells a small change at far fewer items than suggestions do, most of which stay the
same. One line of JSON an adapter: changes against the base with their paired 95 % intervals, losses as shares.

    scripts/bench/adapters.py ITEMS.jsonl --adapter ID --adapter FOLDER --generations 0

An adapter is an id of `intract-lsp adapters list`, or a folder in peft's form that was trained on the same model.
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import setup_bench

from intract_lsp.completion.generation import CancelToken
from intract_lsp.inference.engine import AdapterFiles, AdapterKind
from intract_lsp.models.store import InstalledModel, weights_fingerprint
from intract_lsp.paths import default_paths
from intract_lsp.state import open_state
from intract_lsp.training.adapters import AdapterRegistry
from intract_lsp.training.arms import BASE, loaded, served_files, served_order
from intract_lsp.training.comparison import compare
from intract_lsp.training.measure import Effort, measure, places
from intract_lsp.training.spec import RunSpec, TrainerSpec

RESAMPLES = 10_000


def adapter_files(name: str, model: InstalledModel) -> AdapterFiles:
    """Return the files of an adapter by its id or folder. Raises ``IntractError`` where there is none."""
    if Path(name).is_dir():
        fingerprint = weights_fingerprint(model.directory)
        return AdapterFiles(Path(name).name, Path(name).absolute(), AdapterKind.LORA, model.name, fingerprint)
    data = default_paths().data
    with closing(AdapterRegistry(data, open_state(data / "state.db"))) as registry:
        return registry.files(name)


def main(given: argparse.Namespace) -> None:
    """Measure all versions and print a line for each adapter."""
    model, paths = setup_bench.installed_model(given.model), default_paths()
    trainer = TrainerSpec(threads=given.threads)
    spec = RunSpec("", "", "", model.name, str(model.directory), model.fim_family, trainer=trainer)
    versions: dict[str, AdapterFiles | None] = {BASE: None}
    versions |= {name: adapter_files(name, model) for name in given.adapter}
    at = places(setup_bench.chosen_items(given), None, 0)
    token = CancelToken()
    with loaded(served_files(spec, paths), versions, served_order(spec), lambda sentence, share: None, token) as arms:
        effort = Effort(generations=given.generations)
        measured = measure(arms.by_name, at, token, effort, places_a_turn=arms.places_a_turn)
    facts = {"model": model.name, "precision": arms.card.precision, **setup_bench.machine()}
    for name in given.adapter:
        row: dict[str, Any] = {"adapter": name, "items": str(given.items)}
        for one in compare(BASE, measured[BASE], measured[name], RESAMPLES, 0):
            row |= {f"{one.name}_n": one.n, f"{one.name}_base": one.before, f"{one.name}_adapter": one.after}
            row |= {f"{one.name}_{end}": getattr(one.change, end) for end in ("mean", "low", "high")}
        rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        print(json.dumps({**rounded, **facts}))


if __name__ == "__main__":
    parser = setup_bench.parser(__doc__, rivals=())
    parser.add_argument("--adapter", action="append", required=True, metavar="ID", help="or its folder; repeatable")
    parser.add_argument("--generations", type=int, default=1_000_000, help="items at most with suggestions")
    parser.add_argument("--threads", type=int, default=0, help="0 = as the server would take")
    setup_bench.run("adapters.py", main, parser.parse_args())
