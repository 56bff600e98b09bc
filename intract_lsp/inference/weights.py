"""A decoder's weights in plain form: a description of its shape and named tensors, wherever they came from.

Names: ``embedding``, ``frequencies`` (of the rotary embedding), ``norm.weight``, ``head.weight`` and, for each layer,
``layers.N.PART.weight`` with PART one of ``LINEARS`` or a norm, ``before_attention`` and ``before_feed_forward``; norms
and linears may have a ``.bias``, int8 linears have a ``.scale``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intract_lsp.inference.shape import Shape

LINEARS = ("qkv", "out", "up", "down")
"""A layer's matrices: query, key and value in one; gate and up in one where the feed-forward is gated."""

GATED = frozenset({"llama", "qwen2", "mistral"})
"""Architectures with RMS norm and a gated feed-forward; StarCoder2 has layer norm and a plain one."""

_FIXED_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary embeddings whose frequencies do not depend on the sequence's length."""

Tensors = dict[str, Tensor]


def supported(config: Any) -> bool:
    """Return whether ``LeanDecoder`` computes what transformers' own forward would for a model with ``config``."""
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


def take_over(model: Any, context_length: int) -> tuple[Shape, Tensors]:
    """Take the weights of a transformers causal language model, which is of no use afterwards."""
    config, body = model.config, model.model
    heads = config.num_attention_heads
    gated = config.model_type in GATED
    first_norm = body.layers[0].input_layernorm
    shape = Shape(
        layers=len(body.layers),
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        epsilon=first_norm.variance_epsilon if gated else first_norm.eps,
        gated=gated,
        rope_scale=float(getattr(body.rotary_emb, "attention_scaling", 1.0)),
        context_length=context_length,
    )
    tensors: Tensors = {"embedding": body.embed_tokens.weight.data, "frequencies": body.rotary_emb.inv_freq.float()}
    _put(tensors, "head", [model.lm_head])
    _put(tensors, "norm", [body.norm])
    for index, layer in enumerate(body.layers):
        attention, feed_forward = layer.self_attn, layer.mlp
        parts = {
            "before_attention": [layer.input_layernorm],
            "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
            "out": [attention.o_proj],
            "before_feed_forward": [layer.post_attention_layernorm],
            "up": [feed_forward.gate_proj, feed_forward.up_proj] if gated else [feed_forward.c_fc],
            "down": [feed_forward.down_proj if gated else feed_forward.c_proj],
        }
        for name, modules in parts.items():
            _put(tensors, f"layers.{index}.{name}", modules)
    return shape, tensors


def _put(tensors: Tensors, name: str, modules: list[Any]) -> None:
    """Stack modules' outputs into one matrix and let go of the originals, so that memory holds one copy."""
    weights = [module.weight.data for module in modules]
    biases = [getattr(module, "bias", None) for module in modules]
    tensors[f"{name}.weight"] = weights[0] if len(weights) == 1 else torch.cat(weights)
    if any(one is not None for one in biases):
        pairs = zip(biases, weights, strict=True)
        parts = [one.data if one is not None else weight.new_zeros(len(weight)) for one, weight in pairs]
        tensors[f"{name}.bias"] = torch.cat(parts)
    for module in modules:
        module.weight = None
