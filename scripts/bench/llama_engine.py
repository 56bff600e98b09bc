"""llama.cpp as a completion engine, for comparisons only: the product does not depend on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from intract_lsp.completion.context import CompletionContext, comment_mark
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.completion.prompt import PromptSource, end_ids, render, resolve_format
from intract_lsp.inference.engine import LoadOrder, ModelCard, ReportProgress
from intract_lsp.inference.tokenizer import load_tokenizer
from intract_lsp.models.store import InstalledModel

VERSION = str(llama_cpp.__version__)


class LlamaEngine:
    """llama.cpp behind the project's engine protocol, with our tokenizer, so that both engines get the same ids."""

    def __init__(self, installed: InstalledModel, threads: int, budget: PromptBudget) -> None:
        self._installed = installed
        self._threads = threads
        self._budget = budget
        self._tokenizer = load_tokenizer(installed.directory)
        self._format, _ = resolve_format(installed.fim_family, self._tokenizer)
        self._llama: llama_cpp.Llama | None = None
        self._end_ids: frozenset[int] = frozenset()
        self.raw: dict[tuple[str, str], str] = {}
        """What the stop rule left of each text, by the prefix and suffix that it was asked for."""

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Load the GGUF file that ``order`` names."""
        report(f"Loading {order.model}", None)
        # 512 more than the budget: room for sentinels and for the longest suggestion.
        length = self._budget.prefix + self._budget.suffix + 512
        self._llama = llama_cpp.Llama(order.model, n_ctx=length, n_threads=self._threads, verbose=False)
        self._end_ids = end_ids(self._format, self._tokenizer) | {self._llama.token_eos()}
        return ModelCard(Path(order.model).name, self._format.name, "cpu", "gguf", 0, self._threads, self._budget)

    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        """Decode greedily from the ids that our engine sees for an exact shape, with the same rules for stopping."""
        assert self._llama is not None
        began = time.monotonic()
        source = PromptSource(context.prefix, context.suffix, comment_mark(context.language_id), context.chunks)
        prompt = render(self._format, source, shape.budget or self._budget, self._tokenizer)
        tokenized = prefilled = time.monotonic()
        ids: list[int] = []
        text, finish = "", Finish.LENGTH
        for id_ in self._llama.generate(list(prompt.ids), temp=0.0, repeat_penalty=1.0):
            if not ids:
                prefilled = time.monotonic()
            if id_ in self._end_ids:
                finish = Finish.END
                break
            ids.append(id_)
            text = self._tokenizer.decode(ids)
            on_text(text)
            keep = limits.stop(text)
            if keep is not None:
                text, finish = text[:keep], Finish.STOP
                break
            if token.cancelled or time.monotonic() >= limits.deadline:
                finish = Finish.CANCELLED if token.cancelled else Finish.DEADLINE
                break
            if len(ids) >= limits.max_tokens:
                break
        self.raw[context.prefix, context.suffix] = text
        return Generation(
            text=text,
            finish=finish,
            prompt_tokens=len(prompt.ids),
            token_ids=tuple(ids),
            tokenize_ms=(tokenized - began) * 1000,
            prefill_ms=(prefilled - tokenized) * 1000,
            decode_ms=(time.monotonic() - prefilled) * 1000,
        )

    def forget(self) -> None:
        """Drop the KV cache."""
        if self._llama is not None:
            self._llama.reset()

    def unload(self) -> None:
        """Free the model."""
        self._llama = None
