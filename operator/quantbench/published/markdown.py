"""A comparison with a published study as Markdown."""

from collections.abc import Iterable, Iterator, Sequence

from quantbench.published.document import Agreement, Comparison, Outcome, Ratio, Row, Table, Test, Verdict
from quantbench.report.markdown import escaped

_WORDS = {
    Agreement.AGREES: "agrees",
    Agreement.DIFFERS: "**differs**",
    Agreement.ONE_RUN: "one start",
    Agreement.NOT_MEASURED: "not measured",
    Agreement.NOT_PUBLISHED: "no figure there",
}
_TITLES = {
    Outcome.HOLDS: "holds",
    Outcome.HOLDS_ONLY_AT: "holds only at some loads",
    Outcome.DOES_NOT_HOLD: "does not hold",
    Outcome.CANNOT_BE_SAID: "cannot be said",
}
_SIGNS = {True: "✓", False: "✗", None: "?"}
_NAMES = {"throughput": "throughput", "ttft": "TTFT", "tpot": "TPOT"}


def to_markdown(found: Comparison, level: int = 2) -> str:
    """Tables, reasons and conclusions; headings begin at this level."""
    return "\n".join(_lines(found, "#" * level)) + "\n"


def _lines(found: Comparison, head: str) -> Iterator[str]:
    yield (
        f"Published: {escaped(found.source)}, vLLM {found.published_version or 'of a version that is not stated'}."
        f" Measured: {escaped(found.study)}, vLLM {', '.join(found.measured_versions)}."
    )
    like = f"under `{found.like_published}`" if found.like_published else "under no load of the study"
    yield ""
    yield (
        "Every figure is a ratio to the unquantized baseline; the published ones are computed from the tables' own"
        " numbers. In brackets: the 95 % interval, then the server starts that it rests on. All requests at once, as"
        f" published, is what was measured {like}; there the published single run agrees where it lies within the"
        " interval: a wide one agrees with much."
    )
    for table in found.tables:
        yield from ("", f"{head} {escaped(table.title)}, measured on {escaped(table.target)}", "")
        yield from _table(table, found.like_published)
        yield from _remarks(table.rows)
    for reason in found.left_out:
        yield from ("", f"Left out: {escaped(reason)}.")
    if found.conclusions:
        yield from ("", f"{head} The conclusions", "", "| | conclusion | here |", "| ---: | --- | --- |")
        yield from (_cells([str(v.number), escaped(v.text), _where(v)]) for v in found.conclusions)
        yield from (
            "",
            "✓: the 95 % interval of the ratio lies on the side that the conclusion says; ✗: on the other side; ?: it"
            " holds 1. A conclusion holds at a load where all of its comparisons do, or most where it speaks of most."
            " ≈: the two were measured in different sittings, and are compared by way of the baseline. Every interval"
            " here is that of a single comparison: the study's own findings allow for all of its comparisons, so that"
            " they may call indistinguishable what has a ✓ or a ✗ here.",
        )
    for verdict in found.conclusions:
        yield from _verdict(verdict, f"{head}#")


def _table(table: Table, like: str | None) -> Iterator[str]:
    loads = list(dict.fromkeys(at.load for row in table.rows for at in row.loads))
    # What it comes to stands beside the load that it is about: further columns may lie beyond the page's edge.
    loads.sort(key=lambda load: load != like)
    beside = int(like in loads)
    yield _cells(_with("", beside, ["row", "variant", "ratio of", "published"], [f"`{load}`" for load in loads]))
    yield _cells(_with("---", beside, ["---", "---", "---", "---:"], ["---:" for _ in loads]))
    for row in table.rows:
        at = {one.load: {ratio.figure: ratio for ratio in one.ratios} for one in row.loads}
        if not at:
            first = [escaped(row.name), _code(row.variant), "", ""]
            yield _cells(_with(_WORDS[row.agreement], beside, first, ["" for _ in loads]))
        for place, figure in enumerate(next(iter(at.values()), {})):
            ratios = [at[load][figure] if load in at else None for load in loads]
            there = next((ratio.published for ratio in ratios if ratio), None)
            own = at.get(like or "", {}).get(figure)
            first = [*([escaped(row.name), _code(row.variant)] if place == 0 else ["", ""]), _NAMES[figure]]
            first.append("" if there is None else f"{there:.3f}")
            word = _WORDS[own.agreement if own else Agreement.NOT_MEASURED]
            yield _cells(_with(word, beside, first, [_ratio(ratio) for ratio in ratios]))


def _with(word: str, beside: int, first: Sequence[str], at_loads: Sequence[str]) -> list[str]:
    """The cells of a line: what it comes to stands behind so many of the loads."""
    return [*first, *at_loads[:beside], word, *at_loads[beside:]]


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None or ratio.ratio is None:
        return ""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.ratio:.3f} ({ratio.starts})"
    return f"{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] ({ratio.starts})"


def _code(name: str | None) -> str:
    return f"`{name}`" if name else ""


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    """What to know of the rows; what holds for several of them is said once."""
    told: dict[str, list[str]] = {}
    for row in rows:
        for remark in (*([row.message] if row.message else []), *row.reasons):
            told.setdefault(remark, []).append(row.name)
    if told:
        yield ""
    yield from (f"- {escaped(', '.join(names))}: {escaped(remark)}" for remark, names in told.items())


def _verdict(verdict: Verdict, head: str) -> Iterator[str]:
    yield from ("", f"{head} {verdict.number}. {escaped(verdict.text)}", "", f"{escaped(verdict.sentence)}.")
    for target in dict.fromkeys(one.target for one in verdict.loads):
        judged = [one for one in verdict.loads if one.target == target]
        yield from ("", _cells([f"on {escaped(target)}", *(f"`{one.load}`" for one in judged)]))
        yield _cells(["---", *("---:" for _ in judged)])
        tests = [{_compared(test): _test(test) for test in one.tests} for one in judged]
        for compared in dict.fromkeys(key for one in tests for key in one):
            yield _cells([compared, *(one.get(compared, "") for one in tests)])
        yield _cells(["", *(f"**{_TITLES[one.outcome]}**" for one in judged)])
        notes = dict.fromkeys(note for one in judged for note in one.notes)
        if notes:
            yield ""
        yield from (f"- {escaped(note)}" for note in notes)


def _where(verdict: Verdict) -> str:
    """What a conclusion comes to, at which loads."""
    if not verdict.loads:
        return f"**{_TITLES[verdict.outcome]}**"
    outcome, at, loads = verdict.sentence.partition(" at ")
    return f"**{outcome}**{at}{escaped(loads)}"


def _compared(test: Test) -> str:
    return f"{_NAMES[test.figure]} of `{test.variant}` over `{test.against}`"


def _test(test: Test) -> str:
    if test.same_configuration:
        return f"{test.ratio:.3f}, one configuration"
    way = "≈ " if test.through_baseline else ""
    if test.low is None or test.high is None:
        return f"{way}{test.ratio:.3f}, one start"
    return f"{way}{test.ratio:.3f} [{test.low:.3f}, {test.high:.3f}] {_SIGNS[test.goes]}"


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
