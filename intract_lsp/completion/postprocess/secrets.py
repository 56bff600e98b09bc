"""Texts that look like a secret."""

from __future__ import annotations

import math
import re
from collections import Counter

from intract_lsp.completion.context import CompletionContext
from intract_lsp.completion.request import RejectReason

_SHAPES = re.compile(
    r"""
      -----BEGIN\ (?:[A-Z]+\ ){0,3}PRIVATE\ KEY(?:\ BLOCK)?-----
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
    | \bgh[pousr]_[A-Za-z0-9]{20,}
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bglpat-[A-Za-z0-9_-]{16,}
    | \bsk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}
    | \bsk_live_[A-Za-z0-9]{16,}
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,}
    | \bAIza[A-Za-z0-9_-]{30,}
    | \beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}
    """,
    re.VERBOSE,
)
_ASSIGNED = re.compile(
    r"""(?:key|secret|token|passw(?:or)?d|credential)\w{0,20}["'\]]{0,2}\s{0,4}(?::\s{0,4}\w{1,20}\s{0,4})?(?:=|:|=>|:=)
    \s{0,4}["'`]([A-Za-z0-9+/=_.-]{32,})""",
    re.IGNORECASE | re.VERBOSE,
)
_LINE_PREFIX = 400
_LEAST_ENTROPY = 3.5
"""Bits a character; English words and paths lie below, random base64 of 32 characters and more above."""


def refuse_secrets(text: str, context: CompletionContext) -> str | RejectReason:
    """Refuse a text with what looks like a secret, unless this very string stands in the document already."""
    line_prefix = context.line_prefix[-_LINE_PREFIX:]
    joined, typed = line_prefix + text, len(line_prefix)
    for match in _SHAPES.finditer(joined):
        if match.end() > typed and not _is_known(match.group(), context):
            return RejectReason.SECRET
    for match in _ASSIGNED.finditer(joined):
        value = match.group(1)
        if match.end() > typed and _entropy(value) >= _LEAST_ENTROPY and not _is_known(value, context):
            return RejectReason.SECRET
    return text


def _is_known(value: str, context: CompletionContext) -> bool:
    return value in context.prefix or value in context.suffix


def _entropy(value: str) -> float:
    """Return Shannon's entropy in bits a character; words joined by marks count as none."""
    if not any(character.isdigit() for character in value):
        return 0.0
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
