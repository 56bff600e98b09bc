#!/usr/bin/env python3
"""How fast low-rank fine-tuning is, and in how much memory, against a plain script of transformers' Trainer and peft.

Both train the same samples in the same batches with the same rank, optimiser and threads, each in a process of its own,
in turns. The plain script is what one writes after the documentation: ``AutoModelForCausalLM`` in float32 (or, with
``--plain bfloat16``, in bfloat16), ``get_peft_model`` with LoRA on all linear layers, ``Trainer`` on batches padded to
their longest sample, labels of -100 where nothing is to be learnt. It takes two samples at a time and accumulates their
gradients, which is kind to it: with all eight at once it pads more and a 0.5B model takes more than 20 GiB. With
``--plain both`` each is measured, and the ratios are those against float32. Samples are holes in the Python files of a
folder, prompted as serving does, of mixed lengths. Tokens are those of the samples, padding not counted; loading and
the first step are left out of the time, and the peak is the process's resident memory. On a busy machine the ratio of
tokens a processor second (with one thread) says more than that of the time. The last line is one JSON object.

With ``--burners`` so many other processes burn a core each meanwhile, and what trains has the lowest priority, as a run
has; ours is then measured twice, as it leaves the others' cores alone and with as many threads as ever.

    scripts/bench/training.py --steps 4 --rounds 2
"""

from __future__ import annotations

import sys

# Beside this script lies typing.py, which must not stand in for the standard module.
sys.path.append(sys.path.pop(0))

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from burners import Burners

from intract_lsp.completion.generation import CancelToken, PromptBudget
from intract_lsp.completion.prompt import PromptSource, encode_text, render, resolve_format
from intract_lsp.inference.threads import physical_cores
from intract_lsp.inference.tokenizer import load_tokenizer
from intract_lsp.models import fetch
from intract_lsp.paths import default_paths
from intract_lsp.training.sample import Sample, SampleKind
from intract_lsp.training.spec import DataSpec, LoraSpec, RunSpec, TrainerSpec

OURS, FIXED = "lean", "lean, as many threads as ever"
LOWEST = 19
"""Priority of a run's process."""
PLAIN = {"float32": ["float32"], "bfloat16": ["bfloat16"], "both": ["float32", "bfloat16"]}
RATE = 2e-4
LORA = LoraSpec()


def make_samples(folder: Path, model: Any, count: int, context_length: int) -> list[Sample]:
    """Return holes at lines of the folder's Python files, with prompts of a quarter, a half or all of the length."""
    tokenizer = load_tokenizer(model.directory)
    fim, _ = resolve_format(model.fim_family, tokenizer)
    chosen = random.Random(0)
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))]
    texts = [text for text in texts if text.count("\n") > 20]
    samples = []
    while len(samples) < count:
        lines = chosen.choice(texts).splitlines(keepends=True)
        row = chosen.randrange(len(lines))
        head = lines[row][: len(lines[row]) - len(lines[row].lstrip())]
        middle = encode_text(lines[row].strip(), tokenizer)[:64]
        if not middle:
            continue
        room = context_length // chosen.choice((1, 2, 4)) - len(middle) - 8
        source = PromptSource("".join(lines[:row]) + head, "\n" + "".join(lines[row + 1 :]))
        prompt = render(fim, source, PromptBudget(room * 4 // 5, room // 5), tokenizer)
        samples.append(Sample((*prompt.ids, *middle), len(prompt.ids), SampleKind.LINE))
    return samples


def run_ours(given: argparse.Namespace, directory: Path, samples: list[Sample]) -> dict[str, float]:
    from intract_lsp.training.events import Event, Step
    from intract_lsp.training.trainer import train

    seen: list[tuple[float, float, int, float]] = []

    def note(event: Event) -> None:
        if isinstance(event, Step):
            seen.append((time.monotonic(), time.process_time(), event.tokens, event.loss))

    with tempfile.TemporaryDirectory() as folder:
        spec = RunSpec(
            id="bench",
            workspace=folder,
            folder=folder,
            model=given.model,
            model_directory=str(directory),
            fim_family="",
            data=DataSpec(context_length=given.context_length),
            trainer=TrainerSpec(
                lora=LORA,
                learning_rate=RATE,
                minutes=0,
                steps=given.steps + 1,
                batch_size=given.batch,
                context_length=given.context_length,
                threads=0 if given.burners and given.side == OURS else given.threads,
            ),
        )
        target, state = Path(folder) / "adapter", Path(folder) / "checkpoints"
        outcome = train(spec, samples, [], [], target, state, note, CancelToken())
    seconds, processor, tokens = (seen[-1][index] - seen[0][index] for index in range(3))
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_cpu_second": tokens / processor,
        "peak_memory": outcome.peak_memory,
        "loss": seen[-1][3],
    }


def run_plain(given: argparse.Namespace, directory: Path, samples: list[Sample], dtype: str) -> dict[str, float]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from intract_lsp.training.batches import Order
    from intract_lsp.training.ladder import peak_memory

    torch.set_num_threads(given.threads)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype), local_files_only=True)
    model = get_peft_model(
        model,
        LoraConfig(
            r=LORA.r,
            lora_alpha=LORA.alpha,
            lora_dropout=LORA.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    order = Order(len(samples), 0, 0.0, given.batch, 0)
    dealt = [samples[index] for step in range(given.steps + 1) for _, index in order.batch(step)]
    times: list[tuple[float, float]] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append((time.monotonic(), time.process_time()))

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(len(one["input_ids"]) for one in batch)
        fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        return {
            name: torch.tensor([one[name] + [value] * (longest - len(one[name])) for one in batch])
            for name, value in fill.items()
        }

    rows = [
        {
            "input_ids": list(sample.ids),
            "labels": [-100] * sample.supervised_from + list(sample.ids[sample.supervised_from :]),
            "attention_mask": [1] * len(sample.ids),
        }
        for sample in dealt
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=given.plain_batch,
                gradient_accumulation_steps=given.batch // given.plain_batch,
                max_steps=given.steps + 1,
                learning_rate=RATE,
                weight_decay=0.01,
                train_sampling_strategy="sequential",
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=rows,
            data_collator=collate,
            callbacks=[Watch()],
        )
        result = trainer.train()
    tokens = sum(len(sample.ids) for sample in dealt[given.batch :])
    return {
        "tokens_per_second": tokens / (times[-1][0] - times[0][0]),
        "tokens_per_cpu_second": tokens / (times[-1][1] - times[0][1]),
        "peak_memory": peak_memory(torch.device("cpu")),
        "loss": float(result.training_loss),
    }


def measure(given: argparse.Namespace, which: str) -> dict[str, float]:
    """Run one side in a process of its own and return what it says last."""
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--side", which]
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    rate, peak = found["tokens_per_second"], found["peak_memory"] / 2**30
    print(f"{which}: {rate:.1f} tokens/s, {peak:.2f} GiB, last loss {found['loss']:.3f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[2] / "intract_lsp")
    parser.add_argument("--steps", type=int, default=4, help="that count; one more is taken before")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--plain-batch", type=int, default=2, help="of the plain script, accumulated to --batch")
    parser.add_argument("--context-length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--plain", choices=sorted(PLAIN), default="float32")
    parser.add_argument("--burners", type=int, default=0, help="other processes that burn a core each")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    found = fetch.cached(given.model, default_paths())
    if found is None:
        raise SystemExit(
            f"{given.model} is not on this machine; fetch it with `intract-lsp models pull {given.model}`."
        )
    if given.side:
        if given.burners:
            os.nice(LOWEST)
        samples = make_samples(given.folder, found, given.batch * (given.steps + 1), given.context_length)
        ours = given.side in (OURS, FIXED)
        result = (
            run_ours(given, found.directory, samples)
            if ours
            else run_plain(given, found.directory, samples, given.side)
        )
        print(json.dumps(result))
        return
    against = PLAIN[given.plain][0]
    sides = [OURS, *([FIXED] if given.burners else []), *PLAIN[given.plain]]
    measured: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    burners = Burners(given.burners)
    try:
        with burners.burning():
            for _ in range(given.rounds):
                for side in sides:
                    measured[side].append(measure(given, side))
    finally:
        burners.stop()
    rate = {side: statistics.median(one["tokens_per_second"] for one in runs) for side, runs in measured.items()}
    work = {side: statistics.median(one["tokens_per_cpu_second"] for one in runs) for side, runs in measured.items()}
    peak = {side: max(one["peak_memory"] for one in runs) for side, runs in measured.items()}
    print(
        json.dumps(
            {
                "tokens_per_second_ratio": round(rate[OURS] / rate[against], 3),
                "peak_memory_ratio": round(peak[OURS] / peak[against], 3),
                "tokens_per_cpu_second_ratio": round(work[OURS] / work[against], 3),
                "tokens_per_second": {side: round(value, 1) for side, value in rate.items()},
                "peak_memory_gib": {side: round(value / 2**30, 2) for side, value in peak.items()},
                "against": against,
                "n": given.steps * given.batch * given.rounds,
                "model": given.model,
                "threads": given.threads,
                "burners": given.burners,
            }
        )
    )


if __name__ == "__main__":
    main()
