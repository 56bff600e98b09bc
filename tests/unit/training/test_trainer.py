from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from one_training import REPLAY, SAMPLES, Run
from peft import PeftModel
from safetensors.torch import load_file
from training_models import run_spec, some_samples, write_qwen
from transformers import AutoModelForCausalLM

from intract_lsp.errors import TrainingError
from intract_lsp.training import trainer as trainer_module
from intract_lsp.training.batches import Micro
from intract_lsp.training.budget import Budget, make_budget, measuring_seconds
from intract_lsp.training.clock import ActiveClock
from intract_lsp.training.events import Event, Note, Step, Validated
from intract_lsp.training.losses import Losses
from intract_lsp.training.network import Base, Trainable, load_base
from intract_lsp.training.optimisers import OPTIMISERS, rate_share, warm_up
from intract_lsp.training.sample import Sample
from intract_lsp.training.spec import Method
from intract_lsp.training.step import Stepper
from intract_lsp.training.trainer import train
from intract_lsp.training.validation import Validator


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("qwen"), dtype="float16")


def mean_loss(model: torch.nn.Module, samples: list[Sample]) -> float:
    total, count = 0.0, 0
    for sample in samples:
        ids = torch.tensor([sample.ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, sample.supervised_from - 1 : -1].float()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, sample.supervised_from :], reduction="sum"))
        count += len(sample.ids) - sample.supervised_from
    return total / count


def test_lora_learns_and_its_figures_are_those_of_the_files(qwen: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    outcome = run.train(run_spec(qwen, steps=60, dropout=0.1), validation=SAMPLES)
    steps, validated = run.of(Step), run.of(Validated)
    assert [event.step for event in steps] == list(range(1, 61))
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert {event.steps for event in steps} == {60}
    assert steps[-1].tokens == outcome.tokens > 60 * 4 * 10
    assert [event.step for event in validated] == [0, *range(12, 61, 12)]
    assert outcome.base_loss is not None and outcome.best_loss is not None
    assert outcome.best_loss < 0.5 * outcome.base_loss
    plain = AutoModelForCausalLM.from_pretrained(qwen, dtype=torch.float32)
    assert outcome.base_loss == pytest.approx(mean_loss(plain, SAMPLES), rel=1e-3)
    adapted = PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    assert outcome.best_loss == pytest.approx(mean_loss(adapted, SAMPLES), rel=1e-3)
    assert not outcome.stopped
    assert outcome.peak_memory > 10_000_000
    assert outcome.tokens_per_second == pytest.approx(steps[-1].tokens_per_second)


def likely(directory: Path, count: int) -> list[Sample]:
    """Samples that the base model knows already: its own greedy continuations."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    samples = []
    for first in range(count):
        ids = [first, first + 1, first + 2]
        for _ in range(12):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        samples.append(Sample(tuple(ids), 3, SAMPLES[0].kind))
    return samples


def test_noise_brings_nothing_and_the_outcome_says_so(qwen: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    chosen = random.Random(0)
    noise = [Sample(tuple(chosen.randrange(97) for _ in range(30)), 10, SAMPLES[0].kind) for _ in range(12)]
    outcome = run.train(run_spec(qwen, steps=60, learning_rate=0.03), samples=noise, validation=likely(qwen, 8))
    assert outcome.base_loss is not None and outcome.best_loss is not None
    assert outcome.best_loss >= outcome.base_loss
    assert outcome.steps < 60, "patience has an end"
    assert any("ended early" in note.sentence for note in run.of(Note))


def scripted(monkeypatch: pytest.MonkeyPatch, *scores: tuple[float, float, float, float]) -> None:
    """Have the validations find these losses, of four samples of a token each, and the last ones from then on."""
    left = list(scores)

    def score(*_: object) -> Losses:
        return Losses(left.pop(0) if len(left) > 1 else left[0], (1, 1, 1, 1))

    monkeypatch.setattr(Validator, "score", score)


def test_what_is_no_worse_beyond_chance_is_kept(qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, better, about = (2.0, 2.0, 2.0, 2.0), (1.5, 1.5, 1.6, 1.5), (1.4, 1.4, 1.7, 1.75)
    scripted(monkeypatch, base, better, about, (1.6, 1.6, 1.7, 1.7), about, (3.0, 3.0, 3.0, 3.0))
    run = Run(tmp_path)
    outcome = run.train(run_spec(qwen, steps=10))
    assert [(event.step, event.best) for event in run.of(Validated)] == [
        (0, False),
        (2, True),
        (4, True),
        (6, False),
        (8, True),
        (10, False),
    ]
    assert outcome.best_loss == pytest.approx(sum(about) / 4)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_an_adapter_is_validated_and_written_as_it_is_weighed(dropout: float, qwen: Path, tmp_path: Path) -> None:
    spec = run_spec(qwen, steps=20, dropout=dropout)
    weighed = replace(spec, trainer=replace(spec.trainer, scale=0.4))
    full, part = Run(tmp_path / "full"), Run(tmp_path / "part")
    full.train(spec, validation=SAMPLES)
    outcome = part.train(weighed, validation=SAMPLES)
    assert [step.loss for step in part.of(Step)] == [step.loss for step in full.of(Step)], "it is learnt in full"
    configs = [json.loads((run.folder / "adapter" / "adapter_config.json").read_text()) for run in (full, part)]
    assert configs[1]["lora_alpha"] == pytest.approx(0.4 * configs[0]["lora_alpha"])
    plain = AutoModelForCausalLM.from_pretrained(qwen, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(plain, str(tmp_path / "part" / "adapter")).eval()
    assert outcome.best_loss == pytest.approx(mean_loss(adapted, SAMPLES), rel=1e-3)


@pytest.mark.parametrize(
    ("method", "optimiser"),
    [(Method.LORA, "adamw_torch"), (Method.QLORA, "paged_adamw_8bit"), (Method.STANDARD, "adamw_torch")],
)
def test_stopped_and_continued_is_as_never_stopped(method: Method, optimiser: str, qwen: Path, tmp_path: Path) -> None:
    spec = run_spec(qwen, steps=12, dropout=0.2, method=method, optimiser=optimiser, learning_rate=0.003)
    whole = Run(tmp_path / "whole")
    expected = whole.train(spec, validation=SAMPLES)
    first = Run(tmp_path / "parts")
    first.on = lambda event: first.token.cancel() if isinstance(event, Step) and event.step == 7 else None
    stopped = first.train(spec, validation=SAMPLES)
    assert stopped.stopped
    assert stopped.steps == 7
    assert not (tmp_path / "parts" / "adapter").exists()
    second = Run(tmp_path / "parts")
    found = second.train(spec, validation=SAMPLES)
    assert second.of(Note)[0].sentence == "Training goes on after step 7."
    assert [event.step for event in second.of(Step)] == list(range(8, 13))
    assert found.tokens == expected.tokens
    assert found.seconds > 0.5 * stopped.seconds, "what the first part took counts, but for its last saving"
    assert found.base_loss == expected.base_loss
    assert found.best_loss == pytest.approx(expected.best_loss, rel=1e-4)
    name = "model.safetensors" if method is Method.STANDARD else "adapter_model.safetensors"
    parts = [load_file(run.folder / "adapter" / name) for run in (whole, second)]
    torch.testing.assert_close(parts[0], parts[1], rtol=1e-3, atol=1e-4)


def test_with_less_memory_a_run_goes_on_from_its_checkpoint(qwen: Path, tmp_path: Path) -> None:
    spec = run_spec(qwen, steps=8)
    first = Run(tmp_path)
    first.on = lambda event: first.token.cancel() if isinstance(event, Step) and event.step == 3 else None
    first.train(spec)
    second = Run(tmp_path)
    second.on = lambda event: second.token.cancel() if isinstance(event, Step) and event.step == 6 else None
    second.train(replace(spec, trainer=replace(spec.trainer, gradient_checkpointing=True)))
    assert second.of(Note)[0].sentence == "Training goes on after step 3."
    state = json.loads((tmp_path / "checkpoints" / "latest" / "state.json").read_text())
    assert (state["step"], state["gradient_checkpointing"]) == (6, True)


def test_other_samples_do_not_go_on_from_a_checkpoint(qwen: Path, tmp_path: Path) -> None:
    spec = run_spec(qwen, steps=4)
    first = Run(tmp_path)
    first.on = lambda event: first.token.cancel() if isinstance(event, Step) else None
    first.train(spec)
    second = Run(tmp_path)
    assert second.train(spec, samples=SAMPLES[1:]).steps == 4
    assert [event.step for event in second.of(Step)] == [1, 2, 3, 4]


def test_every_weight_is_trained_and_written_in_the_bases_format(qwen: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    outcome = run.train(run_spec(qwen, steps=30, method=Method.STANDARD, learning_rate=0.003), validation=SAMPLES)
    assert outcome.base_loss is not None and outcome.best_loss is not None
    assert outcome.best_loss < 0.6 * outcome.base_loss
    weights = load_file(tmp_path / "adapter" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter", dtype=torch.float32)
    assert mean_loss(model, SAMPLES) == pytest.approx(outcome.best_loss, rel=0.02)


def test_a_quantised_base_learns(qwen: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    outcome = run.train(run_spec(qwen, steps=40, method=Method.QLORA), validation=SAMPLES)
    assert outcome.base_loss is not None and outcome.best_loss is not None
    assert outcome.best_loss < 0.6 * outcome.base_loss


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_each_optimiser_lowers_the_loss(optimiser: str, qwen: Path, tmp_path: Path) -> None:
    rate = 1.0 if optimiser == "sgd" else 0.01
    run = Run(tmp_path)
    run.train(run_spec(qwen, steps=15, optimiser=optimiser, learning_rate=rate), validation=[])
    losses = [event.loss for event in run.of(Step)]
    assert losses[-1] < 0.9 * losses[0]


def test_divergence_holds_the_model_near_its_base(qwen: Path, tmp_path: Path) -> None:
    """Replayed samples teach nothing new here: with much weight on the base, the model stays near it on them."""

    def drift(weight: float) -> float:
        run = Run(tmp_path / str(weight))
        spec = run_spec(qwen, steps=25, kl_weight=weight)
        run.train(replace(spec, data=replace(spec.data, replay_share=0.5)), validation=[])
        plain = AutoModelForCausalLM.from_pretrained(qwen, dtype=torch.float32)
        ids = torch.tensor([REPLAY[0].ids])
        with torch.no_grad():
            before = plain(input_ids=ids).logits.log_softmax(-1)
            after = PeftModel.from_pretrained(plain, str(run.folder / "adapter")).eval()(input_ids=ids).logits
        return float((before.exp() * (before - after.log_softmax(-1))).sum(-1).mean())

    assert drift(20.0) < 0.5 * drift(0.0)


@pytest.mark.parametrize("room", [100, 40])
def test_out_of_memory_descends_and_goes_on(
    room: int, qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Base.hidden
    checkpointed = []

    def hidden(self: Base, micro: Micro) -> torch.Tensor:
        checkpointed.append(self.model.is_gradient_checkpointing)
        # Layers that are computed twice take half as much here.
        if micro.tokens > room * (2 if checkpointed[-1] else 1):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return real(self, micro)

    monkeypatch.setattr(Base, "hidden", hidden)
    monkeypatch.setitem(trainer_module.MICRO_TOKENS, "cpu", 240)
    run = Run(tmp_path)
    samples = some_samples(10, length=60)
    assert max(len(sample.ids) for sample in samples) > 40
    outcome = run.train(run_spec(qwen, steps=6, context_length=60, batch_size=8), samples=samples, validation=[])
    assert outcome.steps == 6
    notes = [note.sentence for note in run.of(Note)]
    assert notes[0] == "Memory is short: samples are now computed 120 tokens at a time."
    assert notes[1] == "Memory is short: samples are now computed 60 tokens at a time."
    assert len(notes) == (2 if room == 100 else 3)
    assert checkpointed[-1] == (room == 40)


def test_without_any_memory_it_says_so(qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(self: Base, micro: Micro) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")

    run = Run(tmp_path)
    spec = run_spec(qwen)
    base = load_base(spec, torch.float32)
    monkeypatch.setattr(Base, "hidden", hidden)
    with pytest.raises(TrainingError, match="Memory does not suffice to train tiny"):
        train(spec, SAMPLES, [], [], tmp_path / "a", tmp_path / "c", run.events.append, run.token, base)


def test_another_error_is_not_taken_for_it(qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Stepper, "take", take)
    with pytest.raises(RuntimeError, match="shapes"):
        Run(tmp_path).train(run_spec(qwen), validation=[])


def test_a_loss_that_is_not_finite_ends_the_run(qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Base.hidden
    run, spec = Run(tmp_path), run_spec(qwen, steps=40)
    base = load_base(spec, torch.float32)
    monkeypatch.setattr(Base, "hidden", lambda self, micro: real(self, micro) * float("nan"))
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        train(spec, SAMPLES, [], [], tmp_path / "a", tmp_path / "c", run.events.append, run.token, base)


def test_too_little_time_is_refused_with_what_is_needed(qwen: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    spec = run_spec(qwen, steps=0, minutes=20.0)
    now = [0.0]

    class Slow(ActiveClock):
        def look(self) -> float:
            return now[0]

    def later(event: Event) -> None:
        now[0] += 90.0 if isinstance(event, Step) else 0.0

    run.on = later
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "ActiveClock", Slow)
        real = Stepper.take

        def take(self: Stepper, *given: Any) -> Any:
            now[0] += 100.0
            return real(self, *given)

        patch.setattr(Stepper, "take", take)
        with pytest.raises(TrainingError, match=r"20 minutes are enough for \d+ steps of 4 samples here.*at least 3\d"):
            run.train(spec)
    assert len(run.of(Step)) < 3


@pytest.mark.parametrize("steps", [0, 5000])
def test_minutes_end_a_run_and_its_rate_falls_until_then(steps: int, qwen: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    rates = []
    now = [0.0]

    class Clock(ActiveClock):
        def look(self) -> float:
            return now[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "ActiveClock", Clock)
        real = Stepper.take

        def take(self: Stepper, number: int, batch: Any, micro_tokens: int, rate: float) -> Any:
            now[0] += 1.0
            rates.append(rate)
            return real(self, number, batch, micro_tokens, rate)

        patch.setattr(Stepper, "take", take)
        outcome = run.train(run_spec(qwen, steps=steps, minutes=1.0))
    assert outcome.steps == 60
    assert outcome.seconds == 60.0
    assert [event.step for event in run.of(Validated)] == [0, *range(12, 61, 12)]
    taken = run.of(Step)
    assert all(event.steps == 60 for event in taken)
    assert taken[29].seconds_left == pytest.approx(30.0)
    peak = rates.index(max(rates))
    assert 3 <= peak <= 6
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 * 0.01, rel=0.1)


def test_a_checkpoint_is_made_now_and_then(qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "CHECKPOINT_EVERY", 0.0)
    run = Run(tmp_path)
    seen: list[int] = []

    def look(event: Event) -> None:
        state = tmp_path / "checkpoints" / "latest" / "state.json"
        if isinstance(event, Step) and state.exists():
            seen.append(json.loads(state.read_text())["step"])

    run.on = look
    run.train(run_spec(qwen, steps=4))
    assert seen == [1, 2, 3]


def test_nothing_to_train_on_and_no_end(qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no samples of at most 4 tokens"):
        Run(tmp_path).train(run_spec(qwen, context_length=4))
    with pytest.raises(TrainingError, match="needs an end"):
        Run(tmp_path).train(run_spec(qwen, steps=0))


def test_a_full_disk_is_told(qwen: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir(parents=True)
    run = Run(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "intract_lsp.training.output.replace_directory",
            lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        with pytest.raises(TrainingError, match="No space left on device"):
            run.train(run_spec(qwen, steps=2), validation=[])


def test_limits() -> None:
    spec = run_spec(Path("x"), steps=50, epochs=2.0, minutes=3.0).trainer
    assert make_budget(spec, steps_per_epoch=10.2) == Budget(180.0, 21)
    assert make_budget(replace(spec, epochs=0.0, minutes=0.0), 10.0) == Budget(0.0, 50)
    budget = Budget(100.0, 40)
    assert budget.done(20, 10.0, 0.0) == 0.5
    assert budget.done(4, 60.0, 0.0) == 0.6
    assert budget.done(4, 60.0, 5.0) == pytest.approx(60 / 95), "time for what comes last is kept"
    assert budget.expected_steps(3, 3.0, 1.0, 0.0) == 40
    assert Budget(100.0, 0).expected_steps(3, 3.0, 1.0, 0.0) == 100
    assert Budget(100.0, 0).expected_steps(3, 3.0, 1.0, 2.0) == 88
    Budget(100.0, 0).check(20, 5.0, 1.0, 8)
    Budget(100.0, 10).check(10, 5.0, 1.0, 8)
    Budget(0.0, 5).check(5, 5.0, 1.0, 8)
    with pytest.raises(TrainingError, match="at least 2 minutes"):
        Budget(60.0, 0).check(12, 5.0, 1.0, 8)


def test_measuring_takes_half_as_long_as_training_at_most() -> None:
    found = [measuring_seconds(minutes) for minutes in (0.0, 1.0, 16.0, 24.0, 60.0)]
    assert found == [1800.0, 480.0, 480.0, 720.0, 1800.0]


def test_the_rate_rises_and_falls() -> None:
    assert warm_up(20) == 5
    assert warm_up(1000) == 30
    assert rate_share(0, 5, 0.0) == pytest.approx(0.2)
    assert rate_share(4, 5, 0.0) == 1.0
    assert rate_share(50, 5, 0.5) == pytest.approx(0.55)
    assert rate_share(100, 5, 1.0) == pytest.approx(0.1)
    assert rate_share(100, 5, 1.3) == pytest.approx(0.1)


def test_the_clock_leaves_pauses_out_and_nothing_else() -> None:
    now, used = [10.0], [1.0]
    clock = ActiveClock(lambda: now[0], lambda: used[0])

    def pass_time(seconds: float, work: float) -> float:
        now[0] += seconds
        used[0] += work
        return clock.look()

    assert pass_time(0.4, 0.0) == pytest.approx(0.4)
    assert pass_time(30.0, 0.0) == pytest.approx(0.4), "stopped"
    assert pass_time(3.0, 2.5) == pytest.approx(3.4), "worked, and only came late to the clock"
    assert pass_time(5.0, 0.1) == pytest.approx(3.5), "stopped after a tenth of a second"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_stopped_process_does_not_count_its_pause() -> None:
    code = """if True:
        import sys, time
        from intract_lsp.training.clock import ActiveClock
        with ActiveClock() as clock:
            began = time.monotonic()
            print("ready", flush=True)
            sys.stdin.readline()
            print(clock.look(), time.monotonic() - began, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # the pause itself
    child.send_signal(signal.SIGCONT)
    child.stdin.write("\n")
    child.stdin.flush()
    active, passed = map(float, child.stdout.readline().split())
    child.wait(10)
    assert passed > 1.4
    assert active < passed - 1.0


def test_a_trainable_takes_back_only_its_own(qwen: Path) -> None:
    spec = run_spec(qwen)
    one = trainer_module.attach(load_base(spec, torch.float32), spec)
    assert isinstance(one, Trainable)
    with pytest.raises(TrainingError, match="not of this run's adapter"):
        one.load({"other": torch.zeros(1)})
