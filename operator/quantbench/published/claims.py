"""What a published study concludes, as data that measurements can decide.

A conclusion holds when all of its claims do. A claim compares two groups of variants: *variants* – *direction* –
*metrics* – *against*, on targets and under loads in which its condition is met.
"""

from enum import StrEnum

from pydantic import Field

from quantbench.api.base import Model
from quantbench.api.benchmark import Variant
from quantbench.api.names import Kernel, KVCacheDType, Method
from quantbench.statistics import Metric


class Figure(StrEnum):
    """What is compared."""

    THROUGHPUT = "throughput"
    TTFT = "ttft"
    TPOT = "tpot"

    @property
    def metric(self) -> Metric:
        """The same in the statistics."""
        return Metric[self.name]


class Direction(StrEnum):
    """More throughput and shorter times are better."""

    BETTER = "better"
    WORSE = "worse"


class Memory(StrEnum):
    """Whether the GPU's memory bounds the requests in flight."""

    SHORT = "short"
    AMPLE = "ample"


class Share(StrEnum):
    """How many of the comparisons must go as claimed."""

    EVERY = "every"
    MOST = "most"


class Group(Model):
    """Variants by what they are."""

    methods: tuple[Method, ...] = Field(description="Any of these methods.", min_length=1)
    kernels: tuple[Kernel, ...] = Field(default=(), description="Any of these kernels; empty: whatever kernel.")
    kv_cache_quantized: bool = Field(
        default=False, alias="kvCacheQuantized", description="Whether the KV cache is quantized."
    )

    def holds(self, variant: Variant) -> bool:
        """Whether a variant belongs to it."""
        return (
            variant.method in self.methods
            and (not self.kernels or variant.kernel in self.kernels)
            and (variant.kv_cache_dtype is not KVCacheDType.AUTO) is self.kv_cache_quantized
        )


class Claim(Model):
    """One comparison that a conclusion rests on."""

    variants: Group = Field(description="What it speaks of.")
    against: Group | None = Field(default=None, description="What they are compared with; absent: the baseline.")
    same_method: bool = Field(default=False, description="Compare variants of one method only.")
    figures: tuple[Figure, ...] = Field(default=(Figure.THROUGHPUT,), description="In what.", min_length=1)
    direction: Direction = Field(description="What they are said to be.")
    memory: Memory | None = Field(default=None, description="Where it is said to hold; absent: everywhere.")
    share: Share = Field(default=Share.EVERY, description="How many of the comparisons must go that way.")


class Conclusion(Model):
    """One conclusion of the study."""

    number: int = Field(description="Its number in the study.", ge=1)
    text: str = Field(description="What it says, in a sentence.")
    claims: tuple[Claim, ...] = Field(description="What must hold for it to hold.", min_length=1)


class Conclusions(Model):
    """All conclusions of a published study."""

    source: str = Field(description="Where the study is published.")
    conclusions: tuple[Conclusion, ...] = Field(description="In the study's order.", min_length=1)
