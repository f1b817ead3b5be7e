"""The quantization schemes: names, data types and the ``quantization_config`` that goes into config.json.

The layouts are those that vLLM loads: compressed-tensors as llm-compressor writes it, ``fp8`` with block
scales as in Qwen/Qwen3-8B-FP8, ``awq`` (GEMM) as AutoAWQ, ``gptq`` as GPTQModel. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUP_SIZE = 128
BLOCK = 128

# What stays unquantized beside norms and embeddings, as in the published checkpoints.
IGNORED = ["lm_head"]

# Named relative to a decoder layer. vLLM 0.11 to 0.31 looks for quantized modules in the safetensors headers
# of a local GPTQ checkpoint and takes every layer for unquantized when it finds none; this list settles it.
QUANTIZED_MODULES = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
]


@dataclass(frozen=True)
class Scheme:
    """One way to store the linear layers."""

    name: str
    quantizer: str
    """Key of `quantize.QUANTIZERS`; empty for unquantized weights."""
    dtype: str
    """Data type of what is not quantized, and of the scales: ``bfloat16`` or ``float16``."""
    quantization_config: dict[str, object] | None
    bits_per_weight: float = 16.0
    """Stored bits of a linear layer's weight with its share of the scales: for the estimate of disk space."""
    activation_levels: float | None = None
    """What the largest activation is divided by for the activation scale that is stored; None: none is."""


def _arguments(
    bits: int, kind: str, strategy: str, *, dynamic: bool = False, group: int | None = None, symmetric: bool = True
) -> dict[str, object]:
    return {
        "actorder": None,
        "block_structure": None,
        "dynamic": dynamic,
        "group_size": group,
        "num_bits": bits,
        "observer": None if dynamic else "minmax",
        "observer_kwargs": {},
        "strategy": strategy,
        "symmetric": symmetric,
        "type": kind,
    }


def _compressed_tensors(
    layout: str, weights: dict[str, object], activations: dict[str, object] | None
) -> dict[str, object]:
    return {
        "config_groups": {
            "group_0": {
                "input_activations": activations,
                "output_activations": None,
                "targets": ["Linear"],
                "weights": weights,
            }
        },
        "format": layout,
        "global_compression_ratio": None,
        "ignore": IGNORED,
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }


def _gptq(bits: int) -> dict[str, object]:
    return {
        "bits": bits,
        "checkpoint_format": "gptq",
        "damp_percent": 0.01,
        "desc_act": False,
        "group_size": GROUP_SIZE,
        "lm_head": False,
        "modules_in_block_to_quantize": QUANTIZED_MODULES,
        "quant_method": "gptq",
        "static_groups": False,
        "sym": True,
        "true_sequential": True,
    }


_AWQ: dict[str, object] = {
    "bits": 4,
    "group_size": GROUP_SIZE,
    "modules_to_not_convert": None,
    "quant_method": "awq",
    "version": "gemm",
    "zero_point": True,
}

_FP8_BLOCK: dict[str, object] = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "modules_to_not_convert": IGNORED,
    "quant_method": "fp8",
    "weight_block_size": [BLOCK, BLOCK],
}

_INT8 = _compressed_tensors(
    "int-quantized", _arguments(8, "int", "channel"), _arguments(8, "int", "token", dynamic=True)
)
_INT8_STATIC = _compressed_tensors("int-quantized", _arguments(8, "int", "channel"), _arguments(8, "int", "tensor"))
_W4A16_ASYMMETRIC = _compressed_tensors(
    "pack-quantized", _arguments(4, "int", "group", group=GROUP_SIZE, symmetric=False), None
)
_W4A16 = _compressed_tensors("pack-quantized", _arguments(4, "int", "group", group=GROUP_SIZE), None)
_FP8_DYNAMIC = _compressed_tensors(
    "float-quantized", _arguments(8, "float", "channel"), _arguments(8, "float", "token", dynamic=True)
)
_FP8_STATIC = _compressed_tensors("float-quantized", _arguments(8, "float", "tensor"), _arguments(8, "float", "tensor"))

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("bf16", "", "bfloat16", None),
        Scheme("int8-w8a8", "int8-channel", "bfloat16", _INT8, 8.02),
        Scheme("w4a16", "int4-group", "bfloat16", _W4A16, 4.13),
        Scheme("int8-static", "int8-channel", "bfloat16", _INT8_STATIC, 8.02, activation_levels=127.5),
        Scheme("w4a16-asym", "int4-group-asymmetric", "bfloat16", _W4A16_ASYMMETRIC, 4.17),
        Scheme("fp8-dynamic", "fp8-channel", "bfloat16", _FP8_DYNAMIC, 8.02),
        Scheme("fp8-static", "fp8-tensor", "bfloat16", _FP8_STATIC, 8.0, activation_levels=448.0),
        Scheme("fp8-block", "fp8-block", "bfloat16", _FP8_BLOCK, 8.0),
        Scheme("awq", "awq", "float16", _AWQ, 4.17),
        Scheme("gptq-int4", "gptq-int4", "float16", _gptq(4), 4.17),
        Scheme("gptq-int8", "gptq-int8", "float16", _gptq(8), 8.2),
    )
}
