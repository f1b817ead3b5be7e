"""Random weights that depend on seed, tensor name and position only, not on order, threads or schemes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Executor, Future

import torch  # type: ignore[import-not-found,unused-ignore]

from benchmarks.checkpoints.shapes import INITIALIZER_RANGE, TensorSpec

# Rows drawn by one task: bounds the float32 copies in flight and gives every core work. Small enough for the
# allocator to reuse their memory.
CHUNK_ELEMENTS = 1 << 20


def chunk_seed(seed: int, name: str, start: int) -> int:
    """Seed of the rows from ``start`` of tensor ``name``, from 0 to 2**63 - 1."""
    digest = hashlib.sha256(f"{seed}/{name}/{start}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make(specs: Iterable[TensorSpec], seed: int, pool: Executor) -> dict[str, torch.Tensor]:
    """The bfloat16 tensors of ``specs`` by name: N(0, 0.02) for matrices, ones for norms."""
    tensors: dict[str, torch.Tensor] = {}
    tasks: list[Future[None]] = []
    for spec in specs:
        if spec.kind == "norm":
            tensors[spec.name] = torch.ones(spec.shape, dtype=torch.bfloat16)
            continue
        tensor = torch.empty(spec.shape, dtype=torch.bfloat16)
        tensors[spec.name] = tensor
        rows = max(1, CHUNK_ELEMENTS // spec.shape[1])
        for start in range(0, spec.shape[0], rows):
            part = tensor[start : start + rows]
            tasks.append(pool.submit(_fill, part, chunk_seed(seed, spec.name, start)))
    for task in tasks:
        task.result()
    return tensors


def _fill(part: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    part.copy_(torch.randn(part.shape, generator=generator).mul_(INITIALIZER_RANGE))
