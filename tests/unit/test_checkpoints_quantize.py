"""Quantizers: round trips through unpacking written here anew, and agreement with compressed-tensors' own code.

Needs torch and compressed-tensors: runs in an engine environment, skips elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

NEEDS_ENGINE = "needs torch and compressed-tensors: run in a vLLM environment"
torch: Any = pytest.importorskip("torch", reason=NEEDS_ENGINE)
pytest.importorskip("compressed_tensors", reason=NEEDS_ENGINE)

from benchmarks.checkpoints import quantize  # noqa: E402 - it cannot be imported without torch
from benchmarks.checkpoints.schemes import SCHEMES  # noqa: E402

OUT, IN, GROUPS = 256, 384, 3


def weight(seed: int = 0, rows: int = OUT, columns: int = IN) -> Any:
    """A weight with one row a hundred times larger, so that mixed-up scales are seen."""
    values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.02
    values[5] *= 100
    return values.to(torch.bfloat16)


def unpacked(packed: Any, bits: int) -> Any:
    """``[rows, columns]`` int32 to ``[rows, columns, 32 / bits]``, lowest bits first, with Python's integers."""
    mask = (1 << bits) - 1
    return torch.tensor(
        [
            [[((value & 0xFFFFFFFF) >> shift) & mask for shift in range(0, 32, bits)] for value in row]
            for row in packed.tolist()
        ]
    )


def spread(scale: Any) -> Any:
    """Scales ``[out, groups]`` for each weight ``[out, in]``."""
    return scale.float().repeat_interleave(128, dim=1)


def int8_channel(stored: dict[str, Any]) -> tuple[Any, Any]:
    scale = stored["weight_scale"].float()
    return stored["weight"].float() * scale, scale.expand(OUT, IN)


def int4_group(stored: dict[str, Any]) -> tuple[Any, Any]:
    scale = spread(stored["weight_scale"])
    values = unpacked(stored["weight_packed"], 4).reshape(OUT, IN) - 8
    return values * scale, scale


def awq(stored: dict[str, Any]) -> tuple[Any, Any]:
    # AutoAWQ's order: nibble 0 is column 0, nibble 1 column 2, then 4, 6, 1, 3, 5, 7.
    nibble_of_column = [0, 4, 1, 5, 2, 6, 3, 7]
    values = unpacked(stored["qweight"], 4)[:, :, nibble_of_column].reshape(IN, OUT)
    zeros = unpacked(stored["qzeros"], 4)[:, :, nibble_of_column].reshape(GROUPS, OUT)
    scale = stored["scales"].float().repeat_interleave(128, dim=0)
    return ((values - zeros.repeat_interleave(128, dim=0)) * scale).t(), scale.t()


def gptq(bits: int) -> Callable[[dict[str, Any]], tuple[Any, Any]]:
    def restore(stored: dict[str, Any]) -> tuple[Any, Any]:
        # Eight (four) successive inputs lie in one int32; the stored zero point is one too small.
        values = unpacked(stored["qweight"], bits).permute(0, 2, 1).reshape(IN, OUT)
        zeros = unpacked(stored["qzeros"], bits).reshape(GROUPS, OUT) + 1
        group = stored["g_idx"].long()
        scale = stored["scales"].float()[group]
        return ((values - zeros[group]) * scale).t(), scale.t()

    return restore


@pytest.mark.parametrize(
    ("quantizer", "restore", "steps"),
    [
        # Half a step of rounding, and a little more at the edge, where the rounded scale may be too small:
        # by 2**-8 in bf16, which makes another half step of the 127.5 that the largest weight is long.
        ("int8-channel", int8_channel, 1.0),
        ("int4-group", int4_group, 0.53),
        ("awq", awq, 0.56),
        ("gptq-int4", gptq(4), 0.52),
        ("gptq-int8", gptq(8), 0.56),
    ],
)
def test_integer_round_trip(quantizer: str, restore: Any, steps: float) -> None:
    values = weight()
    restored, scale = restore(quantize.QUANTIZERS[quantizer](values))
    assert restored.shape == values.shape
    assert float(((restored - values.float()).abs() / scale).max()) <= steps
    # A permutation within a group would pass unnoticed if the values did not differ: they do.
    assert float((restored - values.float().roll(1, dims=1)).abs().max()) > 2 * float(scale.max())


def fp8_scale(name: str, stored: dict[str, Any]) -> Any:
    if name == "fp8-block":
        scale = stored["weight_scale_inv"].float()
        return scale.repeat_interleave(128, dim=0).repeat_interleave(128, dim=1)
    return stored["weight_scale"].float().expand(OUT, IN)


@pytest.mark.parametrize("name", ["fp8-channel", "fp8-tensor", "fp8-block"])
def test_float_round_trip(name: str) -> None:
    values = weight()
    stored = quantize.QUANTIZERS[name](values)
    scale = fp8_scale(name, stored)
    assert stored["weight"].dtype == torch.float8_e4m3fn
    restored = stored["weight"].float() * scale
    assert not bool(torch.isnan(restored).any())
    # e4m3: 3 bits of mantissa, so half of 2**-3 of the value, or half of the smallest step, 2**-9 of the scale.
    bound = torch.maximum(values.float().abs() * 2**-4, scale * 2**-10)
    assert bool(((restored - values.float()).abs() <= bound * 1.01).all())
    # The range is used: an unscaled cast would leave small values in a corner of it.
    assert float(stored["weight"].float().abs().max()) >= 440


def test_shapes_and_types() -> None:
    def described(name: str) -> dict[str, tuple[Any, list[int]]]:
        stored = quantize.QUANTIZERS[name](weight())
        assert all(tensor.is_contiguous() for tensor in stored.values())
        return {key: (tensor.dtype, list(tensor.shape)) for key, tensor in stored.items()}

    assert described("int8-channel") == {
        "weight": (torch.int8, [256, 384]),
        "weight_scale": (torch.bfloat16, [256, 1]),
    }
    assert described("int4-group") == {
        "weight_packed": (torch.int32, [256, 48]),
        "weight_scale": (torch.bfloat16, [256, 3]),
        "weight_shape": (torch.int64, [2]),
    }
    assert described("fp8-channel") == {
        "weight": (torch.float8_e4m3fn, [256, 384]),
        "weight_scale": (torch.bfloat16, [256, 1]),
    }
    assert described("fp8-tensor") == {
        "weight": (torch.float8_e4m3fn, [256, 384]),
        "weight_scale": (torch.bfloat16, [1]),
    }
    assert described("fp8-block") == {
        "weight": (torch.float8_e4m3fn, [256, 384]),
        "weight_scale_inv": (torch.bfloat16, [2, 3]),
    }
    assert described("awq") == {
        "qweight": (torch.int32, [384, 32]),
        "qzeros": (torch.int32, [3, 32]),
        "scales": (torch.float16, [3, 256]),
    }
    for bits in (4, 8):
        assert described(f"gptq-int{bits}") == {
            "qweight": (torch.int32, [384 * bits // 32, 256]),
            "qzeros": (torch.int32, [3, 256 * bits // 32]),
            "scales": (torch.float16, [3, 256]),
            "g_idx": (torch.int32, [384]),
        }


def test_gptq_zero_points_are_those_of_the_first_format() -> None:
    assert {value & 0xFFFFFFFF for value in quantize.gptq(weight(), 4)["qzeros"].unique().tolist()} == {0x77777777}
    assert {value & 0xFFFFFFFF for value in quantize.gptq(weight(), 8)["qzeros"].unique().tolist()} == {0x7F7F7F7F}


def test_all_codes_are_used() -> None:
    """Gaussian weights fill the range, unlike constant dummy weights."""
    for name, codes in (("int4-group", 16), ("gptq-int4", 16), ("awq", 16)):
        stored = quantize.QUANTIZERS[name](weight())
        packed = stored["weight_packed"] if name == "int4-group" else stored["qweight"]
        assert len(unpacked(packed, 4).unique()) == codes
    assert len(quantize.int8_channel(weight())["weight"].unique()) > 250


@pytest.mark.parametrize("name", sorted(quantize.QUANTIZERS))
def test_zero_weights_do_not_divide_by_zero(name: str) -> None:
    for tensor in quantize.QUANTIZERS[name](torch.zeros(128, 128, dtype=torch.bfloat16)).values():
        assert bool(torch.isfinite(tensor.float()).all())


@pytest.mark.parametrize("name", ["int4-group", "awq", "gptq-int4", "gptq-int8", "fp8-block"])
def test_weights_that_do_not_fit_groups_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        quantize.QUANTIZERS[name](torch.zeros(128, 100, dtype=torch.bfloat16))


@pytest.mark.parametrize("name", sorted(quantize.QUANTIZERS))
def test_the_weight_itself_is_not_changed(name: str) -> None:
    values = weight()
    before = values.clone()
    quantize.QUANTIZERS[name](values)
    assert torch.equal(values, before)


@pytest.mark.parametrize("name", sorted(quantize.QUANTIZERS))
@pytest.mark.parametrize("rows", [128, 256, 640])
def test_slices_give_the_same_as_the_whole(name: str, rows: int) -> None:
    values = weight(rows=rows)
    whole, sliced = quantize.QUANTIZERS[name](values), quantize.in_slices(name, values)
    assert sliced.keys() == whole.keys()
    for key, tensor in whole.items():
        assert sliced[key].dtype == tensor.dtype
        assert sliced[key].is_contiguous()
        assert torch.equal(sliced[key].float(), tensor.float()), key


@pytest.mark.parametrize("scheme", ["int8-w8a8", "w4a16", "fp8-dynamic", "fp8-static"])
def test_same_values_as_compressed_tensors(scheme: str) -> None:
    quantization: Any = pytest.importorskip("compressed_tensors.quantization")
    forward: Any = pytest.importorskip("compressed_tensors.quantization.lifecycle.forward")
    config = quantization.QuantizationConfig.model_validate(SCHEMES[scheme].quantization_config)
    arguments = config.config_groups["group_0"].weights
    values = weight().float()
    shaped = {
        "channel": values,
        "group": values.reshape(OUT, GROUPS, 128),
        "tensor": values.reshape(1, -1),
    }[str(arguments.strategy)]
    low, high = shaped.amin(dim=-1), shaped.amax(dim=-1)
    if arguments.strategy == "channel":
        low, high = low[:, None], high[:, None]
    scale, zero = quantization.utils.calculate_qparams(low, high, arguments)
    scale = scale.to(torch.bfloat16)
    stored = quantize.QUANTIZERS[SCHEMES[scheme].quantizer](weight())
    assert torch.equal(stored["weight_scale"].flatten(), scale.flatten())
    expected = forward.quantize(values, scale.float(), zero, arguments, dtype=arguments.pytorch_dtype())
    packed = scheme == "w4a16"
    found = unpacked(stored["weight_packed"], 4).reshape(OUT, IN) - 8 if packed else stored["weight"]
    assert torch.equal(found.float(), expected.float())


def test_awq_is_what_compressed_tensors_unpacks() -> None:
    autoawq = pytest.importorskip(
        "compressed_tensors.entrypoints.convert.converters.autoawq",
        reason="this compressed-tensors has no AutoAWQ converter",
    )
    stored = quantize.awq(weight())
    values, zeros = autoawq.AutoAWQConverter.unpack_awq(stored["qweight"], stored["qzeros"], 4)
    values, zeros = autoawq.AutoAWQConverter.reverse_awq_order(values, zeros, 4)
    scale = stored["scales"].float().repeat_interleave(128, dim=0)
    restored = ((values & 15).float() - (zeros & 15).float().repeat_interleave(128, dim=0)) * scale
    assert torch.equal(restored.t(), awq(stored)[0])


def test_static_input_scale() -> None:
    stored = quantize.static_input_scale(448.0, 448.0)["input_scale"]
    assert (stored.dtype, stored.tolist()) == (torch.bfloat16, [1.0])
    assert float(quantize.static_input_scale(0.0, 448.0)["input_scale"]) > 0


def test_int4_with_zero_points_restores_the_weight() -> None:
    stored = quantize.int4_group_asymmetric(weight() + 0.01)
    values = unpacked(stored["weight_packed"], 4).reshape(OUT, GROUPS, 128)
    zeros = unpacked(stored["weight_zero_point"].t().contiguous(), 4).reshape(GROUPS, OUT).t()
    scale = stored["weight_scale"].float()
    restored = (values - zeros[:, :, None]).float() * scale[:, :, None]
    # Half a step, and what the scale lost when it was rounded to bf16.
    assert (
        (restored.reshape(OUT, IN) - (weight() + 0.01).float()).abs() <= 0.6 * scale.repeat_interleave(128, 1)
    ).all()
