"""What a checkpoint depends on. Standard library only, so that a check of what exists needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.checkpoints.schemes import Scheme
from benchmarks.checkpoints.shapes import Shape

# Raised whenever the same parameters give other files, so that old checkpoints are made anew.
FORMAT = 2


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint depends on, beside its scheme."""

    shape: Shape
    seed: int
    text_digest: str

    def parameters(self, scheme: Scheme) -> dict[str, object]:
        """Key of the finished checkpoint: another value anywhere means another checkpoint."""
        return {
            "format": FORMAT,
            "shape": asdict(self.shape),
            "scheme": scheme.name,
            "seed": self.seed,
            "text": self.text_digest,
            "weights": "gaussian",
        }
