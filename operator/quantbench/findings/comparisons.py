"""Findings about the ratios to the baseline: differences, what cannot be told apart, single starts, the control."""

from collections.abc import Iterator, Sequence

from quantbench.answer import Ratio, comparison, interval, judged, of_target, times
from quantbench.api.benchmark import CONTROL, Load
from quantbench.api.names import Difference, FindingKind
from quantbench.api.status import Cell, LoadResult
from quantbench.findings.facts import Rank, Said, Study, make_finding, names_of


def _ratios(study: Study) -> Iterator[tuple[int, Load, str, Cell, LoadResult, Ratio]]:
    """Every ratio to the baseline, duplicates left out: the best first under each load of each target."""
    for number, load in enumerate(study.spec.loads):
        for target in study.spec.targets:
            rated = judged(study.spec, of_target(study.cells, target.name), load)
            for cell, row, ratio in sorted(rated, key=lambda item: -item[2].speed):
                yield number, load, target.name, cell, row, ratio


def _figures(study: Study, cell: Cell, row: LoadResult) -> list[str]:
    """The figures behind a ratio, the baseline's beside them."""
    of_baseline = next(
        (
            own
            for other in of_target(study.cells, cell.target)
            if other.variant == study.spec.baseline
            for own in other.loads
            if own.load == row.load
        ),
        None,
    )
    shown = [(cell.variant, row), *([(study.spec.baseline, of_baseline)] if of_baseline else [])]
    return [f"{name}: {_row(figures)}" for name, figures in shown]


def _row(row: LoadResult) -> str:
    ttft = f", TTFT {row.mean_ttft_milliseconds:,.1f} ms" if row.mean_ttft_milliseconds is not None else ""
    tpot = f", TPOT {row.mean_tpot_milliseconds:,.2f} ms" if row.mean_tpot_milliseconds is not None else ""
    limit = " at its limit" if row.saturated else ""
    return f"{row.total_tokens_per_second:,.1f} tokens/s{ttft}{limit}{tpot}"


def differences(study: Study) -> Iterator[Said]:
    """What is faster or slower than the baseline, and what cannot be told from it."""
    baseline = study.spec.baseline
    noise = {
        (load.name, target): times(ratio)
        for _, load, target, cell, _, ratio in _ratios(study)
        if cell.variant == CONTROL
    }
    for number, load, target, cell, row, ratio in _ratios(study):
        if cell.variant == CONTROL:
            continue
        where = f"at {load.name} on {target}"
        if ratio.difference in (Difference.FASTER, Difference.SLOWER):
            kind, rank = FindingKind.DIFFERENCE, Rank.ANSWER
            message = f"{comparison(cell.variant, baseline, ratio)} {where} ({interval(ratio)})"
        elif ratio.difference is Difference.NOT_DISTINGUISHABLE:
            kind, rank = FindingKind.NO_DIFFERENCE, Rank.BASIS
            message = f"{cell.variant} cannot be told from {baseline} {where}: {times(ratio)} ({interval(ratio)})"
            if (load.name, target) in noise:
                message += f"; the control lies at {noise[load.name, target]}"
        else:
            continue
        found = make_finding(
            kind,
            message,
            target=target,
            load=load.name,
            variants=(cell.variant,),
            evidence=_figures(study, cell, row),
        )
        yield Said(Rank.FURTHER if number else rank, found, number)


def single_starts(study: Study) -> Iterator[Said]:
    """Ratios of one start each, together for a target."""
    for target in study.spec.targets:
        single = [
            (cell.variant, load.name, ratio)
            for _, load, name, cell, _, ratio in _ratios(study)
            if name == target.name and ratio.difference is Difference.ONE_RUN and cell.variant != CONTROL
        ]
        if not single:
            continue
        variants = list(dict.fromkeys(variant for variant, *_ in single))
        message = f"figures of {_some(variants)} on {target.name} rest on one start each: shown, not judged"
        if study.spec.sampling.starts == 1:
            message += "; with sampling.starts of 2 or more they would be"
        evidence = [f"{comparison(variant, study.spec.baseline, ratio)} at {load}" for variant, load, ratio in single]
        yield Said(
            Rank.BASIS,
            make_finding(FindingKind.ONE_RUN, message, target=target.name, variants=variants, evidence=evidence),
        )


def _some(names: Sequence[str]) -> str:
    return names_of(names) if len(names) <= 4 else f"{len(names)} variants"


def control(study: Study) -> Iterator[Said]:
    """The repeated baseline: the noise floor, or an alarm where it seems to differ from itself."""
    baseline = study.spec.baseline
    for number, load, target, cell, row, ratio in _ratios(study):
        if cell.variant != CONTROL:
            continue
        lies = f"the control, {baseline} measured again, lies at {times(ratio)} at {load.name} on {target}"
        message = f"{lies} ({interval(ratio)}): the noise floor"
        rank = Rank.FURTHER if number else Rank.BASIS
        if ratio.difference in (Difference.FASTER, Difference.SLOWER):
            message = (
                f"{lies} ({interval(ratio)}), though nothing differs: do not believe differences of that size here"
            )
            rank = Rank.ALARM
        yield Said(
            rank,
            make_finding(
                FindingKind.CONTROL,
                message,
                target=target,
                load=load.name,
                variants=(CONTROL, baseline),
                evidence=_figures(study, cell, row),
            ),
            number,
        )
