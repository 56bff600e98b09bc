"""A deterministic engine without weights: for end-to-end tests, for editors' set-up, and for demos."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.inference.engine import AdapterFiles, LoadOrder, ModelCard, ReportProgress


class EchoEngine:
    """Suggests ``echo(WORD)`` where WORD is the last word before the cursor, one character a step."""

    def __init__(self, step_seconds: float = 0.0) -> None:
        self._step_seconds = step_seconds

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Be ready at once, under whatever name was asked for."""
        report("Loading the echo engine", 1.0)
        return replace(_card(order.adapter), notes=(order.refusal,) if order.refusal else ())

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        """Spell the echo, obeying the same limits as a real engine."""
        began = time.monotonic()
        words = re.findall(r"\w+", context.prefix[-200:])
        answer = f"echo({words[-1] if words else ''})"
        text, finish = "", Finish.END
        for character in answer[: limits.max_tokens]:
            if token.cancelled or time.monotonic() >= limits.deadline:
                finish = Finish.CANCELLED if token.cancelled else Finish.DEADLINE
                break
            if self._step_seconds:
                time.sleep(self._step_seconds)
            text += character
            on_text(text)
            keep = limits.stop(text)
            if keep is not None:
                text, finish = text[:keep], Finish.STOP
                break
        ids = tuple(map(ord, text))
        return Generation(text, finish, len(words), 0, ids, decode_ms=(time.monotonic() - began) * 1000)

    def prepare(self, context: CompletionContext, shape: PromptShape, token: CancelToken) -> bool:
        """There is nothing to prepare."""
        return not (shape.exact or token.cancelled)

    def forget(self) -> None:
        """There is nothing to forget."""

    def swap(self, adapter: AdapterFiles | None, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Echo on under the adapter's name."""
        return _card(adapter)

    def unload(self) -> None:
        """There is nothing to free."""


def _card(adapter: AdapterFiles | None) -> ModelCard:
    name = adapter.id if adapter else ""
    return ModelCard("echo", "none", "none", "none", 0, 0, PromptBudget(512, 128), adapter=name)
