"""Progress on the terminal: one bar for each step, on stderr, so that stdout stays for results."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Reporter:
    """A ``ReportProgress`` that draws: call it with a sentence and the fraction done, inside a ``with`` block."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._sentence = ""

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def __call__(self, sentence: str, fraction: float | None) -> None:
        """Show a step; a new sentence finishes the step before."""
        if sentence != self._sentence or self._task is None:
            self._finish()
            self._sentence = sentence
            self._task = self._progress.add_task(sentence, total=None)
        if fraction is not None:
            self._progress.update(self._task, total=1.0, completed=fraction)

    def _finish(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=1.0, completed=1.0)
