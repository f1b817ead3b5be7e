"""Compute capabilities from what a target says of its nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.engine.gpus import MAJOR, MINOR, PRODUCT, Contradiction, product_capability, shown, target_capability


@pytest.mark.parametrize(
    ("product", "capability"),
    [
        ("Tesla-V100-SXM2-16GB", 70),
        ("Tesla-P100-PCIE-16GB", 60),
        ("Tesla-T4", 75),
        ("Quadro-RTX-6000", 75),
        ("NVIDIA-A100-SXM4-80GB", 80),
        ("A100-SXM4-40GB", 80),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", 80),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb.me-SHARED", 80),
        ("NVIDIA-A30", 80),
        ("NVIDIA-A10", 86),
        ("NVIDIA-A10G-SHARED", 86),
        ("NVIDIA-A40", 86),
        ("NVIDIA-RTX-A6000", 86),
        ("NVIDIA-GeForce-RTX-3090", 86),
        ("NVIDIA-GeForce-RTX-3090-Ti", 86),
        ("NVIDIA-L4", 89),
        ("NVIDIA-L40", 89),
        ("NVIDIA-L40S", 89),
        ("NVIDIA-RTX-6000-Ada-Generation", 89),
        ("NVIDIA-GeForce-RTX-4090", 89),
        ("NVIDIA-H100-80GB-HBM3", 90),
        ("NVIDIA-H100-PCIe", 90),
        ("NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", 90),
        ("NVIDIA-H200", 90),
        ("NVIDIA-GH200-480GB", 90),
        ("NVIDIA-H20", 90),
        ("NVIDIA-B200", 100),
        ("NVIDIA-GB200", 100),
        ("NVIDIA-B300-SXM6-AC", 103),
        ("NVIDIA-GeForce-RTX-5090", 120),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 120),
        ("NVIDIA-GB10", 121),
        ("nvidia-tesla-t4", 75),
        ("nvidia-h100-80gb", 90),
        # not known, and not taken for what they begin like
        ("NVIDIA-L400", None),
        ("NVIDIA-A1000", None),
        ("NVIDIA-RTX-6000", None),
        ("AMD-Instinct-MI300X", None),
        ("", None),
    ],
)
def test_products(product: str, capability: int | None) -> None:
    assert product_capability(product) == capability


@pytest.mark.parametrize(
    ("stated", "labels", "capability"),
    [
        ("9.0", {}, 90),
        ("12.0", {}, 120),
        (None, {PRODUCT: "NVIDIA-L4"}, 89),
        (None, {MAJOR: "8", MINOR: "6"}, 86),
        (None, {MAJOR: "8"}, None),
        ("8.6", {MAJOR: "8"}, 86),
        ("9.0", {PRODUCT: "NVIDIA-H200", MAJOR: "9", MINOR: "0"}, 90),
        ("9.0", {PRODUCT: "Some-New-GPU"}, 90),
        (None, {"cloud.google.com/gke-accelerator": "nvidia-l4"}, 89),
        (None, {"kubernetes.io/hostname": "node"}, None),
        (None, {}, None),
    ],
)
def test_targets(stated: str | None, labels: dict[str, str], capability: int | None) -> None:
    assert target_capability(stated, labels) == capability


@pytest.mark.parametrize(
    ("stated", "labels", "path", "words"),
    [
        ("8.0", {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, f"nodeSelector[{PRODUCT}]", "9.0"),
        (None, {PRODUCT: "NVIDIA-L4", MAJOR: "9", MINOR: "0"}, f"nodeSelector[{MAJOR}]", "8.9"),
        ("8.9", {MAJOR: "9"}, f"nodeSelector[{MAJOR}]", "9.x"),
        (None, {MAJOR: "nine", MINOR: "0"}, f"nodeSelector[{MAJOR}]", "nine"),
        (None, {MAJOR: "9", MINOR: "10"}, f"nodeSelector[{MINOR}]", "10"),
        ("9.10", {}, "computeCapability", "9.10"),
    ],
)
def test_contradictions(stated: str | None, labels: dict[str, str], path: str, words: str) -> None:
    with pytest.raises(Contradiction, match=words.replace(".", r"\.")) as caught:
        target_capability(stated, labels)
    assert caught.value.path == path


@given(st.text(max_size=80))
def test_any_label_can_be_read(product: str) -> None:
    assert product_capability(product) in (None, *range(60, 130))


def test_a_capability_as_it_is_written() -> None:
    assert [shown(value) for value in (75, 90, 103, 120)] == ["7.5", "9.0", "10.3", "12.0"]
