"""Quantizers: pure functions from one linear layer's weight to the tensors a checkpoint stores for it.

Every function takes the weight as ``[output features, input features]`` and returns the stored tensors by
the suffix that follows the layer's name. Rounding is to nearest with min-max ranges: real quantized weights
of the right layout and distribution, without the error-compensating search of GPTQ or AWQ, which changes
values but neither layout nor speed. Scales are rounded to their stored type before they divide, so that what is
stored is consistent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch  # type: ignore[import-not-found,unused-ignore]
from compressed_tensors.compressors import pack_to_int32  # type: ignore[import-not-found,unused-ignore]

from benchmarks.checkpoints.schemes import BLOCK, GROUP_SIZE

Tensors = dict[str, torch.Tensor]
Quantizer = Callable[[torch.Tensor], Tensors]

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0

# AutoAWQ's GEMM kernel wants the eight columns of an int32 in this order, lowest bits first.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

# Output features quantized at once by `in_slices`; a multiple of every group and block. The temporary tensors of a
# slice stay in the allocator's heap: for a whole layer of the 8 B shape, getting them from the kernel took five
# times as long as the arithmetic.
SLICE = 256

# Stored tensors whose second dimension is the output features; the others have it first.
_OUTPUTS_LAST = {"qweight", "qzeros", "scales"}


def int8_channel(weight: torch.Tensor) -> Tensors:
    """Symmetric int8 with one bf16 scale an output channel (compressed-tensors ``int-quantized``)."""
    values = weight.float()
    scale = _scale(values.abs().amax(dim=1, keepdim=True), 127.5, torch.bfloat16)
    return {"weight": _integers(values, scale.float(), 8), "weight_scale": scale}


def int4_group(weight: torch.Tensor) -> Tensors:
    """Symmetric int4 in groups of 128 inputs (compressed-tensors ``pack-quantized``).

    ``weight_packed`` is int32 ``[out, in / 8]``, input index rising from the lowest bits, each value plus 8.
    """
    integers, scale = _symmetric_groups(weight, 4, torch.bfloat16)
    return {
        "weight_packed": pack_to_int32(integers, 4).contiguous(),
        "weight_scale": scale,
        "weight_shape": torch.tensor(weight.shape, dtype=torch.int64),
    }


def int4_group_asymmetric(weight: torch.Tensor) -> Tensors:
    """Asymmetric int4 in groups of 128 inputs with zero points (compressed-tensors ``pack-quantized``).

    As `int4_group`; ``weight_zero_point`` is int32 ``[out / 8, in / 128]``, packed along the outputs in the same way.
    """
    groups = _grouped(weight)
    # Zero must be in the range: compressed-tensors stores zero points as int4, too.
    low, high = groups.amin(dim=2).clamp(max=0), groups.amax(dim=2).clamp(min=0)
    scale = _scale(high - low, 15.0, torch.bfloat16)
    zeros = torch.round(-8 - low / scale.float()).clamp_(-8, 7)
    integers = (torch.round(groups / scale.float()[:, :, None]) + zeros[:, :, None]).clamp_(-8, 7).to(torch.int8)
    return {
        "weight_packed": pack_to_int32(integers.reshape(weight.shape), 4).contiguous(),
        "weight_scale": scale,
        "weight_zero_point": pack_to_int32(zeros.to(torch.int8), 4, packed_dim=0).contiguous(),
        "weight_shape": torch.tensor(weight.shape, dtype=torch.int64),
    }


def fp8_channel(weight: torch.Tensor) -> Tensors:
    """FP8 e4m3 with one bf16 scale an output channel (compressed-tensors ``float-quantized``)."""
    values = weight.float()
    scale = _scale(values.abs().amax(dim=1, keepdim=True), FP8_MAX, torch.bfloat16)
    return {"weight": _floats(values, scale.float()), "weight_scale": scale}


def fp8_tensor(weight: torch.Tensor) -> Tensors:
    """FP8 e4m3 with one bf16 scale, shape ``[1]``; the input scale is added by ``static_input_scale``."""
    scale = _scale(weight.abs().amax().reshape(1), FP8_MAX, torch.bfloat16)
    values = torch.cat([_floats(part.float(), scale.float()) for part in weight.split(SLICE)])
    return {"weight": values, "weight_scale": scale}


def static_input_scale(absolute_maximum: float, levels: float) -> Tensors:
    """The stored activation scale of a layer whose inputs reached ``absolute_maximum`` in calibration."""
    return {"input_scale": _scale(torch.tensor([absolute_maximum]), levels, torch.bfloat16)}


def fp8_block(weight: torch.Tensor) -> Tensors:
    """FP8 e4m3 with one bf16 scale a 128 by 128 block.

    ``weight_scale_inv`` is the factor that restores the weight, in spite of its name (DeepSeek's).
    Raises ValueError when a dimension is not a multiple of 128.
    """
    rows, columns = weight.shape
    if rows % BLOCK or columns % BLOCK:
        raise ValueError(f"a weight of {rows} by {columns} cannot be cut into blocks of {BLOCK}")
    blocks = weight.float().reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    scale = _scale(blocks.abs().amax(dim=(1, 3)), FP8_MAX, torch.bfloat16)
    values = _floats(blocks, scale.float()[:, None, :, None]).reshape(rows, columns)
    return {"weight": values, "weight_scale_inv": scale}


def awq(weight: torch.Tensor) -> Tensors:
    """Asymmetric uint4 in groups of 128 inputs with zero points, AutoAWQ's GEMM layout.

    ``qweight`` is int32 ``[in, out / 8]`` and ``qzeros`` int32 ``[in / 128, out / 8]``, both in
    ``AWQ_ORDER``; ``scales`` is fp16 ``[in / 128, out]``.
    """
    groups = _grouped(weight)
    low, high = groups.amin(dim=2), groups.amax(dim=2)
    scale = _scale(high - low, 15.0, torch.float16)
    steps = scale.float()[:, :, None]
    zeros = (-torch.round(low / scale.float())).clamp_(0, 15)
    integers = (torch.round(groups / steps) + zeros[:, :, None]).clamp_(0, 15).reshape(weight.shape)
    return {
        "qweight": _pack_awq(integers),
        "qzeros": _pack_awq(zeros),
        "scales": scale.t().contiguous(),
    }


def gptq(weight: torch.Tensor, bits: int) -> Tensors:
    """Symmetric integers in groups of 128 inputs, GPTQ's first checkpoint format, no activation order.

    ``qweight`` is int32 ``[in / (32 / bits), out]``, input index rising from the lowest bits; ``qzeros``
    int32 ``[in / 128, out / (32 / bits)]`` holds the zero point minus one; ``scales`` is fp16
    ``[in / 128, out]``; ``g_idx`` the group of each input.
    """
    integers, scale = _symmetric_groups(weight, bits, torch.float16)
    outputs, inputs = weight.shape
    # The zero point is the middle of the range; as a signed value for pack_to_int32, which adds it back, it
    # is 0, and -1 for "minus one".
    zeros = torch.full((inputs // GROUP_SIZE, outputs), -1, dtype=torch.int8)
    return {
        "qweight": pack_to_int32(integers.t(), bits, packed_dim=0).contiguous(),
        "qzeros": pack_to_int32(zeros, bits).contiguous(),
        "scales": scale.t().contiguous(),
        "g_idx": torch.arange(inputs, dtype=torch.int32) // GROUP_SIZE,
    }


QUANTIZERS: dict[str, Quantizer] = {
    "int8-channel": int8_channel,
    "int4-group": int4_group,
    "int4-group-asymmetric": int4_group_asymmetric,
    "fp8-channel": fp8_channel,
    "fp8-tensor": fp8_tensor,
    "fp8-block": fp8_block,
    "awq": awq,
    "gptq-int4": lambda weight: gptq(weight, 4),
    "gptq-int8": lambda weight: gptq(weight, 8),
}


def in_slices(name: str, weight: torch.Tensor) -> Tensors:
    """The same as ``QUANTIZERS[name](weight)`` in the CPU's memory; there faster for large weights, in less memory."""
    quantizer = QUANTIZERS[name]
    if quantizer is fp8_tensor or weight.device.type != "cpu":
        # fp8_tensor: one scale for all rows; it goes through them in slices itself.
        return {key: stored.cpu() for key, stored in quantizer(weight).items()}
    parts = [quantizer(part) for part in weight.split(SLICE)]
    joined: Tensors = {}
    for key, first in parts[0].items():
        if key == "weight_shape":
            joined[key] = torch.tensor(weight.shape, dtype=first.dtype)
        elif key == "g_idx":
            joined[key] = first
        else:
            joined[key] = torch.cat([part[key] for part in parts], dim=int(key in _OUTPUTS_LAST))
    return joined


def _scale(span: torch.Tensor, levels: float, dtype: torch.dtype) -> torch.Tensor:
    # An all-zero group must not divide by zero; any positive scale represents it.
    scale = (span.float() / levels).to(dtype)
    return scale.clamp(min=torch.finfo(dtype).tiny)


def _integers(values: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    half = 1 << (bits - 1)
    return torch.round(values / scale).clamp_(-half, half - 1).to(torch.int8)


def _floats(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    # The scale rounded to bf16 can be too small by 2**-8: the largest quotient is then 449.75, which still rounds
    # to 448. From 464 on it would become NaN.
    return (values / scale).to(FP8)


def _grouped(weight: torch.Tensor) -> torch.Tensor:
    outputs, inputs = weight.shape
    if inputs % GROUP_SIZE:
        raise ValueError(f"{inputs} inputs cannot be cut into groups of {GROUP_SIZE}")
    return weight.float().reshape(outputs, inputs // GROUP_SIZE, GROUP_SIZE)


def _symmetric_groups(weight: torch.Tensor, bits: int, scale_dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed int8 values ``[out, in]`` and scales ``[out, in / 128]``."""
    groups = _grouped(weight)
    scale = _scale(groups.abs().amax(dim=2), ((1 << bits) - 1) / 2, scale_dtype)
    integers = _integers(groups, scale.float()[:, :, None], bits)
    return integers.reshape(weight.shape), scale


def _pack_awq(values: torch.Tensor) -> torch.Tensor:
    """Values 0 to 15 as ``[out, rows]`` to int32 ``[rows, out / 8]`` in AWQ's order."""
    rows = values.t().reshape(values.shape[1], -1, 8)[:, :, AWQ_ORDER]
    signed = (rows - 8).to(torch.int8).reshape(values.shape[1], values.shape[0])
    return pack_to_int32(signed, 4).contiguous()
