"""``python -m benchmarks.simulation``: the table of docs/statistics.md."""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.simulation.simulate import Outcome, Scenario, simulate

SIZES = ((1, 1, True), (1, 1, False), (4, 1, True), (4, 1, False), (10, 1, True), (4, 3, True), (10, 3, True))
"""Variants, loads, control."""
NOISE = (0.005, 0.01, 0.02, 0.04, 0.08)
"""From start to start, as measured on GPUs: 0.5 % to 8 %."""


def same() -> Iterator[tuple[str, Scenario]]:
    """Studies of variants that do not differ (A/A)."""
    for variants, loads, control in SIZES:
        for start in NOISE:
            yield "", Scenario(variants=variants, loads=loads, control=control, start=start)
    for variants, loads, control in SIZES:
        yield "fixed starts", Scenario(variants=variants, loads=loads, control=control, starts=3, most=3)
    yield "up to 10 starts", Scenario(most=10, precision=0.01)
    yield "up to 25 starts", Scenario(most=25, precision=0.005)
    yield "heavy tails", Scenario(start=0.02, tails=3)
    for variants in (1, 4, 10):
        for factor in (2.0, 3.0):
            yield f"one variant {factor:g}× as noisy", Scenario(variants=variants, noisier=factor, precision=0.005)


def different() -> Iterator[tuple[str, Scenario]]:
    """Studies of which one variant, or all, truly differ."""
    for variants, loads, control in SIZES:
        for ratio, start in ((1.03, 0.01), (1.10, 0.04)):
            base = Scenario(variants=variants, loads=loads, control=control, ratio=ratio, start=start)
            yield "one differs", replace(base, different=1)
            if variants > 1:
                yield "all differ", replace(base, different=variants)
    for ratio in (1.05, 1.10, 1.25):
        yield "all differ", Scenario(ratio=ratio, different=4)
    for factor in (1.0, 3.0, 10.0, 30.0):
        words = "one differs" + (f", another is {factor:g}× as noisy" if factor > 1 else "")
        yield words, Scenario(ratio=1.10, different=1, noisier=factor)


def row(words: str, outcome: Outcome, studies: int) -> str:
    """One line of the table, each figure with its standard error."""
    s = outcome.scenario
    alike = s.variants > s.different
    return " | ".join(
        (
            f"| {s.variants} × {s.loads}{'' if s.control else ', no control'}",
            f"{s.starts}–{s.most}" if s.most > s.starts else f"{s.starts}",
            f"{s.start:.1%}",
            f"{s.ratio - 1:.0%}" if s.different else "none",
            words,
            _share(outcome.false_alarms, studies) if alike else "",
            _share(outcome.power, studies) if s.different else "",
            f"{outcome.coverage:.1%} ± {outcome.coverage_error:.1%}",
            f"{outcome.mean_starts:.1f} |",
        )
    )


def _share(share: float, studies: int) -> str:
    return f"{share:.1%} ± {math.sqrt(share * (1 - share) / studies):.1%}"


HEADER = (
    "| variants × loads | starts | start noise | true difference | |"
    " false alarms | found | coverage | starts used |\n" + "|---|---|---:|---:|---|---:|---:|---:|---:|"
)


def main(argv: list[str]) -> int:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--studies", type=int, default=6000, help="simulated studies per line")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulation")
    parser.add_argument("--only", default="", metavar="WORDS", help="lines with these words only, e.g. noisy")
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    for title, scenarios in (("No variant differs", same()), ("Variants differ", different())):
        print(f"\n**{title}** ({arguments.studies} studies per line)\n\n{HEADER}")
        for place, (words, scenario) in enumerate(scenarios):
            if arguments.only not in words:
                continue
            outcome = simulate(scenario, arguments.studies, arguments.seed + place)
            print(row(words, outcome, arguments.studies), flush=True)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
