"""Largest activations before each linear layer, for checkpoints that store activation scales (FP8 static).

A plain forward pass of the Qwen3 decoder over random tokens, one layer at a time, so that no more than one
layer's weights are needed at once.
"""

from __future__ import annotations

import torch  # type: ignore[import-not-found,unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found,unused-ignore]

from benchmarks.checkpoints.shapes import Shape

Tensors = dict[str, torch.Tensor]

TOKENS = 128
EPSILON = 1e-6


class Calibration:
    """Carries the hidden states from layer to layer.

    ``embedding`` is ``[vocabulary, hidden]``; the ``TOKENS`` token ids are drawn with ``seed``.
    """

    def __init__(self, shape: Shape, embedding: torch.Tensor, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(shape.vocabulary, (TOKENS,), generator=generator)
        self.hidden = embedding[self.tokens.to(embedding.device)].float()
        self._shape = shape
        self._cosine, self._sine = (table.to(embedding.device) for table in _rotary(shape))

    def layer(self, index: int, tensors: Tensors) -> dict[str, float]:
        """Run decoder layer ``index``; returns the largest absolute input by linear tensor name."""
        prefix = f"model.layers.{index}."
        weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        seen: dict[str, float] = {}

        def linear(name: str, values: torch.Tensor) -> torch.Tensor:
            seen[f"{prefix}{name}.weight"] = float(values.abs().max())
            return values @ weights[f"{name}.weight"].float().t()

        values = _norm(self.hidden, weights["input_layernorm.weight"])
        query = self._heads(linear("self_attn.q_proj", values), weights["self_attn.q_norm.weight"])
        key = self._heads(linear("self_attn.k_proj", values), weights["self_attn.k_norm.weight"])
        value = self._heads(linear("self_attn.v_proj", values), None)
        repeat = self._shape.heads // self._shape.key_value_heads
        mixed = functional.scaled_dot_product_attention(
            query[None],
            key.repeat_interleave(repeat, dim=0)[None],
            value.repeat_interleave(repeat, dim=0)[None],
            is_causal=True,
        )[0]
        self.hidden = self.hidden + linear("self_attn.o_proj", mixed.transpose(0, 1).reshape(TOKENS, -1))
        values = _norm(self.hidden, weights["post_attention_layernorm.weight"])
        gated = functional.silu(linear("mlp.gate_proj", values)) * linear("mlp.up_proj", values)
        self.hidden = self.hidden + linear("mlp.down_proj", gated)
        return seen

    def _heads(self, values: torch.Tensor, norm: torch.Tensor | None) -> torch.Tensor:
        """``[tokens, heads * dimension]`` to ``[heads, tokens, dimension]``, with a norm also rotated."""
        heads = values.reshape(TOKENS, -1, self._shape.head_dimension).transpose(0, 1)
        if norm is None:
            return heads
        heads = _norm(heads, norm)
        first, second = heads.chunk(2, dim=-1)
        return heads * self._cosine + torch.cat((-second, first), dim=-1) * self._sine


def _norm(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return values * torch.rsqrt(values.pow(2).mean(dim=-1, keepdim=True) + EPSILON) * weight.float()


def _rotary(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    exponents = torch.arange(0, shape.head_dimension, 2).float() / shape.head_dimension
    angles = torch.outer(torch.arange(TOKENS).float(), shape.rope_theta**-exponents)
    doubled = torch.cat((angles, angles), dim=-1)
    return doubled.cos(), doubled.sin()
