"""Control tokens of models that leak into the text."""

from __future__ import annotations

import re

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.request import RejectReason

_SENTINEL = re.compile(
    r"""
      <\|[\w▁.:-]{1,40}\|>                  # Qwen, Llama 3, CodeGemma, GPT families
    | <｜[^｜\n]{1,40}｜>                    # DeepSeek
    | </?fim[_-]\w{1,16}>                   # StarCoder, Granite
    | <(?:file_sep|repo_name|reponame|gh_stars|issue_start|jupyter_start|empty_output|commit_before|commit_after)>
    | ▁<(?:PRE|SUF|MID|EOT)>                # CodeLlama
    | <(?:SUF|MID|EOT)>
    | \[(?:PREFIX|SUFFIX|MIDDLE)\]          # Codestral
    | <(?:start_of_turn|end_of_turn|eos)>   # Gemma
    | </s>                                  # Llama 2, Mistral
    | [\x00-\x08\x0b\x0e-\x1f\x7f\ufffd\ud800-\udfff]  # what no model means: half a character, control characters
    """,
    re.VERBOSE,
)


def cut_at_sentinel(text: str, context: CompletionContext) -> str | RejectReason:
    """Keep what stands before the first control token: behind it the model has begun something else."""
    match = _SENTINEL.search(text)
    if match is None:
        return text
    return text[: match.start()] if text[: match.start()].strip() else RejectReason.SENTINEL
