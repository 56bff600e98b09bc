"""transformers' ``model.generate`` as a completion engine, for comparisons only: greedy, nothing kept between calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from intract_lsp.completion.context import CompletionContext, comment_mark
from intract_lsp.completion.generation import CancelToken, Finish, Generation, Limits, PromptBudget, PromptShape
from intract_lsp.completion.prompt import PromptSource, end_ids, render, resolve_format
from intract_lsp.inference.device import choose_placement
from intract_lsp.inference.engine import LoadOrder, ModelCard, ReportProgress
from intract_lsp.inference.tokenizer import load_tokenizer
from intract_lsp.models.store import InstalledModel

VERSION = str(transformers.__version__)


class TransformersEngine:
    """``generate`` behind the project's engine protocol, on the same device, with our tokenizer and stop rules.

    Where our engine has int8 or 4-bit weights this one has the device's fastest float format.
    """

    def __init__(self, installed: InstalledModel, threads: int, budget: PromptBudget) -> None:
        self._installed = installed
        self._threads = threads
        self._budget = budget
        self._tokenizer = load_tokenizer(installed.directory)
        self._format, _ = resolve_format(installed.fim_family, self._tokenizer)
        self._model: Any = None
        self._end_ids: frozenset[int] = frozenset()

    def load(self, order: LoadOrder, report: ReportProgress, token: CancelToken) -> ModelCard:
        """Load the model's weights where ``order`` says."""
        report(f"Loading {self._installed.name}", None)
        torch.set_num_threads(self._threads)
        transformers.utils.logging.disable_progress_bar()
        placement = choose_placement(order.device, order.precision)
        model = AutoModelForCausalLM.from_pretrained(
            self._installed.directory, dtype=placement.dtype, local_files_only=True, attn_implementation="sdpa"
        )
        self._model = model.to(placement.device).eval()
        configured = model.config.eos_token_id
        own = {configured} if isinstance(configured, int) else set(configured or ())
        self._end_ids = end_ids(self._format, self._tokenizer) | own
        precision = str(placement.dtype).removeprefix("torch.")
        name, device = self._installed.name, placement.device.type
        return ModelCard(name, self._format.name, device, precision, 0, self._threads, self._budget)

    @torch.inference_mode()
    def generate(
        self,
        context: CompletionContext,
        shape: PromptShape,
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> Generation:
        """Decode greedily from the ids that our engine sees for an exact shape, with the same rules for stopping."""
        began = time.monotonic()
        source = PromptSource(context.prefix, context.suffix, comment_mark(context.language_id), context.chunks)
        prompt = render(self._format, source, shape.budget or self._budget, self._tokenizer)
        tokenized = time.monotonic()
        watch = _Watch(len(prompt.ids), self._tokenizer.decode, self._end_ids, limits, token, on_text)
        ids = torch.tensor([prompt.ids], device=self._model.device)
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limits.max_tokens,
            do_sample=False,
            eos_token_id=sorted(self._end_ids) or None,
            pad_token_id=next(iter(self._end_ids), 0),
            stopping_criteria=StoppingCriteriaList([watch]),
        )
        prefilled = watch.first or time.monotonic()
        return Generation(
            text=watch.text,
            finish=watch.finish,
            prompt_tokens=len(prompt.ids),
            token_ids=tuple(watch.ids),
            tokenize_ms=(tokenized - began) * 1000,
            prefill_ms=(prefilled - tokenized) * 1000,
            decode_ms=(time.monotonic() - prefilled) * 1000,
        )

    def forget(self) -> None:
        """Do nothing: no call leaves anything behind."""

    def unload(self) -> None:
        """Free the model."""
        self._model = None


class _Watch(StoppingCriteria):
    """Called by ``generate`` behind each token: knows what has been said, and whether that is enough."""

    def __init__(
        self,
        start: int,
        decode: Callable[[list[int]], str],
        ends: frozenset[int],
        limits: Limits,
        token: CancelToken,
        on_text: Callable[[str], None],
    ) -> None:
        self._start, self._decode, self._ends = start, decode, ends
        self._limits, self._token, self._on_text = limits, token, on_text
        self.ids: list[int] = []
        self.text = ""
        self.finish = Finish.LENGTH
        self.first: float | None = None
        """When the first token was there."""

    def __call__(self, input_ids: Any, scores: Any, **others: Any) -> Any:
        ids = input_ids[0, self._start :].tolist()
        self.first = self.first or time.monotonic()
        done = self._look(ids)
        return torch.full((1,), done, device=input_ids.device, dtype=torch.bool)

    def _look(self, ids: list[int]) -> bool:
        if ids[-1] in self._ends:
            self.finish = Finish.END
            return True
        self.ids, self.text = ids, self._decode(ids)
        self._on_text(self.text)
        keep = self._limits.stop(self.text)
        if keep is not None:
            self.text, self.finish = self.text[:keep], Finish.STOP
        elif self._token.cancelled:
            self.finish = Finish.CANCELLED
        elif time.monotonic() >= self._limits.deadline:
            self.finish = Finish.DEADLINE
        return self.finish is not Finish.LENGTH
