"""What the weights alone do not say about a decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's measures."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    """Of the norms."""
    gated: bool
    """RMS norm and a SiLU-gated feed-forward; else layer norm and a plain GELU one."""
    rope_scale: float
    context_length: int
    """Most positions that the model was made for."""
