"""A lean forward for the Llama, Qwen2, Mistral and StarCoder2 architectures: no framework cost a layer.

Query, key and value (and gate and up) are one matrix each; keys and values are written in place into buffers that grow
by doubling; logits are computed for the asked positions only. ``step`` computes the same in shapes that never change,
for ``graphs``. Other architectures run through ``transformers_network``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right

from intract_lsp.inference.buffers import KeyValues, Room
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


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values of the new rows, (rows, heads, size), and a layer's buffers, to (rows, heads * size)."""


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


class LeanDecoder:
    """A model's forward pass over sequences whose keys and values the caller holds. Batch size one, inference only."""

    branching = True
    """Trees of tokens can be computed in one pass."""

    def __init__(
        self, shape: Shape, tensors: Tensors, linears: Mapping[str, Transform] | None = None, flash: bool = False
    ) -> None:
        """Build the layers on ``tensors`` (see ``weights``), and on ``linears`` in the place of matrices, by name.

        With ``flash`` prompts are computed in the form that torch's flash attention takes.
        """
        self.shape = shape
        self._flash = flash
        made = partial(_linear, tensors, linears or {})
        self._embedding = tensors["embedding"]
        self._head = made("head")
        self._norm = _norm(tensors, "norm", shape)
        self._layers = [_layer(tensors, made, f"layers.{index}", shape) for index in range(shape.layers)]
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
        cosine, sine = self.rope(sequence.capacity if total > len(self._cosine) else 0)
        # Of all tokens with the same distance from a tree's root the position is the same.
        places = slice(start, total) if parents is None else positions_of(start, parents)
        angles = cosine[places], sine[places]  # (count, 1, head size / 2)
        if self._flash and parents is None and count > 1:
            attend = partial(self._attend_causally, angles, start)
        else:
            group = self.shape.heads // self.shape.kv_heads
            mask = _mask(start, count, parents, group, self._norm.weight) if count > 1 else None
            attend = partial(self._attend, angles, mask, start)
        x = self._through(torch.tensor(ids, device=self.device), sequence.keys, sequence.values, attend)
        sequence.length = total
        return self._head(self._norm(x[-last:]))

    def step(self, ids: Tensor, positions: Tensor, start: Tensor, tree: Tensor, room: Room) -> Tensor:
        """Compute ``ids`` (rows,) at ``positions`` (rows,) behind the first ``start`` (1,) places of ``room``.

        Row i may look at row j where ``tree`` (rows, rows), truth values, has it so. Returns the logits of all rows,
        (rows, vocabulary). Writes keys and values in the order of the rows. No shape depends on a value and nothing is
        read back, so that a graph can be recorded of it.
        """
        rows, capacity = len(ids), room.keys.shape[2]
        group = self.shape.heads // self.shape.kv_heads
        offsets = torch.arange(capacity, device=self.device) - start  # of each place from the first new one
        among = (offsets >= 0) & (offsets < rows)
        visible = (tree.index_select(1, offsets.clamp(0, rows - 1)) & among) | (offsets < 0)
        mask = torch.zeros(visible.shape, device=self.device).masked_fill_(~visible, float("-inf"))
        angles = room.cosine.index_select(0, positions), room.sine.index_select(0, positions)
        places = start + torch.arange(rows, device=self.device)
        attend = partial(self._attend_everywhere, angles, mask.repeat_interleave(group, dim=0), places)
        return self._head(self._norm(self._through(ids, room.keys, room.values, attend)))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._embedding.device

    def rope(self, positions: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of at least so many positions, (positions, 1, head size / 2) each."""
        if positions > len(self._cosine):
            angles = torch.outer(torch.arange(positions, device=self.device).float(), self._frequencies)
            self._cosine = (angles.cos() * self.shape.rope_scale).to(self._dtype).unsqueeze(1)
            self._sine = (angles.sin() * self.shape.rope_scale).to(self._dtype).unsqueeze(1)
        return self._cosine, self._sine

    def watch_linears(self, watch: Callable[[str, Transform], Transform]) -> None:
        """Put ``watch(name, present)`` in the place of every linear layer; names as in ``weights``."""
        for index, layer in enumerate(self._layers):
            for name in LINEARS:
                setattr(layer, name, watch(f"layers.{index}.{name}", getattr(layer, name)))
        self._head = watch("head", self._head)

    def _through(self, ids: Tensor, keys: Tensor, values: Tensor, attend: Attend) -> Tensor:
        """Return what the layers make of ``ids``, (rows, hidden)."""
        x = functional.embedding(ids, self._embedding).to(self._dtype)
        for layer, of_keys, of_values in zip(self._layers, keys, values, strict=True):
            qkv = layer.qkv(layer.before_attention(x)).view(len(ids), -1, self.shape.head_size)
            x = x + layer.out(attend(qkv, of_keys, of_values))
            x = x + layer.down(self._activate(layer.up(layer.before_feed_forward(x))))
        return x

    def _attend(
        self, angles: tuple[Tensor, Tensor], mask: Tensor | None, start: int, qkv: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Return (count, heads * size) for new positions from ``start`` on, whose keys and values are written."""
        query, total = self._write(angles, start, qkv, keys, values), start + len(qkv)
        query = self._grouped(query)[None]
        mixed = functional.scaled_dot_product_attention(query, keys[None, :, :total], values[None, :, :total], mask)
        return self._ungrouped(mixed[0])

    def _attend_causally(
        self, angles: tuple[Tensor, Tensor], start: int, qkv: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """The same without a mask, which flash attention does not take."""
        query, total = self._write(angles, start, qkv, keys, values), start + len(qkv)
        mixed = functional.scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            keys[None, :, :total],
            values[None, :, :total],
            attn_mask=causal_lower_right(len(qkv), total),
            enable_gqa=self.shape.heads != self.shape.kv_heads,
        )
        return mixed[0].transpose(0, 1).reshape(len(qkv), -1)

    def _attend_everywhere(
        self, angles: tuple[Tensor, Tensor], mask: Tensor, places: Tensor, qkv: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """The same over the whole buffers, of which a ``mask`` hides what is not in use.

        Plain products: fused kernels share the work out by rows and heads only, of which there are few here.
        """
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        rotated = _rotate(qkv[:, : heads + kv_heads], *angles)
        keys.index_copy_(1, places, rotated[:, heads:].transpose(0, 1))
        values.index_copy_(1, places, qkv[:, heads + kv_heads :].transpose(0, 1))
        query, scale = self._grouped(rotated[:, :heads]).float(), self.shape.head_size**-0.5
        scores = torch.baddbmm(mask.expand(kv_heads, -1, -1), query, keys.float().transpose(1, 2), alpha=scale)
        return self._ungrouped(scores.softmax(dim=-1).to(values.dtype) @ values)

    def _write(self, angles: tuple[Tensor, Tensor], start: int, qkv: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write new keys and values from ``start`` on and return the queries, (count, heads, size)."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        total = start + len(qkv)
        rotated = _rotate(qkv[:, : heads + kv_heads], *angles)
        keys[:, start:total] = rotated[:, heads:].transpose(0, 1)
        values[:, start:total] = qkv[:, heads + kv_heads :].transpose(0, 1)
        return rotated[:, :heads]

    def _grouped(self, query: Tensor) -> Tensor:
        """Make query heads that share a key head further rows of one product: nothing is repeated."""
        kv_heads, size = self.shape.kv_heads, self.shape.head_size
        return query.reshape(len(query), kv_heads, -1, size).transpose(0, 1).reshape(kv_heads, -1, size)

    def _ungrouped(self, mixed: Tensor) -> Tensor:
        """Turn (kv heads, count * group, size) back into (count, heads * size)."""
        kv_heads, size = self.shape.kv_heads, self.shape.head_size
        group = self.shape.heads // kv_heads
        return mixed.view(kv_heads, -1, group, size).transpose(0, 1).reshape(-1, kv_heads * group * size)

    def _activate(self, up: Tensor) -> Tensor:
        if not self.shape.gated:
            return functional.gelu(up, approximate="tanh")
        gate, up = up.chunk(2, dim=-1)
        return functional.silu(gate).mul_(up)


def _layer(tensors: Tensors, made: Callable[[str], Transform], name: str, shape: Shape) -> _Layer:
    return _Layer(
        before_attention=_norm(tensors, f"{name}.before_attention", shape),
        qkv=made(f"{name}.qkv"),
        out=made(f"{name}.out"),
        before_feed_forward=_norm(tensors, f"{name}.before_feed_forward", shape),
        up=made(f"{name}.up"),
        down=made(f"{name}.down"),
    )


def _linear(tensors: Tensors, linears: Mapping[str, Transform], name: str) -> Transform:
    return linears.get(name) or Linear(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def _norm(tensors: Tensors, name: str, shape: Shape) -> _Norm:
    return _Norm(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), shape.epsilon, rms=shape.gated)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the pairs (i, i + size/2) by the position's angles (RoPE, Su et al. 2021). x: (count, heads, size)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def positions_of(start: int, parents: Sequence[int]) -> list[int]:
    """Return the position of each node of a tree behind ``start`` tokens."""
    positions: list[int] = []
    for parent in parents:
        positions.append(start if parent < 0 else positions[parent] + 1)
    return positions


def _mask(start: int, count: int, parents: Sequence[int] | None, group: int, like: Tensor) -> Tensor:
    """Return (count * group, start + count): 0 where a row may look, at what comes before it and itself, else -inf."""
    mask = torch.full((count, start + count), float("-inf"), dtype=like.dtype, device=like.device).triu_(start + 1)
    if parents is not None:
        seen = torch.tensor(ancestors(parents), device=like.device)
        mask[:, start:] = torch.zeros_like(mask[:, start:]).masked_fill_(~seen, float("-inf"))
    return mask.repeat_interleave(group, dim=0)


def ancestors(parents: Sequence[int]) -> list[list[bool]]:
    """Return which nodes of a tree each of them follows, itself among them: (count, count)."""
    rows: list[list[bool]] = []
    for row, parent in enumerate(parents):
        seen = list(rows[parent]) if parent >= 0 else [False] * len(parents)
        seen[row] = True
        rows.append(seen)
    return rows
