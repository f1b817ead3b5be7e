"""Writes one checkpoint folder: shards of bounded size, then the small files, then the marker, then its name.

A folder under its final name is always whole: everything is written into a hidden folder beside it that is
renamed last. The marker in it says with which parameters it was made and how large each file is.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch  # type: ignore[import-not-found,unused-ignore]
from safetensors.torch import save_file  # type: ignore[import-not-found,unused-ignore]

from benchmarks.checkpoints import marker

SHARD_BYTES = 1 << 30


class CheckpointWriter:
    """Collects tensors of one checkpoint and writes a shard whenever ``shard_bytes`` are together."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._partial = folder.parent / f".{folder.name}.partial"
        self._shard_bytes = shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[list[str]] = []
        self._total_bytes = 0
        # What a killed run left behind.
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take one tensor; it must not change afterwards. Raises ValueError when the name came before."""
        if name in self._pending or any(name in shard for shard in self._shards):
            raise ValueError(f"tensor {name} was added twice")
        size = tensor.numel() * tensor.element_size()
        if self._pending and self._pending_bytes + size > self._shard_bytes:
            self._flush()
        self._pending[name] = tensor
        self._pending_bytes += size
        self._total_bytes += size

    def finish(self, files: dict[str, str], parameters: dict[str, object]) -> int:
        """Write what is left, the text ``files`` by name and the marker; returns the bytes of all files."""
        self._flush()
        self._name_shards()
        for name, text in files.items():
            (self._partial / name).write_text(text, encoding="utf-8")
        sizes = marker.write(self._partial, parameters)
        self._replace()
        return sum(sizes.values())

    def discard(self) -> None:
        """Remove what was written so far."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _flush(self) -> None:
        if not self._pending:
            return
        self._shards.append(list(self._pending))
        # The number of shards belongs into the name but is known at the end only.
        path = self._partial / f"shard-{len(self._shards)}"
        save_file(self._pending, path, metadata={"format": "pt"})
        # safetensors makes it readable to its owner only, but the server runs as another user.
        path.chmod(0o644)
        self._pending = {}
        self._pending_bytes = 0

    def _name_shards(self) -> None:
        count = len(self._shards)
        if count == 1:
            (self._partial / "shard-1").rename(self._partial / "model.safetensors")
            return
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self._shards, start=1):
            name = f"model-{number:05d}-of-{count:05d}.safetensors"
            (self._partial / f"shard-{number}").rename(self._partial / name)
            weight_map.update(dict.fromkeys(names, name))
        weights = dict(sorted(weight_map.items()))
        index = {"metadata": {"total_size": self._total_bytes}, "weight_map": weights}
        text = json.dumps(index, indent=2) + "\n"
        (self._partial / "model.safetensors.index.json").write_text(text, encoding="utf-8")

    def _replace(self) -> None:
        if self._folder.exists():
            # A folder cannot be renamed onto one that is not empty: the old one steps aside first.
            old = self._folder.parent / f".{self._folder.name}.old"
            shutil.rmtree(old, ignore_errors=True)
            self._folder.rename(old)
            self._partial.rename(self._folder)
            shutil.rmtree(old)
        else:
            os.rename(self._partial, self._folder)
