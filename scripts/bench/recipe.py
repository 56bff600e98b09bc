#!/usr/bin/env python3
"""What a fine-tuning brings with other settings: one training each, all of the same time on the same samples.

    scripts/bench/recipe.py PROJECT --minutes 8 --variant prompt_weight=0 --variant learning_rate=5e-4,kl_weight=0.5

Each variant sets fields of ``TrainerSpec``, those of ``LoraSpec`` with ``lora_`` before them, or of ``DataSpec`` with
``data_``; an empty one leaves them as they are. Told are the loss at PROJECT's validation places, with and without
pieces of other files, and on guard code, with the base model's beside it and the 95 % interval of the change. With
--scale what was learnt is weighed by it, on top of the spec's (WiSE-FT, Wortsman et al. 2022). With --foreign the
training is on another project, so that what is PROJECT's own in a gain can be told; with --adapter nothing is trained,
and what lies in that folder is scored. One line of JSON a variant and scale; nothing is added to the adapters of this
machine.
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from intract_lsp.completion.generation import CancelToken
from intract_lsp.completion.prompt import resolve_format
from intract_lsp.evaluation.items import Item
from intract_lsp.inference.healing import Vocabulary
from intract_lsp.inference.tokenizer import load_tokenizer
from intract_lsp.models import fetch
from intract_lsp.paths import default_paths
from intract_lsp.training.batches import usable
from intract_lsp.training.comparison import relative_changes
from intract_lsp.training.guard import guard_items
from intract_lsp.training.losses import Losses
from intract_lsp.training.network import Base, Trainable, attach, load_base
from intract_lsp.training.preparation import RunData, validation_sample
from intract_lsp.training.project import cut_tree
from intract_lsp.training.project_data import read_project
from intract_lsp.training.sample import Sample
from intract_lsp.training.samples import Renderer
from intract_lsp.training.spec import DataSpec, LoraSpec, RunSpec, TrainerSpec
from intract_lsp.training.trainer import TrainOutcome, train

PARTS = {"": TrainerSpec, "lora_": LoraSpec, "data_": DataSpec}
"""What a variant's fields are of, by what their names begin with."""
AROUND = 320
"""Tokens of text about a guard place, or one without pieces."""
RESAMPLES = 10_000


def losses(base: Base, samples: Sequence[Sample]) -> Losses:
    """Return the losses of samples under a model."""
    found = [base.sample_loss(sample) for sample in samples]
    return Losses(tuple(loss for loss, _ in found), tuple(count for _, count in found))


def change(before: Losses, after: Losses) -> dict[str, Any]:
    """Return means, and by how many percent the sum has changed with its paired bootstrap interval (Efron 1979)."""
    low, high = 100 * np.quantile(relative_changes(before.sums, after.sums, RESAMPLES, 0), [0.025, 0.975])
    return {
        "n": len(before.sums),
        "base": round(before.mean, 4),
        "adapter": round(after.mean, 4),
        "change": round(100 * (after.mean / before.mean - 1), 2),
        "interval": [round(float(low), 2), round(float(high), 2)],
    }


class Sets:
    """The samples that every variant is scored by, with the base model's losses."""

    def __init__(self, spec: RunSpec, data: RunData, places: int, base: Base) -> None:
        """Take at most ``places`` of each kind."""
        tokenizer = load_tokenizer(Path(spec.model_directory))
        fim, _ = resolve_format(spec.fim_family, tokenizer)
        length = spec.trainer.context_length
        renderer = Renderer(fim, tokenizer, Vocabulary(tokenizer.token_bytes()).spells, length)

        def rendered(items: Sequence[Item]) -> list[Sample]:
            found = (validation_sample(item, renderer, AROUND, None) for item in items)
            return usable([sample for sample in found if sample is not None], length)

        chosen = random.Random(1)
        guard = rendered(guard_items())
        chosen.shuffle(guard)
        self._samples = {
            "with_pieces": usable(data.validation, length)[:places],
            "alone": rendered(data.validation_items)[:places],
            "guard": guard[:places],
        }
        self._before = {name: losses(base, samples) for name, samples in self._samples.items()}

    def changes(self, base: Base) -> dict[str, dict[str, Any]]:
        """Return what has changed under what was trained."""
        return {name: change(self._before[name], losses(base, samples)) for name, samples in self._samples.items()}


def trained(spec: RunSpec, data: RunData, base: Base, output: Path) -> TrainOutcome:
    """Train ``base`` without validations, so that each variant has all of its time for steps."""
    with tempfile.TemporaryDirectory(prefix="intract-recipe-") as checkpoints:
        given = data.train, [], data.replay, output, Path(checkpoints)
        return train(spec, *given, lambda event: None, CancelToken(), base)


def load_adapter(spec: RunSpec, folder: Path) -> Trainable:
    """Return the base model with an adapter, in peft's format, beside it."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    lora = LoraSpec(config["r"], config["lora_alpha"], target_modules=tuple(config["target_modules"]))
    trainable = attach(load_base(spec), replace(spec, trainer=replace(spec.trainer, lora=lora)))
    trainable.load(load_file(folder / "adapter_model.safetensors"))
    return trainable


def variant(text: str) -> dict[str, Any]:
    """Return the fields that a variant sets. Raises ``argparse.ArgumentTypeError``."""
    known = {
        prefix + field.name: type(field.default)
        for prefix, part in PARTS.items()
        for field in fields(part)
        if type(field.default) in (int, float)
    }
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(sorted(known))}.")
        found[name] = known[name](value)
    return found


def with_settings(spec: RunSpec, settings: dict[str, Any]) -> RunSpec:
    """Return the spec as a variant has it; a rank without an alpha keeps what the matrices weigh."""
    if "lora_r" in settings:
        settings = {"lora_alpha": 2 * settings["lora_r"], **settings}

    def of(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in settings.items() if name.startswith(prefix)}

    plain = {name: value for name, value in settings.items() if not name.startswith(("lora_", "data_"))}
    lora = replace(spec.trainer.lora, **of("lora_"))
    return replace(spec, trainer=replace(spec.trainer, lora=lora, **plain), data=replace(spec.data, **of("data_")))


def main(arguments: argparse.Namespace) -> None:
    paths = default_paths()
    model = fetch.cached(arguments.model, paths)
    if model is None:
        raise SystemExit(f"{arguments.model} is not here: run `intract-lsp models pull {arguments.model}`.")
    with tempfile.TemporaryDirectory(prefix="intract-recipe-") as folder:
        spec = RunSpec(
            id="recipe",
            workspace=str(arguments.project.absolute()),
            folder=folder,
            model=model.name,
            model_directory=str(model.directory),
            fim_family=model.fim_family,
            trainer=TrainerSpec(minutes=arguments.minutes, batch_size=4, threads=arguments.threads),
        )
        base = load_base(spec)

        def data_of(spec: RunSpec) -> RunData:
            index = Path(folder) / "index"
            return read_project(spec, cut_tree(spec), index, base.text_loss, lambda s, f: None, CancelToken())[0]

        project = data_of(spec)
        source = str((arguments.foreign or arguments.project).absolute())
        usual = data_of(replace(spec, workspace=source)) if arguments.foreign else project
        sets = Sets(spec, project, arguments.places, base)
        names: dict[str, Any] = {"project": arguments.project.name, "model": model.name}

        def tell(adapter: Path, row: dict[str, Any]) -> None:
            trainable = load_adapter(spec, adapter)
            for scale in arguments.scale or [1.0]:
                trainable.set_scale(scale)
                print(json.dumps({**names, **row, "scale": scale, **sets.changes(trainable.base)}), flush=True)

        if arguments.adapter:
            tell(arguments.adapter, {"adapter": arguments.adapter.name})
            return
        names |= {"trained_on": (arguments.foreign or arguments.project).name, "minutes": arguments.minutes}
        for number, settings in enumerate(arguments.variant or [{}]):
            changed = with_settings(spec, settings)
            output = Path(folder) / f"adapter-{number}"
            learnt = usual if changed.data == spec.data else data_of(replace(changed, workspace=source))
            outcome = trained(changed, learnt, load_base(changed), output)
            speed = {"tokens": outcome.tokens, "tokens_per_second": round(outcome.tokens_per_second, 1)}
            tell(output, {**settings, "steps": outcome.steps, **speed})


def parsed() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("project", type=Path, metavar="PROJECT")
    made.add_argument("--foreign", type=Path, metavar="DIR", help="another project to train on")
    made.add_argument("--adapter", type=Path, metavar="DIR", help="an adapter in peft's format, scored as it is")
    made.add_argument("--variant", type=variant, action="append", metavar="NAME=VALUE,...", help="repeatable")
    made.add_argument("--scale", type=float, action="append", metavar="X", help="of what was learnt; repeatable")
    made.add_argument("--minutes", type=float, default=8.0, help="of each training")
    made.add_argument("--places", type=int, default=40, help="of each kind, for scoring")
    made.add_argument("--threads", type=int, default=0, help="0 = one for each core")
    made.add_argument("--model", default="auto")
    return made.parse_args()


if __name__ == "__main__":
    main(parsed())
