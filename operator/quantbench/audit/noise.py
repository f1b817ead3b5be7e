"""How far two measurements of the same thing lie apart: the default noise floors.

Measured by this project on one H100 80GB with vLLM 0.24.0, a model of Qwen3-8B's shape, 1000 ShareGPT prompts at an
infinite request rate, temperature 0 and prefix caching off: once for two passes of one server, once for starts of the
same server on one machine.
"""

from collections.abc import Mapping

from quantbench.audit.vocabulary import Family

SOURCE = "two starts of one server on one H100, vLLM 0.24.0, 1000 ShareGPT prompts at once"

PASS_TO_PASS: Mapping[Family, float] = {Family.THROUGHPUT: 0.7, Family.TPOT: 0.3, Family.ITL: 0.3, Family.TTFT: 5.0}
"""Largest difference of two passes of one server, percent. ITL was not measured alone and is taken as TPOT."""

START_TO_START: Mapping[Family, float] = {
    Family.THROUGHPUT: 7.9,
    Family.TPOT: 12.0,
    Family.TTFT: 15.0,
    Family.ITL: 37.0,
}
"""Largest difference of two starts of the same server, percent."""


def floor(family: Family, stated: float | None) -> float:
    """The difference in percent below which single runs prove nothing; ``stated`` is the user's own for throughput.

    The other metrics keep their proportion to throughput. End-to-end latency was not measured; it is mostly decoding
    and takes TPOT's.
    """
    default = START_TO_START.get(family, START_TO_START[Family.TPOT])
    return default if stated is None else stated * default / START_TO_START[Family.THROUGHPUT]
