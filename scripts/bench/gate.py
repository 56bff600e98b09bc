#!/usr/bin/env python3
"""Whether the gate of fine-tuning lets through what no project has taught: foreign code, shuffled code, noise, nothing.

For each seed an adapter is trained as a run on PROJECT trains it, early stop by PROJECT's own validation places
included, but on something else, and the gate judges it at PROJECT's newest code:

foreign   the code of another project, as it is
shuffled  the same, the lines of each file in any order
noise     files of random words
nothing   no training: the base with low-rank matrices of next to nothing (an A/A run)

The base model, which is the same for each seed, is measured at a place once; the gate's rule on speed, for which both
would have to answer at the same time, is thereby left out. A kind that leaves too little to train on is refused before
any training, as a run would be. The last line is one JSON object; nothing is added to the adapters of this machine.
With --steps in place of --minutes a busy machine trains as much as a quiet one.

    scripts/bench/gate.py PROJECT --kind foreign --foreign DIR --seeds 10 --minutes 4
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
import random
import string
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.inference.engine import AdapterFiles, AdapterKind
from intract_lsp.models import fetch
from intract_lsp.models.store import adapted_copy, weights_fingerprint
from intract_lsp.paths import Paths, default_paths
from intract_lsp.training.arm import Answer, Arm
from intract_lsp.training.arms import BASE, CANDIDATE, Arms, loaded, served_files, served_order
from intract_lsp.training.budget import measuring_seconds
from intract_lsp.training.gate import Status, Verdict
from intract_lsp.training.lightening import judge_candidate
from intract_lsp.training.lora import write_files
from intract_lsp.training.measure import Place
from intract_lsp.training.network import attach, load_base
from intract_lsp.training.preparation import RunData
from intract_lsp.training.project import cut_tree
from intract_lsp.training.project_data import read_project
from intract_lsp.training.spec import DataSpec, RunSpec, TrainerSpec
from intract_lsp.training.trainer import train

FILES, LINES = 60, 200
"""Of noise."""
NEXT_TO_NOTHING = 1e-5
"""Standard deviation of the second matrix of an adapter that was not trained."""


def data_of(spec: RunSpec, scratch: Path) -> tuple[RunData, tuple[Place, ...]]:
    """Return what a run of ``spec`` would learn from, and the places where it would be measured."""
    loss_of = load_base(spec).text_loss
    return read_project(spec, cut_tree(spec), scratch, loss_of, lambda sentence, done: None, CancelToken())


def write_shuffled(source: Path, target: Path, chance: random.Random) -> None:
    """Copy a folder's text files, the lines of each in any order."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and ".git" not in path.relative_to(source).parts:
            try:
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            except UnicodeDecodeError:
                continue
            chance.shuffle(lines)
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("".join(lines), encoding="utf-8")


def write_noise(target: Path, chance: random.Random) -> None:
    """Write files of random words, set out like code."""

    def word() -> str:
        return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9)))

    for number in range(FILES):
        lines = (
            " " * 4 * chance.randint(0, 3) + " ".join(word() for _ in range(chance.randint(1, 9))) for _ in range(LINES)
        )
        (target / f"{word()}{number}.py").write_text("\n".join(lines) + "\n", encoding="utf-8")


def train_on(kind: str, spec: RunSpec, project: RunData, foreign: Path | None, scratch: Path) -> Path:
    """Train on something else than the project and return the adapter's directory. Raises ``TrainingError``."""
    chance = random.Random(spec.trainer.seed)
    target = scratch / "adapter"
    if kind == "nothing":
        torch.manual_seed(spec.trainer.seed)
        trainable = attach(load_base(spec), spec)
        trainable.load(
            {
                name: torch.randn_like(tensor) * NEXT_TO_NOTHING if ".lora_B" in name else tensor
                for name, tensor in trainable.tensors().items()
            }
        )
        assert trainable.adapter is not None
        target.mkdir()
        write_files(trainable.adapter, target, spec.model, 1.0)
        return target
    folder = scratch / "else"
    folder.mkdir()
    if kind == "noise":
        write_noise(folder, chance)
    elif kind == "shuffled":
        assert foreign is not None
        write_shuffled(foreign, folder, chance)
    else:
        assert foreign is not None
        folder = foreign
    data, _ = data_of(replace(spec, workspace=str(folder)), scratch / "index")
    train(
        spec,
        data.train,
        project.validation,
        data.replay,
        target,
        scratch / "checkpoints",
        lambda event: None,
        CancelToken(),
    )
    return target


class Remembered:
    """An arm that answers each question once, and from memory whenever that is asked again.

    How fast it was is not told: the candidates answer at another time, when the machine may have been busier.
    """

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._answers: dict[CompletionContext, Answer] = {}
        self._likelihoods: dict[tuple[CompletionContext, str], tuple[float, int]] = {}

    def complete(self, context: CompletionContext) -> Answer:
        """See ``Arm.complete``."""
        if context not in self._answers:
            self._answers[context] = replace(self._arm.complete(context), tokens=0, milliseconds=0.0)
        return self._answers[context]

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        """See ``Arm.likelihood``."""
        if (context, middle) not in self._likelihoods:
            self._likelihoods[context, middle] = self._arm.likelihood(context, middle)
        return self._likelihoods[context, middle]


def judged(spec: RunSpec, adapter: AdapterFiles, base: Arms, at: tuple[Place, ...], paths: Paths) -> Verdict:
    """Return the gate's verdict on an adapter."""
    files = served_files(spec, paths)
    token = CancelToken()

    @contextmanager
    def load() -> Iterator[Arms]:
        with loaded(files, {CANDIDATE: adapter}, served_order(spec), lambda s, f: None, token) as arms:
            yield Arms({**base.by_name, **arms.by_name}, base.card)

    try:
        seconds = measuring_seconds(spec.trainer.minutes)
        return judge_candidate(load, adapter, at, (), lambda event: None, token, seconds).verdict
    finally:
        if files.quantized is not None:
            adapted_copy(files.quantized, adapter.id).unlink(missing_ok=True)


@contextmanager
def remembered_base(spec: RunSpec, paths: Paths) -> Iterator[Arms]:
    """Load the base model, for all seeds."""
    with loaded(served_files(spec, paths), {BASE: None}, served_order(spec), lambda s, f: None, CancelToken()) as arms:
        yield Arms({BASE: Remembered(arms.by_name[BASE])}, arms.card)


def main(arguments: argparse.Namespace) -> None:
    paths = default_paths()
    model = fetch.cached(arguments.model, paths)
    if model is None:
        raise SystemExit(f"{arguments.model} is not here: run `intract-lsp models pull {arguments.model}`.")
    if arguments.kind in ("foreign", "shuffled") and arguments.foreign is None:
        raise SystemExit(f"--kind {arguments.kind} needs --foreign DIR.")
    rows = []
    with tempfile.TemporaryDirectory(prefix="intract-gate-") as folder:
        scratch = Path(folder)
        spec = RunSpec(
            id="gate",
            workspace=str(arguments.project.absolute()),
            folder=str(scratch),
            model=model.name,
            model_directory=str(model.directory),
            fim_family=model.fim_family,
            data=DataSpec(held_out=arguments.held_out),
            trainer=TrainerSpec(
                minutes=0.0 if arguments.steps else arguments.minutes,
                steps=arguments.steps,
                batch_size=4,
                threads=arguments.threads,
            ),
        )
        project, at = data_of(spec, scratch / "index")
        fingerprint = weights_fingerprint(model.directory)
        with remembered_base(spec, paths) as base:
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                began = time.monotonic()
                place = scratch / str(seed)
                place.mkdir()
                seeded = replace(spec, folder=str(place), trainer=replace(spec.trainer, seed=seed))
                try:
                    trained = train_on(arguments.kind, seeded, project, arguments.foreign, place)
                    adapter = AdapterFiles(f"gate-{seed}", trained, AdapterKind.LORA, model.name, fingerprint)
                    verdict = judged(seeded, adapter, base, at, paths)
                    row = {"seed": seed, "status": verdict.status.value, "reasons": verdict.reasons, **verdict.figures}
                except TrainingError as error:
                    row = {"seed": seed, "status": "refused", "reasons": [str(error)]}
                row["seconds"] = round(time.monotonic() - began)
                rows.append(row)
                print(json.dumps(row), flush=True)
    promoted = sum(row["status"] == Status.PROMOTED.value for row in rows)
    found = {"kind": arguments.kind, "n": len(rows), "promoted": promoted, "model": model.name}
    limit = {"steps": arguments.steps} if arguments.steps else {"minutes": arguments.minutes}
    print(json.dumps({**found, **limit, "project": arguments.project.name}))


def parsed() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("project", type=Path, metavar="PROJECT")
    made.add_argument("--kind", choices=("foreign", "shuffled", "noise", "nothing"), default="shuffled")
    made.add_argument("--foreign", type=Path, metavar="DIR", help="another project")
    made.add_argument("--seeds", type=int, default=10)
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--minutes", type=float, default=4.0, help="of training, for each seed")
    made.add_argument("--steps", type=int, default=0, help="of training, in place of minutes")
    made.add_argument("--held-out", type=int, default=300, help="most places in the newest code; half are the gate's")
    made.add_argument("--threads", type=int, default=0, help="0 = as the server would take")
    made.add_argument("--model", default="auto")
    return made.parse_args()


if __name__ == "__main__":
    main(parsed())
