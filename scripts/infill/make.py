#!/usr/bin/env python3
"""Makes the adapter that teaches an instruct model to fill in, from code of no project of the user's.

The Python package index has Qwen2.5-Coder 0.5B as an instruct model only, which fills in worse than a base model would.
What a fine-tuning run on any project taught it first was filling in at all, whichever project it was; so that is
taught once, here, and comes with the model (``intract_lsp/models/infill``). Samples are the holes that a run draws,
prompted as serving does, half of them with pieces of other files.

``corpus.json`` names the repositories, all under permissive licences, each at one commit. They are cloned with git,
and of each a fixed choice of files is taken. Needs ``git`` and a network, or git's ``url.*.insteadOf`` pointing at
clones. The last line is one JSON object.

    scripts/infill/make.py --minutes 60 --out DIR
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from intract_lsp.completion.generation import CancelToken
from intract_lsp.inference.adapted import LORA_CONFIG, LORA_WEIGHTS
from intract_lsp.models import fetch
from intract_lsp.paths import default_paths
from intract_lsp.training.events import Event, Note, Step, Validated
from intract_lsp.training.network import load_base
from intract_lsp.training.project import cut_tree
from intract_lsp.training.project_data import read_project
from intract_lsp.training.spec import DataSpec, LoraSpec, RunSpec, TrainerSpec
from intract_lsp.training.trainer import train

MODEL = "qwen2.5-coder-0.5b-instruct"
SIZES = range(1_200, 45_000)
"""Bytes of a file that is taken."""
LEFT_OUT = ("third", "vendor", "generated", "locales/", "_emoji", "min.js", "gtest", "gmock")
"""In a path, in small letters: code that is not the repository's own, or that nobody writes."""
TESTS = 0.15
"""Of the files, where there are enough others: tests are much alike."""


def gather(entry: dict[str, Any], folder: Path) -> int:
    """Put a repository's chosen files below ``folder`` and return how many there are."""
    name = entry["repository"].rpartition("/")[2]
    with tempfile.TemporaryDirectory() as clone:

        def git(*arguments: str) -> bytes:
            return subprocess.run(["git", "-C", clone, *arguments], check=True, capture_output=True).stdout

        git("init", "--quiet")
        git("fetch", "--quiet", "--depth", "1", entry["repository"], entry["commit"])
        sizes = {}
        for line in git("ls-tree", "-r", "-l", entry["commit"]).decode().splitlines():
            details, path = line.split("\t", 1)
            sizes[path] = details.split()[3]
        taken = chosen(entry, sizes)
        for path in taken:
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(git("show", f"{entry['commit']}:{path}"))
    return len(taken)


def chosen(entry: dict[str, Any], sizes: dict[str, str]) -> list[str]:
    """Return which of a commit's files are taken, in an order that their names' hashes give."""
    fit = [
        path
        for path, size in sizes.items()
        if path.endswith(tuple(entry["suffixes"])) and size.isdecimal() and int(size) in SIZES
        if not any(word in path.lower() for word in LEFT_OUT)
    ]
    fit.sort(key=lambda path: hashlib.sha256(path.encode()).digest())
    tests = [path for path in fit if "test" in path.lower()]
    others = [path for path in fit if "test" not in path.lower()]
    wanted: int = entry["files"]
    few = min(len(tests), max(wanted - len(others), round(wanted * TESTS)))
    return others[: wanted - few] + tests[:few]


def tell(event: Event) -> None:
    if isinstance(event, Step) and event.step % 5 == 0:
        left = event.seconds_left / 60
        print(f"step {event.step} of {event.steps}, {event.tokens_per_second:.0f} tokens/s, {left:.0f} min", flush=True)
    elif isinstance(event, Validated):
        print(f"validated after step {event.step}: {event.loss:.4f}", flush=True)
    elif isinstance(event, Note):
        print(event.sentence, flush=True)


def main(arguments: argparse.Namespace) -> None:
    model = fetch.cached(MODEL, default_paths())
    if model is None:
        raise SystemExit(f"{MODEL} is not here: run `intract-lsp models pull {MODEL}`.")
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        for entry in json.loads(arguments.corpus.read_text(encoding="utf-8")):
            print(f"{entry['repository']} ({entry['licence']}): {gather(entry, corpus)} files", flush=True)
        spec = RunSpec(
            id="infill",
            workspace=str(corpus),
            folder=scratch,
            model=model.name,
            model_directory=str(model.directory),
            fim_family=model.fim_family,
            data=DataSpec(use_ntp=False),
            trainer=TrainerSpec(
                lora=LoraSpec(r=arguments.rank, alpha=2 * arguments.rank, dropout=0.05),
                # Hundreds of steps, of which all that is learnt is wanted: as the shipped adapter was made.
                learning_rate=2e-4,
                scale=1.0,
                prompt_weight=0.0,
                kl_weight=0.05,
                minutes=arguments.minutes,
                batch_size=4,
                threads=arguments.threads,
            ),
        )
        base, token = load_base(spec), CancelToken()
        data, _ = read_project(
            spec, cut_tree(spec), Path(scratch) / "index", base.text_loss, lambda sentence, done: None, token
        )
        print(json.dumps(data.plan.values()), flush=True)
        target, state = Path(scratch) / "adapter", Path(scratch) / "checkpoints"
        outcome = train(spec, data.train, data.validation, data.replay, target, state, tell, token, base)
        shrink(target, arguments.out)
    print(json.dumps(asdict(outcome)))


def shrink(adapter: Path, out: Path) -> None:
    """Copy an adapter, its weights in float16: it is shipped."""
    out.mkdir(parents=True, exist_ok=True)
    (out / LORA_CONFIG).write_bytes((adapter / LORA_CONFIG).read_bytes())
    tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(adapter / LORA_WEIGHTS).items()}
    save_file(tensors, out / LORA_WEIGHTS, {"format": "pt"})


def parsed() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--corpus", type=Path, default=Path(__file__).with_name("corpus.json"))
    made.add_argument("--out", type=Path, required=True, help="the adapter's directory, in peft's format")
    made.add_argument("--minutes", type=float, default=60.0)
    made.add_argument("--rank", type=int, default=8)
    made.add_argument("--threads", type=int, default=0, help="0 = one for each physical core")
    return made.parse_args()


if __name__ == "__main__":
    main(parsed())
