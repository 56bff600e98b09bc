"""Runs of a server or a command: queued, one at a time on the machine, each in a process of its own, recorded.

One thread does it all; others leave messages for it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import format_tb

from intract_lsp.errors import IntractError
from intract_lsp.training.activity import Activity
from intract_lsp.training.attempt import SPEC_FILE, Attempt, tidy
from intract_lsp.training.events import Finished, Note, Room
from intract_lsp.training.known_runs import KnownRuns
from intract_lsp.training.leftovers import CANCELLED, drop, traces
from intract_lsp.training.messages import Cancel, Line, Message, Recover, Start, Wake
from intract_lsp.training.progress import RunStatus, follow
from intract_lsp.training.run_queue import RunQueue
from intract_lsp.training.runs import Runs, RunState
from intract_lsp.training.spec import RunSpec

log = logging.getLogger(__name__)

RESTARTS = 2
"""How often a process that was killed is begun again without having got any further."""

OUT_OF_MEMORY = "Memory had run out, and the run's process was ended: layers are now computed twice instead of kept."
SWITCHED_OFF = "Fine-tuning is switched off: this run begins when training.enabled is true again."


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a supervisor is, in seconds; tests are less so."""

    lock: float = 0.5
    """Between two looks whether the machine is free for the next run."""
    cancel: float = 10.0
    """Until a process that was asked to end is killed."""
    quiet: float = 3.0
    """Without a completion before a paused run goes on."""
    look: float = 0.25
    """Between two looks whether other programs are asked for completions, while a run is at work."""


def child_command(spec: Path) -> list[str]:
    """Return the command that does the work of a run."""
    return [sys.executable, "-m", "intract_lsp.training.child", str(spec)]


class Supervisor:
    """Carries out runs; every public method may be called from any thread and returns at once."""

    def __init__(
        self,
        runs: Callable[[], Runs],
        lock: Path,
        deliver: Callable[[RunSpec, str], str],
        activity: Activity,
        command: Callable[[Path], Sequence[str]] = child_command,
        timing: Timing | None = None,
    ) -> None:
        """``runs`` opens the table of runs, for this object's thread; ``lock`` is the machine's lock file.

        ``deliver`` is given a run whose adapter has passed the gate, and the adapter: it puts it in place of the
        present one and returns a sentence, or raises ``IntractError`` and leaves all as it was. ``activity`` is what a
        run gives way to.
        """
        self._open_runs = runs
        self._deliver = deliver
        self._command = command
        self._timing = timing or Timing()
        self._queue = RunQueue(lock, lambda: self._runs, self._timing.cancel)
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._attempt: Attempt | None = None
        self._worked = 0.0
        """Processor seconds of the processes that have ended."""
        self._table: Runs | None = None
        self._look_at = 0.0
        self._activity = activity
        self._made_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intract-training", daemon=True)
        self._known = KnownRuns()
        self._guard = threading.Lock()
        """Of what follows."""
        self._begun = False
        self.on_status: Callable[[RunStatus], None] = lambda status: None
        """Called on this object's thread with each change of a run."""
        self.may_pause: Callable[[], bool] = lambda: True
        """Whether a run on the CPU gives way to completions."""
        self.may_begin: Callable[[], bool] = lambda: True
        """Whether what waits may begin."""
        self.on_over: Callable[[RunSpec], None] = lambda spec: None
        """Called on this object's thread when a run is over and no other is at work."""
        self.make_room: Callable[[bool], None] = lambda needed: None
        """Called on this object's thread where the model that serves is to be unloaded for a run, and where that run is
        over."""
        self._made_room = False

    def start(self, spec: RunSpec) -> str:
        """Queue a run and return its id."""
        self._known.add(spec)
        self._put(Start(spec))
        return spec.id

    def recover(self, workspaces: Sequence[Path]) -> Future[tuple[str, ...]]:
        """Queue the runs of these folders that a killed program left behind, and mark all that were.

        The future gets the ids of those that go on. Nothing is done while another program runs something.
        """
        done: Future[tuple[str, ...]] = Future()
        self._put(Recover(tuple(str(folder) for folder in workspaces), done))
        return done

    def cancel(self, run: str) -> bool:
        """End a run; return whether it was queued or running here."""
        status = self.status(run)
        if status is None or status.state.is_over:
            return False
        # Whoever cancels is there: what begins by itself waits until they are away again.
        self._activity.note()
        self._put(Cancel(run))
        return True

    def note_activity(self) -> None:
        """Take note that a completion was asked for: a run on the CPU pauses."""
        self._activity.note()
        attempt = self._attempt
        if attempt is not None and attempt.pausable and not attempt.child.suspended:
            self._inbox.put(Wake())

    @property
    def worked(self) -> float:
        """The processor seconds of the runs' processes of this program so far."""
        attempt = self._attempt
        return self._worked + (attempt.child.worked if attempt is not None else 0.0)

    @property
    def idle_seconds(self) -> float:
        """How long no completion has been asked for."""
        return time.monotonic() - max(self._activity.at(), self._made_at)

    def status(self, run: str | None = None) -> RunStatus | None:
        """Return how a run of this program stands; without an id, the one that is at work, or the newest."""
        return self._known.status(run)

    def spec_of(self, run: str) -> RunSpec | None:
        """Return what a run of this program was asked to do."""
        return self._known.spec(run)

    def statuses(self) -> tuple[RunStatus, ...]:
        """Return how the runs of this program stand, oldest first."""
        return self._known.all()

    def end_of(self, run: str) -> Future[RunStatus]:
        """Return a future that gets the last status of a run that was begun here; cancelled when the thread ends."""
        return self._known.end(run)

    def stop(self, timeout: float = 2.0) -> bool:
        """End the thread; a run that is at work writes a checkpoint and goes on at another start."""
        self._stopping.set()
        with self._guard:
            begun, self._begun = self._begun, True
        if not begun:
            return True
        self._inbox.put(Wake())
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _put(self, message: Message) -> None:
        with self._guard:
            if not self._begun:
                self._thread.start()
                self._begun = True
        self._inbox.put(message)

    # What follows runs on the thread.

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                message: Message | None = self._inbox.get(timeout=self._due())
            except queue.Empty:
                message = None
            try:
                self._obey(message)
                self._look()
            except Exception as error:  # noqa: BLE001 - reported; the thread has to go on
                self._break(error, message.spec if isinstance(message, Start) else None)
        if self._attempt is not None:
            self._leave(self._attempt)
        self._queue.give_up()
        if self._table is not None:
            self._table.close()
        self._known.give_up()

    def _leave(self, attempt: Attempt) -> None:
        """Let go of the run that is at work, since the program ends."""
        if not attempt.cancelled:
            # Not waited for: who gets the lock next looks after it.
            attempt.child.ask_to_end()
            return
        attempt.child.kill()
        attempt.child.reap()
        with contextlib.suppress(IntractError):
            drop(self._runs, attempt.spec.id, Path(attempt.spec.folder), self._known.now(attempt.spec.id).values())

    @property
    def _runs(self) -> Runs:
        if self._table is None:
            self._table = self._open_runs()
        return self._table

    def _due(self) -> float | None:
        """Return how many seconds may pass before there is something to look at."""
        now = time.monotonic()
        attempt = self._attempt
        if attempt is None:
            return max(0.0, self._look_at - now) if self._queue.waiting else None
        times = [at for at in (attempt.kill_at,) if at is not None]
        if attempt.child.suspended:
            times.append(self._activity.at() + self._timing.quiet)
        elif attempt.pausable and self.may_pause():
            times.append(now + self._timing.look)
        return max(0.0, min(times) - now) if times else None

    def _obey(self, message: Message | None) -> None:
        if isinstance(message, Start):
            self._enqueue(message.spec)
        elif isinstance(message, Recover):
            self._recover(message)
        elif isinstance(message, Cancel):
            self._cancel(message.run)
        elif isinstance(message, Line) and message.attempt is self._attempt:
            if message.text is None:
                self._ended(message.attempt)
            else:
                self._take(message.attempt, message.text)

    def _look(self) -> None:
        """Do what is due."""
        now, attempt = time.monotonic(), self._attempt
        if attempt is None:
            if self._queue.waiting and now >= self._look_at:
                self._look_at = now + self._timing.lock
                self._begin_next()
        elif attempt.kill_at is not None:
            if now >= attempt.kill_at:
                log.warning("run %s does not end; killing its process", attempt.spec.id)
                attempt.kill_at = None
                attempt.child.kill()
        elif attempt.pausable:
            # Without a model there is nothing to give way to.
            active = now - self._activity.at() < self._timing.quiet and self.may_pause() and not self._made_room
            if active != attempt.child.suspended:
                (attempt.child.suspend if active else attempt.child.resume)()
                self._tell(attempt.spec, paused=attempt.child.suspended)

    def _enqueue(self, spec: RunSpec) -> None:
        self._queue.add(spec)
        self._look_at = 0.0

    def _recover(self, message: Recover) -> None:
        found: list[RunSpec] = []
        try:
            if self._attempt is None:
                found = self._queue.take_up(message.workspaces, self._known.add)
                self._look_at = 0.0
        finally:
            message.done.set_result(tuple(spec.id for spec in found))

    def _begin_next(self) -> None:
        """Begin the next run, if the machine is free and no other program's run came before it."""
        if not self.may_begin():
            self._tell_waiting(SWITCHED_OFF)
            return
        found = self._queue.take()
        if isinstance(found, str):
            self._tell_waiting(found)
            return
        self._launch(found, restarts=0)
        self._tell_waiting("It begins when the run before it has ended.")

    def _tell_waiting(self, message: str) -> None:
        for spec in self._queue.waiting:
            self._tell(spec, message=message)

    def _launch(self, spec: RunSpec, restarts: int, step: int = 0) -> None:
        try:
            attempt = Attempt(spec, self._command, self._heard, restarts, step)
        except OSError as error:
            self._settle(spec, RunState.FAILED, f"The run's process could not be started ({error.strerror or error}).")
            return
        self._attempt = attempt
        self._runs.update(spec.id, RunState.RUNNING, pid=attempt.child.pid)
        self._tell(spec, state=RunState.RUNNING, message="Starting", paused=False)

    def _heard(self, attempt: Attempt, text: str | None) -> None:
        """Called on a thread of the attempt's."""
        self._inbox.put(Line(attempt, text))

    def _take(self, attempt: Attempt, text: str) -> None:
        event = attempt.read(text)
        if event is None:
            return
        before = self._known.now(attempt.spec.id)
        after = follow(before, event)
        if after.state is not before.state:
            self._runs.update(attempt.spec.id, after.state)
        if self._known.put(after):
            self.on_status(after)
        if isinstance(event, Room):
            self._made_room = True
            self.make_room(True)
        if isinstance(event, Finished):
            # What it still has to do is end; one that does not is helped.
            attempt.kill_at = time.monotonic() + self._timing.cancel

    def _cancel(self, run: str) -> None:
        waiting = self._queue.remove(run)
        if waiting is not None:
            self._drop(waiting)
        elif self._attempt is not None and self._attempt.spec.id == run and not self._attempt.cancelled:
            self._attempt.cancelled = True
            # Whatever ends before its process does, without a spec nothing goes on.
            (Path(self._attempt.spec.folder) / SPEC_FILE).unlink(missing_ok=True)
            self._attempt.kill_at = time.monotonic() + self._timing.cancel
            self._attempt.child.ask_to_end()
            self._tell(self._attempt.spec, message="Stopping", paused=False)

    def _ended(self, attempt: Attempt) -> None:
        """The process is gone, or has closed its output: see what became of the run."""
        status = self._take_leave(attempt)
        starved = attempt.ran_out_of_memory(status)
        spec, finished = attempt.spec, attempt.finished
        if attempt.cancelled:
            self._drop(spec)
        elif finished is not None:
            self._finish(spec, finished)
        elif attempt.got_further or attempt.restarts < RESTARTS:
            log.warning("run %s: its process ended with status %d; beginning it again", spec.id, status)
            if starved:
                spec = self._with_less_memory(spec)
            self._launch(spec, 0 if attempt.got_further else attempt.restarts + 1, attempt.step)
        else:
            tidy(Path(spec.folder), keep=True)
            sentence = f"The run's process ended unexpectedly (status {status}): see {attempt.log_file}."
            if starved:
                sentence = (
                    "Memory has run out: close other programs, or take a smaller model or training.context_length."
                )
            self._settle(spec, RunState.FAILED, sentence)

    def _take_leave(self, attempt: Attempt) -> int:
        """Return the exit status of the process at work, which is none from now on."""
        worked = attempt.child.worked
        self._attempt = None
        self._worked += worked
        return attempt.child.reap()

    def _with_less_memory(self, spec: RunSpec) -> RunSpec:
        """Return what a run does from now on, since the system does not let it have what it took."""
        if spec.trainer.gradient_checkpointing:
            return spec
        less = replace(spec, trainer=replace(spec.trainer, gradient_checkpointing=True))
        less.write()
        self._tell(spec, notes=follow(self._known.now(spec.id), Note(OUT_OF_MEMORY)).notes)
        return less

    def _drop(self, spec: RunSpec) -> None:
        """Leave nothing of a run that was cancelled but its record."""
        folder = Path(spec.folder)
        known = traces(folder)
        tidy(folder, keep=False)
        self._settle(spec, RunState.STOPPED, CANCELLED, known)

    def _finish(self, spec: RunSpec, finished: Finished) -> None:
        states = {"promoted": RunState.SUCCEEDED, "shadow": RunState.SUCCEEDED, "rejected": RunState.REJECTED}
        state = states.get(finished.status, RunState.STOPPED if finished.status == "stopped" else RunState.FAILED)
        sentence = finished.reason
        self._tell(spec, adapter=finished.adapter, figures=finished.figures)
        if state is not RunState.STOPPED:
            tidy(Path(spec.folder), keep=True)
        if finished.status == "promoted":
            # Should the program be ended meanwhile, what came of the run is on record.
            self._runs.update(spec.id, state, sentence, result=self._known.now(spec.id).values())
            try:
                sentence = f"{sentence} {self._deliver(spec, finished.adapter)}"
                state = RunState.PROMOTED
            except IntractError as error:
                state, sentence = RunState.FAILED, f"{sentence} It could not be put to use: {error}"
            except CancelledError:
                state, sentence = RunState.FAILED, f"{sentence} It was not put to use, since the program ended."
        self._settle(spec, state, sentence)

    def _settle(self, spec: RunSpec, state: RunState, message: str, known: Mapping[str, str] | None = None) -> None:
        """Record how a run ended, with what else is ``known`` of it, and let the next one begin."""
        if self._attempt is None:
            self._queue.release()
        self._look_at = 0.0
        self._tell(spec, state=state, message=message, paused=False, fraction=None, seconds_left=None)
        last = self._known.now(spec.id)
        try:
            self._runs.update(spec.id, state, message, result={**last.values(), **(known or {})})
        except IntractError as error:
            log.error("run %s could not be recorded: %s", spec.id, error)
        log.info("run %s %s", spec.id, state.value)
        self._known.conclude(spec.id)
        if self._attempt is not None:
            return
        # Last, so that the run is recorded whatever becomes of the load; completions come before tidiness.
        if self._made_room:
            self._made_room = False
            self.make_room(False)
        self.on_over(spec)

    def _break(self, error: Exception, asked: RunSpec | None) -> None:
        """Something of ours failed: the run that it was about, ``asked`` for just now or at work, cannot go on."""
        log.error("a run failed: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__)))
        attempt = self._attempt if asked is None else None
        if attempt is not None:
            attempt.child.kill()
            self._take_leave(attempt)
        spec = asked or (attempt.spec if attempt is not None else next(iter(self._queue.waiting), None))
        if spec is not None:
            self._queue.remove(spec.id)
            sentence = str(error) if isinstance(error, IntractError) else f"The run failed ({type(error).__name__})."
            self._settle(spec, RunState.FAILED, sentence)

    def _tell(self, spec: RunSpec, **changes: object) -> None:
        news = self._known.change(spec.id, **changes)
        if news is not None:
            self.on_status(news)
