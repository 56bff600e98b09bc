"""One version of the model under measurement, asked in the way that the server asks it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from intract_lsp.completion import postprocess
from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptShape
from intract_lsp.completion.request import RejectReason
from intract_lsp.completion.service import Policy
from intract_lsp.completion.stop import stop_rule

PATIENCE = 120.0
"""Seconds for one answer: a busy machine must not change what is compared."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a version of the model says at a cursor."""

    text: str | None
    """What would be shown, or ``None``."""
    replace: int = 0
    """Characters behind the cursor that the text takes the place of."""
    raw: str = ""
    """The model's own text, before the filters."""
    broken_off: bool = False
    """Whether the token limit or the deadline ended it."""
    tokens: int = 0
    milliseconds: float = 0.0
    """For decoding, the prompt's share not counted."""

    @property
    def rate(self) -> float | None:
        """Milliseconds a token, without the first, which the prompt gives; ``None`` for fewer than two."""
        return self.milliseconds / (self.tokens - 1) if self.tokens > 1 else None


class Arm(Protocol):
    """A version of the model: the base, the active adapter or the candidate."""

    def complete(self, context: CompletionContext) -> Answer:
        """Complete greedily at the context's cursor."""

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        """Return the summed negative log-likelihood in nats of a middle behind the served prompt, and its tokens."""


class ScoringEngine(Protocol):
    """What is asked of an engine: ``ModelEngine`` has it."""

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        """See ``inference.engine.CompletionEngine``."""

    def likelihood(self, context: CompletionContext, shape: PromptShape, middle: str) -> tuple[float, int]:
        """Return the summed negative log-likelihood of a middle behind the context's prompt, and its tokens."""


class EngineArm:
    """An engine with the pipeline's limits and filters around it."""

    def __init__(self, engine: ScoringEngine, policy: Policy, token: CancelToken) -> None:
        """``policy`` is what serving obeys; with ``token`` set a generation ends at its next step."""
        self._engine = engine
        self._policy = policy
        self._token = token

    def complete(self, context: CompletionContext) -> Answer:
        """See ``Arm.complete``."""
        policy = self._policy
        limits = Limits(
            max_tokens=policy.max_block_tokens if context.extent is Extent.BLOCK else policy.max_line_tokens,
            deadline=time.monotonic() + PATIENCE,
            stop=stop_rule(context),
        )
        generation = self._engine.generate(context, policy.shape, limits, self._token, lambda text: None)
        text, replace = _shown(generation, context)
        return Answer(
            text=text,
            replace=replace,
            raw=generation.text,
            broken_off=generation.finish in (Finish.LENGTH, Finish.DEADLINE),
            tokens=len(generation.token_ids),
            milliseconds=generation.decode_ms,
        )

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        """See ``Arm.likelihood``."""
        return self._engine.likelihood(context, self._policy.shape, middle)


def _shown(generation: Generation, context: CompletionContext) -> tuple[str | None, int]:
    """Return what the pipeline would show of a generation, with the characters that it replaces."""
    text = generation.text
    if generation.finish in (Finish.LENGTH, Finish.DEADLINE, Finish.CANCELLED):
        text = postprocess.trim_partial(text, context)
    cleaned = postprocess.before_cache(text, context)
    if isinstance(cleaned, RejectReason):
        return None, 0
    polished = postprocess.after_cache(cleaned, context)
    return (None, 0) if isinstance(polished, RejectReason) else (polished.text, polished.replace)
