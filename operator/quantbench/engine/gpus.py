"""Compute capabilities of GPUs, from what node labels say of them.

Products are named as NVIDIA's GPU Feature Discovery labels nodes (``nvidia.com/gpu.product``: the driver's product name
with dashes for spaces, and a suffix for MIG slices and shared GPUs) or as GKE does
(``cloud.google.com/gke-accelerator``). Capabilities are those of NVIDIA's page "CUDA GPU Compute Capability".
"""

import re
from collections.abc import Mapping

PRODUCT, GKE_ACCELERATOR = "nvidia.com/gpu.product", "cloud.google.com/gke-accelerator"
MAJOR, MINOR = "nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"

FAMILIES: Mapping[int, tuple[str, ...]] = {
    60: ("p100",),
    61: ("p4", "p40"),
    70: ("v100", "v100s", "titan-v"),
    75: (
        "t4", "t4g", "titan-rtx", "quadro-rtx-4000", "quadro-rtx-5000", "quadro-rtx-6000", "quadro-rtx-8000",
        "rtx-2060", "rtx-2070", "rtx-2080",
    ),
    80: ("a100", "a800", "a30", "a30x", "a100x"),
    86: (
        "a2", "a10", "a10g", "a10m", "a16", "a40", "rtx-a2000", "rtx-a4000", "rtx-a4500", "rtx-a5000", "rtx-a5500",
        "rtx-a6000", "rtx-3050", "rtx-3060", "rtx-3070", "rtx-3080", "rtx-3090",
    ),
    89: (
        "l2", "l4", "l20", "l40", "l40s", "l40g", "rtx-2000-ada", "rtx-4000-ada", "rtx-4000-sff-ada", "rtx-4500-ada",
        "rtx-5000-ada", "rtx-5880-ada", "rtx-6000-ada", "rtx-4060", "rtx-4070", "rtx-4080", "rtx-4090",
    ),
    90: ("h100", "h200", "h800", "h20", "gh200"),
    100: ("b100", "b200", "gb200"),
    103: ("b300", "gb300"),
    120: (
        "rtx-pro-2000-blackwell", "rtx-pro-4000-blackwell", "rtx-pro-4500-blackwell", "rtx-pro-5000-blackwell",
        "rtx-pro-6000", "rtx-5050", "rtx-5060", "rtx-5070", "rtx-5080", "rtx-5090",
    ),
    121: ("gb10",),
}  # fmt: skip
"""Compute capability, times ten → names, without maker and brand. What follows a name (memory, socket) says nothing."""

_CAPABILITY = {name: capability for capability, names in FAMILIES.items() for name in names}
_LONGEST = 63
_SUFFIX = re.compile(r"(?:-mig-[a-z0-9.+_-]*)?(?:-shared)?$")
_BRANDS = ("nvidia-", "tesla-", "geforce-")
_STATED = re.compile(r"(\d{1,2})\.(\d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,2}", re.ASCII)


class Contradiction(ValueError):
    """Two fields of a target say different things, or one says nothing that can be read."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path
        """Path below the target."""


def product_capability(product: str) -> int | None:
    """``NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED`` → 80; None for a product that is not known."""
    name = _SUFFIX.sub("", product.strip().lower().replace(" ", "-")[:_LONGEST])
    for brand in _BRANDS:
        name = name.removeprefix(brand)
    parts = name.split("-")
    heads = ("-".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((_CAPABILITY[head] for head in heads if head in _CAPABILITY), None)


def target_capability(stated: str | None, node_selector: Mapping[str, str]) -> int | None:
    """Compute capability of a target's GPUs, times ten; None when nothing tells it.

    Raises:
        Contradiction: what is stated, the product and the labels of the compute capability do not agree.
    """
    found: dict[str, int] = {}
    if stated is not None:
        match = _STATED.fullmatch(stated)
        if match is None:
            raise Contradiction("computeCapability", f"{stated!r} is no compute capability such as 9.0")
        found["computeCapability"] = int(match[1]) * 10 + int(match[2])
    for label in (PRODUCT, GKE_ACCELERATOR):
        known = product_capability(node_selector.get(label, ""))
        if known is not None:
            found[_path(label)] = known
    major, minor = _number(node_selector, MAJOR), _number(node_selector, MINOR)
    if major is not None and minor is not None:
        found[_path(MAJOR)] = major * 10 + minor
    first, *others = found or [""]
    for other in others:
        if found[other] != found[first]:
            message = f"means compute capability {shown(found[other])}, but {first} means {shown(found[first])}"
            raise Contradiction(other, message)
    if found and major is not None and major != found[first] // 10:
        message = f"means compute capability {major}.x, but {first} means {shown(found[first])}"
        raise Contradiction(_path(MAJOR), message)
    return found.get(first)


def shown(capability: int) -> str:
    """``90`` → ``9.0``, as NVIDIA writes it."""
    return f"{capability // 10}.{capability % 10}"


def _path(label: str) -> str:
    return f"nodeSelector[{label}]"


def _number(node_selector: Mapping[str, str], label: str) -> int | None:
    text = node_selector.get(label)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or (label == MINOR and len(text) > 1):
        raise Contradiction(_path(label), f"{text!r} is not a number that a compute capability can have")
    return int(text)
