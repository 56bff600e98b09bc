"""What a training step computes in the layers, leaner than transformers' own: less is computed, and less is kept.

Each function saves for its backward pass only what it cannot compute again at once; gradients of frozen weights are
never computed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PACKED = "intract_packed"
"""Name under which transformers knows ``packed_attention``."""

_HERE: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _HERE else None
"""What torch's own compiler calls for a linear layer on a CPU."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``functional.linear`` where no gradient is wanted.

    In float32 on a CPU by oneDNN: MKL, which torch takes there, is up to half as fast for wide layers on AMD's CPUs.
    """
    if _ONEDNN is None or x.device.type != "cpu" or x.dtype is not torch.float32 or not x.numel():
        return functional.linear(x, weight, bias)
    result: Tensor = _ONEDNN(x, weight, bias, "none", [], "")
    return result


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    starts: tuple[int, ...],
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each of the samples that lie between ``starts``, causally.

    ``query`` is ``[1, heads, tokens, size]``, ``key`` and ``value`` have the heads of keys and values; the result is
    ``[1, tokens, heads, size]``. No work is done between samples, where a mask would compute it and throw it away. The
    dropout that some configurations ask for is left out: a low-rank adapter has its own.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = []
    for begin, end in pairwise(starts):
        mask = None
        if sliding_window is not None and sliding_window < end - begin:
            mask = query.new_ones(end - begin, end - begin, dtype=torch.bool).tril().triu(1 - sliding_window)
        parts.append(
            functional.scaled_dot_product_attention(
                query[:, :, begin:end],
                key[:, :, begin:end],
                value[:, :, begin:end],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
            ).transpose(1, 2)
        )
    return torch.cat(parts, 1), None


class _Norm(torch.autograd.Function):
    """RMS norm with a frozen weight: of the input alone, in its own number format, the gradient is made."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(epsilon))
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).to(x.dtype).mul_(weight) if wide is not x else (wide * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        normal = x.float() * scale
        wide = (gradient * weight).float()
        inner = (wide * normal).mean(-1, keepdim=True)
        return wide.sub(normal.mul_(inner)).mul_(scale).to(x.dtype), None, None


class FrozenNorm(nn.Module):
    """RMS norm in place of a model's own, whose weight is not trained."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        result: Tensor = _Norm.apply(x, self.weight, self.epsilon)  # type: ignore[no-untyped-call]
        return result


class _Gated(torch.autograd.Function):
    """``silu(gate) * up``, of which only ``gate`` and ``up`` are kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        passed = functional.silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(gradient * up, gate), passed


class GatedFeedForward(nn.Module):
    """A SiLU-gated feed-forward in place of a model's own, around the same three linear layers."""

    def __init__(self, gate_proj: nn.Module, up_proj: nn.Module, down_proj: nn.Module) -> None:
        super().__init__()
        # The names are the ones that files of adapters and models have.
        self.gate_proj, self.up_proj, self.down_proj = gate_proj, up_proj, down_proj
        self.rows: Tensor | None = None
        """Of the next passes, the tokens whose output is asked for, ``[rows]``, each once; ``None`` for all."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``down(silu(gate(x)) * up(x))``, ``[1, tokens, width]``, of tokens not asked for zeros."""
        if self.rows is None:
            return self._of(x)
        return torch.zeros_like(x).index_copy(1, self.rows, self._of(x.index_select(1, self.rows)))

    def _of(self, x: Tensor) -> Tensor:
        gated = _Gated.apply(self.gate_proj(x), self.up_proj(x))  # type: ignore[no-untyped-call]
        result: Tensor = self.down_proj(gated)
        return result


def make_lean(model: nn.Module, hidden_act: str) -> None:
    """Replace a frozen model's norms and feed-forwards by the ones here, where they are of the kinds known here.

    The kinds are known by what they have, since each architecture has classes of its own that say the same; whoever
    calls this compares the outputs before and after.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            epsilon = getattr(child, "variance_epsilon", None)
            weight = getattr(child, "weight", None)
            if type(child).__name__.endswith("RMSNorm") and epsilon is not None and isinstance(weight, Tensor):
                setattr(module, name, FrozenNorm(weight, float(epsilon)))
            elif hidden_act in ("silu", "swish") and _is_gated(child):
                parts = (child.get_submodule(part) for part in ("gate_proj", "up_proj", "down_proj"))
                setattr(module, name, GatedFeedForward(*parts))


def last_feed_forward(model: nn.Module) -> GatedFeedForward | None:
    """Return the last block's feed-forward: nothing after it mixes tokens, so that it may be asked for some alone.

    ``None`` where the last block has none of this kind, as where experts share its work.
    """
    blocks = getattr(getattr(model, "base_model", None), "layers", None)
    children = blocks[-1].children() if isinstance(blocks, nn.ModuleList) and len(blocks) else ()
    return next((child for child in children if isinstance(child, GatedFeedForward)), None)


def _is_gated(module: nn.Module) -> bool:
    linears = {name for name, child in module.named_children() if isinstance(child, nn.Linear)}
    others = {name for name, _ in module.named_children()} - linears
    return linears == {"gate_proj", "up_proj", "down_proj"} and others <= {"act_fn"}


class _HeadLoss(torch.autograd.Function):
    """Cross-entropy through the output head, plus divergence from a base model, in pieces of the vocabulary's size.

    The gradient of the hidden states is made together with the loss, so that no more than one piece's logits exist at
    any time (the idea of cut and fused cross-entropy losses; Wijmans et al. 2024, Hsu et al. 2024).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        base: Tensor | None,
        base_weights: Tensor | None,
        scaling: float,
        most: int,
    ) -> tuple[Tensor, Tensor]:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        divergence = torch.zeros((), dtype=torch.float32, device=hidden.device)
        of_hidden = torch.empty_like(hidden)
        trained = weight.requires_grad
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if trained else None
        matrix = weight.to(hidden.dtype)
        rows = max(1, most // len(weight))
        for begin in range(0, len(hidden), rows):
            piece = slice(begin, begin + rows)
            logits = linear(hidden[piece], matrix, bias).float().mul_(1.0 / scaling).log_softmax(-1)
            wanted = targets[piece].unsqueeze(1)
            losses[piece] = -logits.gather(1, wanted).squeeze(1)
            apart = None
            if base is not None and base_weights is not None and bool(base_weights[piece].any()):
                expected = linear(base[piece], matrix, bias).float().mul_(1.0 / scaling).log_softmax(-1)
                share = base_weights[piece].unsqueeze(1)
                weighted = expected.exp() * share
                divergence += (weighted * (expected - logits)).sum()
                apart = logits.exp() * share - weighted
                del expected, weighted
            piece_weights = weights[piece].unsqueeze(1)
            gradient = logits.exp_().mul_(piece_weights)
            gradient.scatter_add_(1, wanted, -piece_weights)
            if apart is not None:
                gradient += apart
            narrow = gradient.mul_(1.0 / scaling).to(hidden.dtype)
            of_hidden[piece] = narrow @ matrix
            if of_weight is not None:
                of_weight += (narrow.t() @ hidden[piece]).float()
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum() + divergence, losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        scaled = None if of_weight is None else of_weight * gradient
        return of_hidden * gradient.to(of_hidden.dtype), scaled, *[None] * 7


def head_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor,
    *,
    base: Tensor | None = None,
    base_weights: Tensor | None = None,
    scaling: float = 1.0,
    most: int = 1 << 25,
) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of cross-entropies (differentiable) and, for the eye, each target's own, unweighted.

    ``hidden`` is ``[targets, width]``, ``weight`` the head's ``[vocabulary, width]``; logits are divided by
    ``scaling``. With ``base``, the base model's hidden states, the divergence KL(base || model) at each target is
    added, times ``base_weights``. At most ``most`` logits exist at a time, or one target's.
    """
    found: tuple[Tensor, Tensor] = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, weights, base, base_weights, scaling, most
    )
    return found
