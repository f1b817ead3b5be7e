"""Shapes of the models, names and sizes of their tensors, as transformers' Qwen3 has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

TensorKind = Literal["linear", "embedding", "norm"]

# Qwen3-8B's own config.json uses this deviation, and transformers initialises with it.
INITIALIZER_RANGE = 0.02


@dataclass(frozen=True)
class TensorSpec:
    """One unquantized tensor of a checkpoint."""

    name: str
    shape: tuple[int, ...]
    """``(output features, input features)`` for a linear layer."""
    kind: TensorKind
    """``linear``: quantized by a scheme; ``embedding``: gaussian, never quantized; ``norm``: ones."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Shape:
    """A Qwen3 model's dimensions. Every linear dimension is a multiple of 128, so all group sizes fit."""

    name: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_dimension: int
    max_position: int
    tied_embeddings: bool
    rope_theta: float
    bpe_vocabulary: int
    """Entries the tokenizer learns from text; the rest of ``vocabulary`` is filled up with unused ones."""

    def with_layers(self, layers: int) -> Shape:
        """The same shape with another number of layers. Raises ValueError below one."""
        if layers < 1:
            raise ValueError(f"a model needs at least one layer, not {layers}")
        return replace(self, layers=layers)

    def embedding_tensors(self) -> Iterator[TensorSpec]:
        """Input embedding and, where it is not tied to it, the output layer."""
        yield TensorSpec("model.embed_tokens.weight", (self.vocabulary, self.hidden), "embedding")
        if not self.tied_embeddings:
            yield TensorSpec("lm_head.weight", (self.vocabulary, self.hidden), "embedding")

    def layer_tensors(self, index: int) -> Iterator[TensorSpec]:
        """Tensors of decoder layer ``index``."""
        prefix = f"model.layers.{index}"
        queries, keys = self.heads * self.head_dimension, self.key_value_heads * self.head_dimension
        yield TensorSpec(f"{prefix}.input_layernorm.weight", (self.hidden,), "norm")
        yield TensorSpec(f"{prefix}.self_attn.q_proj.weight", (queries, self.hidden), "linear")
        yield TensorSpec(f"{prefix}.self_attn.k_proj.weight", (keys, self.hidden), "linear")
        yield TensorSpec(f"{prefix}.self_attn.v_proj.weight", (keys, self.hidden), "linear")
        yield TensorSpec(f"{prefix}.self_attn.q_norm.weight", (self.head_dimension,), "norm")
        yield TensorSpec(f"{prefix}.self_attn.k_norm.weight", (self.head_dimension,), "norm")
        yield TensorSpec(f"{prefix}.self_attn.o_proj.weight", (self.hidden, queries), "linear")
        yield TensorSpec(f"{prefix}.post_attention_layernorm.weight", (self.hidden,), "norm")
        yield TensorSpec(f"{prefix}.mlp.gate_proj.weight", (self.intermediate, self.hidden), "linear")
        yield TensorSpec(f"{prefix}.mlp.up_proj.weight", (self.intermediate, self.hidden), "linear")
        yield TensorSpec(f"{prefix}.mlp.down_proj.weight", (self.hidden, self.intermediate), "linear")

    def final_tensors(self) -> Iterator[TensorSpec]:
        """The norm before the output layer."""
        yield TensorSpec("model.norm.weight", (self.hidden,), "norm")

    def groups(self) -> Iterator[list[TensorSpec]]:
        """All tensors in the order they are made: embeddings, each layer, final norm."""
        yield list(self.embedding_tensors())
        for index in range(self.layers):
            yield list(self.layer_tensors(index))
        yield list(self.final_tensors())

    @property
    def parameters(self) -> int:
        """Number of parameters, the tied output layer counted once."""
        return sum(tensor.elements for group in self.groups() for tensor in group)

    def config(self, dtype: str, special_tokens: dict[str, int]) -> dict[str, object]:
        """The fields of config.json, keys and defaults as in Qwen/Qwen3-8B.

        ``dtype`` is torch's name (``bfloat16``, ``float16``); it stands under ``torch_dtype``, which
        transformers 4 and 5 both read. ``special_tokens`` gives the ids of ``bos``, ``eos`` and ``pad``.
        """
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": special_tokens["bos"],
            "eos_token_id": special_tokens["eos"],
            "head_dim": self.head_dimension,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": INITIALIZER_RANGE,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.max_position,
            "max_window_layers": self.layers,
            "model_type": "qwen3",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.key_value_heads,
            "pad_token_id": special_tokens["pad"],
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": self.rope_theta,
            "sliding_window": None,
            "tie_word_embeddings": self.tied_embeddings,
            "torch_dtype": dtype,
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": self.vocabulary,
        }


TINY = Shape(
    name="tiny",
    vocabulary=8192,
    hidden=512,
    intermediate=1536,
    layers=6,
    heads=8,
    key_value_heads=4,
    head_dimension=64,
    max_position=4096,
    tied_embeddings=True,
    rope_theta=10_000.0,
    bpe_vocabulary=8192,
)

# Qwen/Qwen3-8B's config.json.
QWEN3_8B = Shape(
    name="qwen3-8b",
    vocabulary=151_936,
    hidden=4096,
    intermediate=12_288,
    layers=36,
    heads=32,
    key_value_heads=8,
    head_dimension=128,
    max_position=40_960,
    tied_embeddings=False,
    rope_theta=1_000_000.0,
    bpe_vocabulary=49_152,
)

SHAPES: dict[str, Shape] = {shape.name: shape for shape in (TINY, QWEN3_8B)}
