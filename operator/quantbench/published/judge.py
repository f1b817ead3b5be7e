"""Conclusions of a published study, decided from measured starts.

A comparison goes a claim's way, or against it, when the 95 % interval of its ratio leaves 1 out. One that does not is
open, and so is one between variants that ran the same configuration.
"""

from collections.abc import Iterator, Sequence

from quantbench.api.benchmark import Load, Variant
from quantbench.api.names import Method
from quantbench.published.claims import Claim, Conclusion, Direction, Figure, Group, Share
from quantbench.published.document import Judged, Outcome, Test, Verdict
from quantbench.published.measured import Measured
from quantbench.statistics import Metric, Ratio


def judge(conclusion: Conclusion, targets: Sequence[Measured]) -> Verdict:
    """A conclusion under every load of every target."""
    judged, silent = [], []
    for measured in targets:
        for load in measured.loads:
            tests = [(claim, *_tests(claim, measured, load)) for claim in conclusion.claims]
            silent += [why for _, own, why in tests if why and not own]
            if not any(own for _, own, _ in tests):
                continue
            asked = [(claim, own) for claim, own, _ in tests if own or _applies(claim, measured, load)]
            outcome = _together([_outcome(claim, own) for claim, own in asked])
            made = dict.fromkeys(test for _, own, _ in tests for test in own)
            notes = dict.fromkeys(why if own else f"not compared: {why}" for _, own, why in tests if why)
            judged.append(
                Judged(
                    target=measured.target.name,
                    load=load.name,
                    outcome=outcome,
                    tests=tuple(made),
                    notes=tuple(notes),
                )
            )
    outcome, sentence = _overall(judged, list(dict.fromkeys(silent)), several=len(targets) > 1)
    return Verdict(
        number=conclusion.number, text=conclusion.text, outcome=outcome, sentence=sentence, loads=tuple(judged)
    )


def _tests(claim: Claim, measured: Measured, load: Load) -> tuple[list[Test], str]:
    """The comparisons that a claim makes under a load, and the state of its condition or why there are none."""
    note = ""
    if claim.memory is not None:
        found, said = measured.memory(load.name)
        note = f"memory was {found or 'not known to be short or ample'} at {load.name}: {said}"
        if found is not claim.memory:
            return [], note
    tests = [
        test for variant, other in _pairs(claim, measured) for test in _pair(claim, measured, load, variant, other)
    ]
    return tests, note if tests or note else "none of the variants that it compares was measured together"


def _pairs(claim: Claim, measured: Measured) -> Iterator[tuple[Variant, Variant]]:
    baseline = measured.study.benchmark.spec.baseline
    others = [one for one in measured.variants if one.name == baseline]
    if claim.against is not None:
        others = _members(claim.against, measured)
    for variant in _members(claim.variants, measured):
        for other in others:
            alike = not claim.same_method or variant.method is other.method
            if alike and variant.name != other.name:
                yield variant, other


def _members(group: Group, measured: Measured) -> list[Variant]:
    """The variants of a group, each configuration once.

    Of a method with several checkpoints the study's first one is meant: another one is another quantization, such as
    FP8 with scales per block.
    """
    checkpoints: dict[Method, str | None] = {}
    found: list[Variant] = []
    for variant in filter(group.holds, measured.variants):
        if checkpoints.setdefault(variant.method, variant.model) != variant.model:
            continue
        if not any(measured.same(variant.name, one.name) for one in found):
            found.append(variant)
    return found


def _pair(claim: Claim, measured: Measured, load: Load, variant: Variant, other: Variant) -> Iterator[Test]:
    same = measured.same(variant.name, other.name)
    for figure in claim.figures:
        ratio, through = _ratio(measured, load.name, variant.name, other.name, figure.metric)
        if ratio is None:
            continue
        more = None
        if not same and ratio.low is not None and ratio.high is not None:
            more = True if ratio.low > 1 else False if ratio.high < 1 else None
        better = None if more is None else more is (figure is Figure.THROUGHPUT)
        yield Test(
            figure=figure,
            variant=variant.name,
            against=other.name,
            ratio=ratio.value,
            low=ratio.low,
            high=ratio.high,
            starts=ratio.blocks,
            through_baseline=through,
            same_configuration=same,
            goes=None if better is None else better is (claim.direction is Direction.BETTER),
        )


def _ratio(measured: Measured, load: str, variant: str, other: str, metric: Metric) -> tuple[Ratio | None, bool]:
    """The ratio within blocks; without an interval of it that by way of the baseline, and whether it is that one."""
    direct = measured.ratio(load, variant, other, metric)
    if direct is not None and direct.low is not None:
        return direct, False
    indirect = measured.through_baseline(load, variant, other, metric)
    if indirect is None or (direct is not None and indirect.low is None):
        return direct, False
    return indirect, True


def _outcome(claim: Claim, tests: Sequence[Test]) -> Outcome:
    if not tests:
        return Outcome.CANNOT_BE_SAID
    with_it = sum(1 for test in tests if test.goes is True)
    against = sum(1 for test in tests if test.goes is False)
    enough = len(tests) if claim.share is Share.EVERY else len(tests) // 2 + 1
    if with_it >= enough:
        return Outcome.HOLDS
    # What is open can no longer make up for what went the other way.
    return Outcome.DOES_NOT_HOLD if len(tests) - against < enough else Outcome.CANNOT_BE_SAID


def _applies(claim: Claim, measured: Measured, load: Load) -> bool:
    """Whether a claim speaks of a load, as far as is known: where nobody counted preemptions it may."""
    return claim.memory is None or measured.memory(load.name)[0] in (None, claim.memory)


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    """Of all claims of a conclusion that apply: one that could not be tested leaves it open."""
    order = (Outcome.DOES_NOT_HOLD, Outcome.CANNOT_BE_SAID, Outcome.HOLDS)
    return next(outcome for outcome in order if outcome in outcomes)


def _overall(judged: Sequence[Judged], silent: Sequence[str], *, several: bool) -> tuple[Outcome, str]:
    at: dict[Outcome, list[str]] = {}
    for one in judged:
        at.setdefault(one.outcome, []).append(f"{one.load} on {one.target}" if several else one.load)
    holds, fails, unclear = (
        ", ".join(at.get(outcome, ())) for outcome in (Outcome.HOLDS, Outcome.DOES_NOT_HOLD, Outcome.CANNOT_BE_SAID)
    )
    rest = [f"does not hold at {fails}" if fails else "", f"cannot be said at {unclear}" if unclear else ""]
    said = "; ".join(part for part in rest if part)
    if holds and not said:
        return Outcome.HOLDS, f"holds at {holds}"
    if holds:
        return Outcome.HOLDS_ONLY_AT, f"holds only at {holds}; {said}"
    if fails:
        return Outcome.DOES_NOT_HOLD, said
    return Outcome.CANNOT_BE_SAID, said or f"cannot be said: {'; '.join(silent)}"
