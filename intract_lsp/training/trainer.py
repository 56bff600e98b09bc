"""Trains a base model on samples: the loop, its validation and early stop, checkpoints, and the result.

A lean loop and not transformers' Trainer: nothing is padded, the head is computed where there is something to learn
only. Where several GPUs train together this process leads. Replayed samples hold an adapter near its base by
divergence, too; where every weight is trained there is no base beside to diverge from, and their own loss has to do.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from intract_lsp.allocator import keep_freed_memory
from intract_lsp.completion.generation import CancelToken
from intract_lsp.errors import TrainingError
from intract_lsp.training.batches import Order, usable
from intract_lsp.training.budget import LEAST_STEPS, MEASURED_STEPS, VALIDATIONS, make_budget
from intract_lsp.training.checkpoint import Checkpoints, Progress, fingerprint
from intract_lsp.training.clock import ActiveClock
from intract_lsp.training.events import Event, Note, Stage, Step, Validated
from intract_lsp.training.group import Alone
from intract_lsp.training.ladder import Rung, give_back, is_out_of_memory, peak_memory
from intract_lsp.training.losses import lower_of
from intract_lsp.training.network import Base, attach, checkpoint_gradients, load_base
from intract_lsp.training.optimisers import load_state, make_optimiser, rate_share, state_tensors, warm_up
from intract_lsp.training.output import write_output
from intract_lsp.training.peers import Peers, Resume, Take
from intract_lsp.training.sample import Sample
from intract_lsp.training.spec import RunSpec
from intract_lsp.training.step import Stepper, StepResult, Stopped
from intract_lsp.training.validation import Validator, affordable

log = logging.getLogger(__name__)

CHECKPOINT_EVERY = 120.0
"""Seconds of work, which a kill costs at most; a checkpoint of rank 64 of a 0.5B model is 400 MB on the disk."""
PATIENCE = 3
"""Validations in a row that are worse beyond chance than an earlier one, or the base model, before training ends."""
MICRO_TOKENS = {"cpu": 512, "cuda": 8192}
"""Most tokens of a micro-batch at first: on a CPU more make nothing faster, on a GPU they do."""


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """How a run's training has ended."""

    steps: int
    tokens: int
    """Trained on, prompts included."""
    seconds: float
    """Worked, validation included, pauses not."""
    tokens_per_second: float
    """Of the optimiser steps alone."""
    base_loss: float | None
    """Mean negative log-likelihood (nats) of the validation samples' supervised tokens under the base model; ``None``
    without validation samples."""
    best_loss: float | None
    """The same under what was written. Not below ``base_loss`` where training brought nothing."""
    stopped: bool
    """Whether the token ended it; then there is a checkpoint and no result."""
    peak_memory: int
    """Bytes: of the process, or of the GPU."""


def train(
    spec: RunSpec,
    samples: Sequence[Sample],
    validation: Sequence[Sample],
    replay: Sequence[Sample],
    output: Path,
    checkpoints: Path,
    on_event: Callable[[Event], None],
    token: CancelToken,
    base: Base | None = None,
) -> TrainOutcome:
    """Train and write the result to ``output``; ``base``, if given, is the loaded model, which is what is trained.

    Goes on from a checkpoint under ``checkpoints`` that is of the same samples and settings; what lies there is left
    for the caller to remove. Raises ``TrainingError``.
    """
    if spec.trainer.device == "cpu":
        keep_freed_memory()
    with ExitStack() as stack:
        clock = stack.enter_context(ActiveClock())
        # Begun first: they load the model while this process does.
        dtype = base.dtype if base else None
        peers = stack.enter_context(closing(Peers(spec, dtype))) if spec.trainer.processes > 1 else None
        run = _Run(spec, samples, validation, replay, Checkpoints(checkpoints), on_event, token, clock, base, peers)
        return run.run(output)


class _Run:
    """The state of a training."""

    def __init__(
        self,
        spec: RunSpec,
        samples: Sequence[Sample],
        validation: Sequence[Sample],
        replay: Sequence[Sample],
        checkpoints: Checkpoints,
        on_event: Callable[[Event], None],
        token: CancelToken,
        clock: ActiveClock,
        base: Base | None,
        peers: Peers | None,
    ) -> None:
        self._trainer = spec.trainer
        self._peers = peers
        self._spec = spec
        self._samples = usable(samples, spec.trainer.context_length)
        self._replay = usable(replay, spec.trainer.context_length)
        if not self._samples:
            raise TrainingError(
                f"There are no samples of at most {spec.trainer.context_length} tokens to train on: open a larger "
                "project, or set a longer training.context_length."
            )
        held = usable(validation, spec.trainer.context_length)
        # Time may allow for the first ones only, which should not all be of one file.
        random.Random(spec.trainer.seed).shuffle(held)
        share = spec.data.replay_share if self._replay else 0.0
        self._order = Order(
            len(self._samples), len(self._replay), share, max(1, spec.trainer.batch_size), spec.trainer.seed
        )
        self._budget = make_budget(spec.trainer, self._order.steps_per_epoch)
        if not self._budget.seconds:
            tokens = sum(len(sample.ids) for sample in self._samples) / len(self._samples)
            held = affordable(held, self._budget.steps * spec.trainer.batch_size * tokens)
        self._checkpoints = checkpoints
        self._on_event = on_event
        self._token = token
        self._clock = clock
        on_event(Stage("train", f"Loading {spec.model}", 0.0))
        self._trainable = attach(base or load_base(spec), spec)
        self._optimiser = make_optimiser(
            spec.trainer.optimiser, self._trainable.parameters(), spec.trainer.learning_rate
        )
        group = peers.join() if peers else Alone()
        self._stepper = Stepper(self._trainable, self._optimiser, spec.trainer, token, group)
        self._validator = Validator(self._trainable, held, token)
        device = self._trainable.base.device.type
        context = spec.trainer.context_length
        self._rung = Rung(max(context, MICRO_TOKENS[device]), context, spec.trainer.gradient_checkpointing)
        self._progress = Progress(fingerprint(spec, self._samples, held, self._replay))
        self._before = 0.0
        """Seconds worked before this process."""
        self._saved_at = 0.0

    def run(self, output: Path) -> TrainOutcome:
        """Train to the end, or until the token is cancelled."""
        try:
            self._resume()
            if self._progress.base is None and self._validator.samples:
                self._validate_base()
            while self._progress.worse < PATIENCE:
                done = self._done()
                if self._validation_due(done):
                    self._validate()
                if done >= 1.0 or self._progress.worse >= PATIENCE:
                    break
                self._step(done)
            if self._progress.worse >= PATIENCE:
                self._on_event(Note("Training ended early: the validation loss falls no more."))
        except Stopped:
            self._save()
            return self._outcome(stopped=True)
        if self._progress.kept is not None:
            self._trainable.load(self._checkpoints.load_best())
        write_output(self._trainable, self._spec, output)
        return self._outcome(stopped=False)

    # What is over, and what comes next.

    def _seconds(self) -> float:
        return self._before + self._clock.look()

    def _done(self) -> float:
        return self._budget.done(self._progress.step, self._seconds(), self._progress.validation_seconds)

    def _validation_due(self, done: float) -> bool:
        if not self._validator.samples or not self._progress.step:
            return False
        unseen = self._progress.validated_step < self._progress.step
        return unseen and (done >= 1.0 or done * VALIDATIONS >= self._progress.validations + 1)

    def _expected_steps(self) -> int:
        progress = self._progress
        per_step = progress.training_seconds / max(1, progress.step)
        return max(
            progress.step,
            self._budget.expected_steps(progress.step, self._seconds(), per_step, progress.validation_seconds),
        )

    # The steps.

    def _step(self, done: float) -> None:
        number = self._progress.step
        # Before it is known how many steps there will be, the rate rises slowly.
        unmeasured = number < MEASURED_STEPS and self._budget.seconds
        expected = self._budget.most(LEAST_STEPS * 33) if unmeasured else self._expected_steps()
        rate = self._trainer.learning_rate * rate_share(number, warm_up(expected), done)
        began = self._clock.look()
        result = self._descend(lambda: self._take(number, rate))
        spent = self._clock.look() - began
        self._progress = replace(
            self._progress,
            step=number + 1,
            tokens=self._progress.tokens + (result.tokens if result else 0),
            training_seconds=self._progress.training_seconds + spent,
        )
        progress = self._progress
        expected = self._expected_steps()
        per_step = progress.training_seconds / progress.step
        if progress.step == MEASURED_STEPS:
            self._budget.check(expected, per_step, progress.validation_seconds, self._trainer.batch_size)
        if result:
            left = (expected - progress.step) * per_step
            rate_of_tokens = progress.tokens / max(progress.training_seconds, 1e-9)
            self._on_event(Step(progress.step, expected, result.loss, progress.tokens, rate_of_tokens, left))
        if self._clock.look() - self._saved_at >= CHECKPOINT_EVERY:
            self._save()

    def _take(self, number: int, rate: float) -> StepResult | None:
        """Take a step; ``None`` where all of its samples have become too long."""
        kinds = {False: self._samples, True: self._replay}
        batch = [(again, kinds[again][index]) for again, index in self._order.batch(number)]
        batch = [entry for entry in batch if len(entry[1].ids) <= self._rung.context_length]
        if not batch:
            return None
        if self._peers:
            self._peers.tell(Take(number, tuple(batch), self._rung, rate))
        return self._stepper.take(number, batch, self._rung.micro_tokens, rate)

    def _descend(self, compute: Callable[[], StepResult | None]) -> StepResult | None:
        """Compute, with less and less memory where it runs out."""
        while True:
            try:
                return compute()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, where the failed pass is no longer held by its traceback.
            self._give_up_something()

    def _give_up_something(self) -> None:
        give_back(self._optimiser, self._trainable.base.device)
        lower = self._rung.lower()
        if lower is None or not any(len(sample.ids) <= lower[0].context_length for sample in self._samples):
            raise TrainingError(
                f"Memory does not suffice to train {self._spec.model}, not even on {self._rung.context_length} tokens "
                f"at a time ({peak_memory(self._trainable.base.device) / 2**30:.1f} GiB were taken): close other "
                "programs, or take a smaller model."
            )
        if lower[0].checkpointing and not self._rung.checkpointing:
            checkpoint_gradients(self._trainable.base)
        self._rung, sentence = lower
        log.warning("out of memory, now %s", self._rung)
        self._on_event(Note(sentence))

    # Validation.

    def _validate_base(self) -> None:
        self._on_event(Stage("train", "Scoring the newest code before training", 0.0))
        began = self._clock.look()
        base = self._validator.score(self._rung.context_length, self._clock.look, self._budget.validation_seconds)
        self._validator.keep(len(base.sums))
        self._progress = replace(self._progress, base=base, validation_seconds=self._clock.look() - began)
        self._on_event(Validated(0, base.mean, False))

    def _validate(self) -> None:
        """Score the weights, and keep them unless others did better beyond chance.

        Few samples are scored, so that the lowest loss is mostly luck, while weights trained for longer at a falling
        rate are mostly better ones.
        """
        self._trainable.set_scale(self._trainer.scale)
        found = self._validator.score(self._rung.context_length, self._clock.look)
        self._trainable.set_scale(1.0)
        progress = self._progress
        lowest = lower_of(found, progress.lowest)
        kept = not found.worse_than(lowest)
        if kept:
            self._checkpoints.save_best(self._trainable.tensors())
        self._progress = replace(
            progress,
            validations=max(progress.validations + 1, int(self._done() * VALIDATIONS)),
            validated_step=progress.step,
            lowest=lowest,
            kept=found if kept else progress.kept,
            worse=progress.worse + 1 if found.worse_than(lower_of(lowest, progress.base)) else 0,
        )
        self._on_event(Validated(progress.step, found.mean, kept))

    # Checkpoints.

    def _save(self) -> None:
        self._progress = replace(
            self._progress,
            seconds=self._seconds(),
            micro_tokens=self._rung.micro_tokens,
            context_length=self._rung.context_length,
            gradient_checkpointing=self._rung.checkpointing,
        )
        self._checkpoints.save(self._progress, self._trainable.tensors(), state_tensors(self._optimiser))
        self._saved_at = self._clock.look()

    def _resume(self) -> None:
        found = self._checkpoints.load(self._progress.fingerprint)
        if found is None:
            return
        self._progress, weights, state = found
        self._trainable.load(weights)
        load_state(self._optimiser, state)
        if self._peers:
            self._peers.tell(Resume(self._checkpoints.directory, self._progress.fingerprint))
        self._before = self._progress.seconds - self._clock.look()
        if self._progress.base is not None:
            self._validator.keep(len(self._progress.base.sums))
        if self._progress.gradient_checkpointing and not self._rung.checkpointing:
            checkpoint_gradients(self._trainable.base)
        checkpointing = self._progress.gradient_checkpointing or self._rung.checkpointing
        self._rung = Rung(self._progress.micro_tokens, self._progress.context_length, checkpointing)
        self._on_event(Note(f"Training goes on after step {self._progress.step}."))

    def _outcome(self, *, stopped: bool) -> TrainOutcome:
        progress = self._progress
        return TrainOutcome(
            steps=progress.step,
            tokens=progress.tokens,
            seconds=self._seconds(),
            tokens_per_second=progress.tokens / max(progress.training_seconds, 1e-9),
            base_loss=None if progress.base is None else progress.base.mean,
            best_loss=None if progress.kept is None else progress.kept.mean,
            stopped=stopped,
            peak_memory=peak_memory(self._trainable.base.device),
        )
