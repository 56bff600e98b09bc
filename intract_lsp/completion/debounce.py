"""How long to wait for the next keystroke before the model is asked. Pure: the clock's readings are handed in."""

from __future__ import annotations

from collections import deque

FASTEST, SLOWEST = 0.06, 0.4
"""Gaps between keystrokes, in seconds, outside which typing is taken as this fast or this slow."""

LONGEST_WAIT = 0.3
"""Seconds that an adaptive wait never exceeds."""


class AdaptiveDebounce:
    """Waits a little longer than this user's usual gap between keystrokes, and less where a pause is natural.

    After TabbyML/tabby's debouncer (moving average of gaps up to 400 ms, shorter behind a non-word character), with
    the editor's own wait taken off: Neovim has waited 200 ms before it asks at all.
    """

    def __init__(self, client_wait: float = 0.0) -> None:
        self.client_wait = client_wait
        """Seconds that the editor has waited already when it asks."""
        self._gaps: deque[float] = deque(maxlen=30)
        self._last: float | None = None

    def keystroke(self, now: float) -> None:
        """Note that the user typed at ``now`` (seconds of a monotonic clock)."""
        if self._last is not None and now - self._last <= SLOWEST:
            self._gaps.append(max(FASTEST, now - self._last))
        self._last = now

    def wait(self, line_prefix: str) -> float:
        """Return the seconds to wait for a further keystroke behind ``line_prefix``."""
        gap = sum(self._gaps) / len(self._gaps) if self._gaps else 0.15
        last = line_prefix[-1:]
        natural_pause = not last or not (last.isalnum() or last == "_")
        factor = 0.4 if natural_pause else 1.1
        return max(0.0, min(LONGEST_WAIT, gap * factor) - self.client_wait)
