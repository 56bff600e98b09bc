"""A lean forward for one sequence of the Llama, Qwen2, Mistral and StarCoder2 architectures: no framework cost a layer.

Takes over the weights of a transformers model. Query, key and value (and gate and up) are one matrix each; keys and
values are written in place into buffers that grow by doubling; logits are computed for the asked positions only.
Other architectures run through ``transformers_network``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FIRST_CAPACITY = 1024
"""Tokens that the key and value buffers hold at first: a CPU prompt with its answer."""

GATED = frozenset({"llama", "qwen2", "mistral"})
"""Architectures with RMS norm and a gated feed-forward; StarCoder2 has layer norm and a plain one."""

_FIXED_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary embeddings whose frequencies do not depend on the sequence's length."""


@dataclass(slots=True)
class Linear:
    """A matrix with an optional bias."""

    weight: Tensor
    """(out, in)"""
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Return (tokens, out) for ``x`` of (tokens, in)."""
        return functional.linear(x, self.weight, self.bias)


Transform = Callable[[Tensor], Tensor]
"""(tokens, in) to (tokens, out): a ``Linear``, or what stands in for one."""


@dataclass(slots=True)
class _Norm:
    weight: Tensor
    bias: Tensor | None
    epsilon: float
    rms: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise each row of ``x``."""
        if self.rms:
            return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(slots=True)
class _Layer:
    before_attention: _Norm
    qkv: Transform
    out: Transform
    before_feed_forward: _Norm
    up: Transform
    """Gate and up, one above the other, for gated feed-forwards."""
    down: Transform
    keys: Tensor
    """(key-value heads, capacity, head size); the first ``length`` positions are in use."""
    values: Tensor


class LeanDecoder:
    """One sequence's forward pass with its keys and values. Batch size one, inference only."""

    def __init__(self, model: Any, context_length: int) -> None:
        """Take the weights over from a transformers causal language model, which is of no use afterwards."""
        config, body = model.config, model.model
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = getattr(config, "num_key_value_heads", None) or self._heads
        self._head_size: int = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        self._gated = config.model_type in GATED
        self._context_length = context_length
        self._embedding: Tensor = body.embed_tokens.weight
        self._head: Transform = Linear(model.lm_head.weight, getattr(model.lm_head, "bias", None))
        self._norm = _norm(body.norm)
        self._frequencies: Tensor = body.rotary_emb.inv_freq.float()
        self._rope_scale = float(getattr(body.rotary_emb, "attention_scaling", 1.0))
        self._capacity = 0
        self._cosine = self._sine = torch.empty(0)
        self._layers = [self._take_layer(layer) for layer in body.layers]
        self.length = 0
        """Positions whose keys and values are held."""
        self._grow(min(FIRST_CAPACITY, context_length))

    @staticmethod
    def supports(config: Any) -> bool:
        """Return whether this forward computes what transformers' own would for a model with ``config``."""
        if config.model_type not in GATED | {"starcoder2"}:
            return False
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type", "default") not in _FIXED_ROPE:
            return False
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None)
        slides = "sliding_attention" in kinds if kinds is not None else window is not None
        if slides and window is not None and window < config.max_position_embeddings:
            return False
        wanted = "silu" if config.model_type in GATED else "gelu_pytorch_tanh"
        return bool(config.hidden_act == wanted)

    def forward(self, ids: Sequence[int], last: int = 1) -> Tensor:
        """Append ``ids`` to the sequence and return the logits of its ``last`` positions, (last, vocabulary)."""
        count, start = len(ids), self.length
        total = start + count
        if total > self._capacity:
            self._grow(total)
        x = functional.embedding(torch.tensor(ids, device=self._embedding.device), self._embedding)  # (count, hidden)
        cosine, sine = self._cosine[start:total], self._sine[start:total]  # (count, 1, head size / 2)
        mask = _causal_mask(start, count, x.device) if count > 1 else None
        for layer in self._layers:
            x = x + self._attend(layer, layer.before_attention(x), cosine, sine, mask, start, total)
            x = x + self._feed_forward(layer, layer.before_feed_forward(x))
        self.length = total
        return self._head(self._norm(x[-last:]))

    def replace_linears(self, replace: Callable[[int, Any], Transform]) -> None:
        """Put ``replace(place, present)`` in the place of every linear layer, numbered in a fixed order."""
        place = 0
        for layer in self._layers:
            for name in ("qkv", "out", "up", "down"):
                setattr(layer, name, replace(place, getattr(layer, name)))
                place += 1
        self._head = replace(place, self._head)

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        self.length = length

    def _attend(
        self, layer: _Layer, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor | None, start: int, total: int
    ) -> Tensor:
        count, heads, kv_heads, size = x.shape[0], self._heads, self._kv_heads, self._head_size
        qkv = layer.qkv(x).view(count, heads + 2 * kv_heads, size)
        rotated = _rotate(qkv[:, : heads + kv_heads], cosine, sine)
        layer.keys[:, start:total] = rotated[:, heads:].transpose(0, 1)
        layer.values[:, start:total] = qkv[:, heads + kv_heads :].transpose(0, 1)
        # Query heads that share a key head are computed as further rows of one product: nothing is repeated.
        group = heads // kv_heads
        query = rotated[:, :heads].view(count, kv_heads, group, size).permute(1, 2, 0, 3)
        query = query.reshape(kv_heads, group * count, size) * size**-0.5
        scores = torch.bmm(query, layer.keys[:, :total].transpose(1, 2))  # (kv_heads, group * count, total)
        if mask is not None:
            scores.view(kv_heads, group, count, total).masked_fill_(mask, float("-inf"))
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(x.dtype)
        mixed = torch.bmm(weights, layer.values[:, :total])  # (kv_heads, group * count, size)
        mixed = mixed.view(kv_heads, group, count, size).permute(2, 0, 1, 3).reshape(count, heads * size)
        return layer.out(mixed)

    def _feed_forward(self, layer: _Layer, x: Tensor) -> Tensor:
        up = layer.up(x)
        if not self._gated:
            return layer.down(functional.gelu(up, approximate="tanh"))
        gate, up = up.chunk(2, dim=-1)
        return layer.down(functional.silu(gate) * up)

    def _grow(self, needed: int) -> None:
        """Make room for at least ``needed`` positions, keeping those in use."""
        capacity = max(needed, min(self._context_length, 2 * self._capacity))
        for layer in self._layers:
            for name in ("keys", "values"):
                old: Tensor = getattr(layer, name)
                new = old.new_empty(self._kv_heads, capacity, self._head_size)
                new[:, : self.length] = old[:, : self.length]
                setattr(layer, name, new)
        angles = torch.outer(torch.arange(capacity, device=self._frequencies.device).float(), self._frequencies)
        dtype = self._embedding.dtype
        self._cosine = (angles.cos() * self._rope_scale).to(dtype).unsqueeze(1)
        self._sine = (angles.sin() * self._rope_scale).to(dtype).unsqueeze(1)
        self._capacity = capacity

    def _take_layer(self, layer: Any) -> _Layer:
        attention, feed_forward = layer.self_attn, layer.mlp
        qkv = _join([attention.q_proj, attention.k_proj, attention.v_proj])
        if self._gated:
            up, down = _join([feed_forward.gate_proj, feed_forward.up_proj]), _join([feed_forward.down_proj])
        else:
            up, down = _join([feed_forward.c_fc]), _join([feed_forward.c_proj])
        empty = qkv.weight.new_empty(self._kv_heads, 0, self._head_size)
        return _Layer(
            before_attention=_norm(layer.input_layernorm),
            qkv=qkv,
            out=_join([attention.o_proj]),
            before_feed_forward=_norm(layer.post_attention_layernorm),
            up=up,
            down=down,
            keys=empty,
            values=empty,
        )


def _join(modules: list[Any]) -> Linear:
    """Stack linear modules' outputs into one matrix and let go of the originals, so that memory holds one copy."""
    weights = [module.weight.data for module in modules]
    biases = [module.bias for module in modules]
    joined = weights[0] if len(weights) == 1 else torch.cat(weights)
    bias = None
    if any(one is not None for one in biases):
        pairs = zip(biases, weights, strict=True)
        bias = torch.cat([one.data if one is not None else weight.new_zeros(len(weight)) for one, weight in pairs])
    for module in modules:
        module.weight = None
    return Linear(joined, bias)


def _norm(module: Any) -> _Norm:
    rms = hasattr(module, "variance_epsilon")
    bias = getattr(module, "bias", None)
    return _Norm(
        module.weight.data,
        None if bias is None else bias.data,
        module.variance_epsilon if rms else module.eps,
        rms,
    )


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the pairs (i, i + size/2) by the position's angles (RoPE, Su et al. 2021). x: (count, heads, size)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _causal_mask(start: int, count: int, device: torch.device) -> Tensor:
    """Return (count, start + count), true where a row must not look: behind its own position."""
    return torch.ones(count, start + count, dtype=torch.bool, device=device).triu_(start + 1)
