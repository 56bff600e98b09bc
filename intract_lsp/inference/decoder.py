"""A lean forward for the Llama, Qwen2, Mistral and StarCoder2 architectures: no framework cost a layer.

Query, key and value (and gate and up) are one matrix each; keys and values are written in place into buffers that grow
by doubling; logits are computed for the asked positions only. Other architectures run through
``transformers_network``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from intract_lsp.inference.shape import Shape
from intract_lsp.inference.weights import LINEARS, Tensors

FIRST_CAPACITY = 1024
"""Tokens that the key and value buffers hold at first: a CPU prompt with its answer."""


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


class KeyValues:
    """One sequence's keys and values, in buffers that are larger than what is in use."""

    def __init__(self, keys: Tensor, values: Tensor, length: int = 0) -> None:
        self.keys = keys
        """(layers, key-value heads, capacity, head size); the first ``length`` positions are in use."""
        self.values = values
        self.length = length

    @property
    def capacity(self) -> int:
        """Positions that the buffers hold."""
        return self.keys.shape[2]

    @property
    def size_bytes(self) -> int:
        """Bytes of both buffers."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def cut(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        self.length = length

    @torch.inference_mode()
    def keep(self, start: int, rows: Sequence[int]) -> None:
        """Of the positions from ``start`` on keep those at ``start`` + each of ``rows``, moved together."""
        self.length = start + len(rows)
        if any(row != place for place, row in enumerate(rows)):
            chosen = torch.tensor(rows, device=self.keys.device) + start
            for buffer in (self.keys, self.values):
                buffer[:, :, start : self.length] = buffer.index_select(2, chosen)

    @torch.inference_mode()
    def copy(self, length: int) -> KeyValues:
        """Return a sequence of its own with the first ``length`` positions of this one."""
        twin = KeyValues(torch.empty_like(self.keys), torch.empty_like(self.values), length)
        twin.keys[:, :, :length] = self.keys[:, :, :length]
        twin.values[:, :, :length] = self.values[:, :, :length]
        return twin

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` positions, keeping those in use."""
        layers, heads, _, size = self.keys.shape
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_empty(layers, heads, capacity, size)
            new[:, :, : self.length] = old[:, :, : self.length]
            setattr(self, name, new)


class LeanDecoder:
    """A model's forward pass over sequences whose keys and values the caller holds. Batch size one, inference only."""

    branching = True
    """Trees of tokens can be computed in one pass."""

    def __init__(self, shape: Shape, tensors: Tensors) -> None:
        """Build the layers on ``tensors`` (see ``weights``)."""
        self.shape = shape
        self._embedding = tensors["embedding"]
        self._head: Transform = _linear(tensors, "head")
        self._norm = _norm(tensors, "norm", shape)
        self._layers = [_layer(tensors, f"layers.{index}", shape) for index in range(shape.layers)]
        self._frequencies = tensors["frequencies"]
        self._dtype = self._norm.weight.dtype
        self._cosine = self._sine = torch.empty(0)

    def begin(self) -> KeyValues:
        """Return an empty sequence."""
        shape = self.shape
        capacity = min(FIRST_CAPACITY, shape.context_length)
        buffer = self._norm.weight.new_empty(shape.layers, shape.kv_heads, capacity, shape.head_size)
        return KeyValues(buffer, torch.empty_like(buffer))

    def forward(
        self, sequence: KeyValues, ids: Sequence[int], last: int = 1, parents: Sequence[int] | None = None
    ) -> Tensor:
        """Append ``ids``, a tree with ``parents``, to a sequence; return the logits of its ``last`` positions.

        (last, vocabulary). Keys and values of a tree are written in the order of ``ids``.
        """
        count, start = len(ids), sequence.length
        total = start + count
        if total > sequence.capacity:
            sequence.grow(max(total, min(self.shape.context_length, 2 * sequence.capacity)))
        if total > len(self._cosine):
            self._extend_rope(sequence.capacity)
        device = self._embedding.device
        x = functional.embedding(torch.tensor(ids, device=device), self._embedding).to(self._dtype)  # (count, hidden)
        # Of all tokens with the same distance from a tree's root the position is the same.
        places = slice(start, total) if parents is None else _positions(start, parents)
        cosine, sine = self._cosine[places], self._sine[places]  # (count, 1, head size / 2)
        group = self.shape.heads // self.shape.kv_heads
        mask = _mask(start, count, parents, group, x) if count > 1 else None
        for layer, keys, values in zip(self._layers, sequence.keys, sequence.values, strict=True):
            qkv = layer.qkv(layer.before_attention(x)).view(count, -1, self.shape.head_size)
            x = x + layer.out(self._attend(qkv, keys, values, cosine, sine, mask, start))
            x = x + layer.down(self._activate(layer.up(layer.before_feed_forward(x))))
        sequence.length = total
        return self._head(self._norm(x[-last:]))

    def watch_linears(self, watch: Callable[[str, Transform], Transform]) -> None:
        """Put ``watch(name, present)`` in the place of every linear layer; names as in ``weights``."""
        for index, layer in enumerate(self._layers):
            for name in LINEARS:
                setattr(layer, name, watch(f"layers.{index}.{name}", getattr(layer, name)))
        self._head = watch("head", self._head)

    def _attend(
        self,
        qkv: Tensor,
        keys: Tensor,
        values: Tensor,
        cosine: Tensor,
        sine: Tensor,
        mask: Tensor | None,
        start: int,
    ) -> Tensor:
        """Return (count, heads * size) for the new positions, whose keys and values are written into the buffers."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        count, _, size = qkv.shape
        total, group = start + count, heads // kv_heads
        rotated = _rotate(qkv[:, : heads + kv_heads], cosine, sine)
        keys[:, start:total] = rotated[:, heads:].transpose(0, 1)
        values[:, start:total] = qkv[:, heads + kv_heads :].transpose(0, 1)
        # Query heads that share a key head are further rows of one product: nothing is repeated.
        query = rotated[:, :heads].view(count, kv_heads, group, size).transpose(0, 1)
        query = query.reshape(1, kv_heads, count * group, size)
        mixed = functional.scaled_dot_product_attention(query, keys[None, :, :total], values[None, :, :total], mask)
        return mixed.view(kv_heads, count, group, size).transpose(0, 1).reshape(count, heads * size)

    def _activate(self, up: Tensor) -> Tensor:
        if not self.shape.gated:
            return functional.gelu(up, approximate="tanh")
        gate, up = up.chunk(2, dim=-1)
        return functional.silu(gate).mul_(up)

    def _extend_rope(self, positions: int) -> None:
        device = self._frequencies.device
        angles = torch.outer(torch.arange(positions, device=device).float(), self._frequencies)
        self._cosine = (angles.cos() * self.shape.rope_scale).to(self._dtype).unsqueeze(1)
        self._sine = (angles.sin() * self.shape.rope_scale).to(self._dtype).unsqueeze(1)


def _layer(tensors: Tensors, name: str, shape: Shape) -> _Layer:
    return _Layer(
        before_attention=_norm(tensors, f"{name}.before_attention", shape),
        qkv=_linear(tensors, f"{name}.qkv"),
        out=_linear(tensors, f"{name}.out"),
        before_feed_forward=_norm(tensors, f"{name}.before_feed_forward", shape),
        up=_linear(tensors, f"{name}.up"),
        down=_linear(tensors, f"{name}.down"),
    )


def _linear(tensors: Tensors, name: str) -> Linear:
    return Linear(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def _norm(tensors: Tensors, name: str, shape: Shape) -> _Norm:
    return _Norm(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), shape.epsilon, rms=shape.gated)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the pairs (i, i + size/2) by the position's angles (RoPE, Su et al. 2021). x: (count, heads, size)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _positions(start: int, parents: Sequence[int]) -> list[int]:
    positions: list[int] = []
    for parent in parents:
        positions.append(start if parent < 0 else positions[parent] + 1)
    return positions


def _mask(start: int, count: int, parents: Sequence[int] | None, group: int, like: Tensor) -> Tensor:
    """Return (count * group, start + count): 0 where a row may look, at what comes before it and itself, else -inf."""
    mask = torch.full((count, start + count), float("-inf"), dtype=like.dtype, device=like.device).triu_(start + 1)
    if parents is not None:
        mask[:, start:] = torch.tensor(_ancestors(parents), dtype=like.dtype, device=like.device)
    return mask.repeat_interleave(group, dim=0)


def _ancestors(parents: Sequence[int]) -> list[list[float]]:
    """Return a tree's own part of the mask, (count, count)."""
    hidden = [float("-inf")] * len(parents)
    rows: list[list[float]] = []
    for row, parent in enumerate(parents):
        seen = list(rows[parent] if parent >= 0 else hidden)
        seen[row] = 0.0
        rows.append(seen)
    return rows
