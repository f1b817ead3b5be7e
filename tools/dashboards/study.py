"""One study: the answer, the trade-offs, and where the time went."""

from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build

from dashboards.parts import (
    AMBER,
    BLUE,
    CELL,
    GREEN,
    GREY,
    RED,
    ROW,
    STATES,
    frame,
    hidden,
    lines,
    matrix,
    most,
    panel,
    query,
    stat,
    state,
    text,
    variable,
)  # fmt: skip

STUDY = ('namespace="$namespace"', 'benchmark="$benchmark"')
HERE = (*STUDY, 'target=~"$target"')
ROWS = (*HERE, 'load=~"$load"')
RATIO_COLOURS = ((None, RED), (0.97, GREY), (1.03, GREEN))
VERDICTS: Mapping[str, tuple[str, str]] = {
    "Measured": ("Measured", GREEN),
    "Duplicate": ("Duplicate", BLUE),
    "Unstable": ("Unstable", AMBER),
}
WORDS: Mapping[str, tuple[str, str]] = {
    "Faster": ("Faster", GREEN),
    "Slower": ("Slower", RED),
    "NotDistinguishable": ("Not distinguishable", GREY),
    "Undecided": ("Undecided: more starts follow", AMBER),
    "OneRun": ("One run: no verdict", AMBER),
    "SameConfiguration": ("Same configuration", BLUE),
}
NOT_QUEUEING = " unless on (variant, target, load) " + most("quantbench_result_saturated", ROW, where=ROWS) + " == 1"
CONCURRENCY = (
    '* on (load) group_left (concurrency) count_values by (load) ("concurrency", '
    f"{most('quantbench_load_max_concurrency', ('load',), where=STUDY)})"
)
"""Turns the bound on requests in flight from a value into a label, by which a table can be ordered."""
NO_CONCURRENCY = "No load of this study has maxConcurrency."
SHARED = "Loads of one maxConcurrency share a point, and one of them is seen: choose loads above."


def result(short: str, *, where: tuple[str, ...] = ROWS) -> str:
    """A figure per row."""
    return most(f"quantbench_result_{short}", ROW, where=where)


def dashboard() -> str:
    """The dashboard as JSON."""
    built = frame(
        "quantbench-study", "QuantBenchmark / Study",
        "Which quantization to serve: one study's answer, its uncertainty, and what it cost.", since="now-24h",
    )  # fmt: skip
    for choice in (
        variable("namespace", "Namespace", "label_values(quantbench_benchmark_info, namespace)"),
        variable("benchmark", "Study", 'label_values(quantbench_benchmark_info{namespace="$namespace"}, benchmark)'),
        variable("target", "Target", f"label_values(quantbench_cell_info{{{', '.join(STUDY)}}}, target)", several=True),
        variable("load", "Load", f"label_values(quantbench_result_starts{{{', '.join(STUDY)}}}, load)", several=True),
    ):
        built = built.with_variable(choice)
    for heading, panels in (
        ("Progress", _progress()),
        ("Answer", _answer()),
        ("Trade-offs", _trade_offs()),
        ("Where the time went", _time()),
    ):
        built = built.with_row(build.Row(heading))
        for one in panels:
            built = built.with_panel(one)
    return text(built)


def _progress() -> list[build.Panel]:
    spent, limit = (
        most(f"quantbench_benchmark_{name}", ("benchmark",), where=STUDY)
        for name in ("gpu_seconds", "gpu_limit_seconds")
    )
    finished, planned = (
        f"sum({most(f'quantbench_cell_runs_{name}', CELL, where=STUDY)})" for name in ("finished", "planned")
    )
    return [
        stat(
            "Runs ended", "Share of the planned server starts that have a verdict. Adaptive sampling may add starts.",
            f"{finished} / {planned}", unit="percentunit", decimals=0,
        ),
        stat(
            "State", "Complete once no run is left. Refused, or one that stands still: see `kubectl describe qb`.",
            state(lambda name: most(f"quantbench_benchmark_{name}", ("benchmark",), where=STUDY)), words=STATES,
        ),
        stat(
            "Since last progress", "Time since a stage, a pass or a condition last changed. It grows for ever once the"
            " study is complete; while it runs, more than limits.loadTimeout is worth a look.",
            f"time() - {most('quantbench_benchmark_last_progress_timestamp_seconds', ('benchmark',), where=STUDY)}",
            unit="s", decimals=0,
        ),
        stat("GPU time", "GPUs × time that servers had a node, running ones included.", spent, unit="s", decimals=1),
        stat(
            "Budget spent", "Share of limits.gpuHours. At 100 % no further server is started: raise it to go on.",
            f"{spent} / {limit}", unit="percentunit", decimals=0, none="no limit",
            colours=((None, GREEN), (0.9, AMBER), (1.0, RED)),
        ),
        stat(
            "Passes stored", "Measured passes in the runs' statuses, invalid ones included.",
            most("quantbench_benchmark_passes", ("benchmark",), where=STUDY), decimals=0,
        ),
    ]  # fmt: skip


def _answer() -> list[build.Panel]:
    word = most("quantbench_result_difference", (*ROW, "difference"), where=ROWS) + " == 1"
    figures = {
        "A": result("total_tokens_per_second"),
        "B": result("time_per_output_token_seconds"),
        "C": result("time_to_first_token_seconds") + NOT_QUEUEING,
        "D": result("throughput_ratio"),
        "E": result("throughput_ratio_low"),
        "F": result("throughput_ratio_high"),
        "G": result("starts"),
        "H": word,
    }
    called = {
        "Value #A": "Throughput", "Value #B": "TPOT", "Value #C": "TTFT", "Value #D": "Ratio",
        "Value #E": "Ratio low", "Value #F": "Ratio high", "Value #G": "Starts", "difference": "Verdict",
    }  # fmt: skip
    ratio = {"decimals": 3, "unit": "none"}
    shaded = {"cellOptions": {"type": "color-background", "mode": "basic"}, "align": "center"}
    verdicts = most("quantbench_cell_verdict", (*CELL, "verdict"), where=HERE) + " == 1"
    effective = most("quantbench_cell_info", (*CELL, "method", "effective", "fingerprint", "same_as"), where=HERE)
    return [
        panel(
            "table", "Throughput against the baseline, variant × target",
            "Geometric mean over the chosen loads of the ratios within blocks: above 1 is faster. Choose one load for"
            " one number. The baseline has no ratio to itself; an empty cell failed or has no start in common. Colours"
            " are no verdict: whether a difference is more than chance says the table beside.",
            [query(f"exp(avg by (variant, target) (ln({result('throughput_ratio')})))", table=True)],
            width=9, unit="none", decimals=3, colours=RATIO_COLOURS, custom=shaded,
            shape=(matrix("variant", "target"),), columns={"variant\\target": {"custom.cellOptions": {"type": "auto"}}},
        ),
        panel(
            "table", "Every row, with its interval",
            "Means over server starts; the ratio with its 95 % interval. TTFT is left out where the server was"
            " saturated: there it is the length of a queue. One start is one run, not a verdict.",
            [query(expression, ref=ref, table=True) for ref, expression in figures.items()],
            width=15, decimals=1, custom={"filterable": True}, words=WORDS,
            shape=(("merge", {}), hidden("Value #H", order=ROW, called=called)),
            columns={
                "Throughput": {"unit": "suffix: tok/s"}, "TPOT": {"unit": "s", "decimals": 2},
                "TTFT": {"unit": "s", "decimals": 2}, "Ratio": ratio, "Ratio low": ratio, "Ratio high": ratio,
                "Starts": {"decimals": 0}, "Verdict": {"custom.cellOptions": {"type": "color-text"}},
            },
        ),
        panel(
            "table", "How the runs ended",
            "One verdict per variant and target. Anything but Measured: `kubectl get qbr` shows the reason and the"
            " first telling line of the log; the troubleshooting page goes by these names.",
            [query(verdicts, table=True)], width=9, words=VERDICTS,
            custom={"filterable": True}, shape=(hidden("Value", order=(*CELL, "verdict")),),
            columns={"verdict": {"custom.cellOptions": {"type": "color-text"}}},
        ),
        panel(
            "table", "What the servers really ran",
            "From the servers' logs. Two variants with one fingerprint ran the same thing: their difference is noise.",
            [query(effective, table=True)], width=9, custom={"filterable": True},
            shape=(hidden("Value", order=(*CELL, "method", "effective", "fingerprint", "same_as")),),
        ),
        panel(
            "bargauge", "Findings by kind", "Sentences that the data say; read them with `quantbench report`, or in"
            " status.findings.",
            [query(most("quantbench_benchmark_findings", ("kind",), where=STUDY), "{{kind}}", now=True)],
            width=6, decimals=0, least=0,
            options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}},
        ),
    ]  # fmt: skip


def _against(short: str, title: str, description: str, unit: str, *, extra: str = "") -> build.Panel:
    """A figure of every variant against the number of requests in flight."""
    expression = f"({result(short)}{extra}) {CONCURRENCY}"
    return _curve(title, description, expression, "variant", unit)


def _curve(title: str, description: str, expression: str, series: str, unit: str) -> build.Panel:
    axis = f"concurrency\\{series}"
    numbers: dict[str, Any] = {"conversions": [{"targetField": axis, "destinationType": "number"}], "fields": {}}
    return panel(
        "trend", title, f"{description} {SHARED}", [query(expression, table=True)],
        width=12, unit=unit, none=NO_CONCURRENCY,
        custom={"lineWidth": 2, "showPoints": "always", "pointSize": 7, "axisLabel": "", "spanNulls": True},
        options={"xField": axis, "legend": {"displayMode": "list", "placement": "bottom"}},
        shape=(matrix("concurrency", series), ("convertFieldType", numbers), ("sortBy", {"sort": [{"field": axis}]})),
        columns={axis: {"unit": "suffix: in flight", "decimals": 0}}, least=0,
    )  # fmt: skip


def _trade_offs() -> list[build.Panel]:
    mean, low, high = (
        f'label_join({result(f"throughput_ratio{end}")}, "series", "", "variant"{name})'
        for end, name in (("", ""), ("_low", ""), ("_high", ""))
    )
    ends = (
        mean,
        f'label_replace({low}, "series", "$1 low", "series", "(.*)")',
        f'label_replace({high}, "series", "$1 high", "series", "(.*)")',
    )
    with_interval = f"({' or '.join(ends)}) {CONCURRENCY}"
    by_name = {"matcher": {"id": "byName", "options": "TPOT"}}, {"matcher": {"id": "byName", "options": "Throughput"}}
    return [
        panel(
            "xychart", "Output throughput against TPOT",
            "One point per variant and load: further up is more throughput, further left is a smoother stream. A"
            " variant is worth serving where no other lies above and left of it.",
            [
                query(result("output_tokens_per_second"), ref="A", table=True),
                query(result("time_per_output_token_seconds"), ref="B", table=True),
            ],
            width=12, custom={"show": "points", "pointSize": {"fixed": 9}},
            options={
                "mapping": "auto", "series": [{"x": by_name[0], "y": by_name[1]}],
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "single"},
            },
            shape=(
                ("merge", {}), hidden(called={"Value #A": "Throughput", "Value #B": "TPOT"}),
                ("partitionByValues", {"fields": ["variant"], "keepFields": True}),
            ),
            columns={"Throughput": {"unit": "suffix: tok/s"}, "TPOT": {"unit": "s", "decimals": 4}},
        ),
        _curve(
            "Throughput against the baseline, by concurrency, with 95 % intervals",
            "Three lines per variant: the ratio, and the ends of its interval where there are starts enough. An"
            " interval that holds 1 says nothing either way. Choose one target.",
            with_interval, "series", "none",
        ),
        _against(
            "total_tokens_per_second", "Throughput, by concurrency",
            "Where the curve flattens, the server is at its limit. Choose one target.", "suffix: tok/s",
        ),
        _against(
            "time_per_output_token_seconds", "TPOT, by concurrency",
            "Mean time per output token after the first; below a reader's pace of some 0.1 s nobody waits.", "s",
        ),
        _against(
            "time_to_first_token_seconds", "TTFT, by concurrency, unsaturated loads only",
            "Mean time to first token. Saturated loads are left out: there it is the length of a queue and grows with"
            " the number of requests sent.", "s", extra=NOT_QUEUEING,
        ),
    ]  # fmt: skip


def _time() -> list[build.Panel]:
    stages, starts = (*CELL, "stage"), (*CELL, "part")
    total = f"sum by (variant, stage) ({most('quantbench_run_stage_seconds_sum', stages, where=HERE)})"
    parts = " / ".join(
        f"sum by (variant, part) ({most(f'quantbench_run_cold_start_seconds_{end}', starts, where=HERE)})"
        for end in ("sum", "count")
    )
    bars = {"orientation": "horizontal", "legend": {"displayMode": "list", "placement": "bottom"}}
    return [
        panel(
            "barchart", "Time of server starts by stage",
            "Summed over the runs. `measure` is what was paid for; `schedule` and `container` cost nothing yet, `load`"
            " and `client` do: cache models and images on the nodes if they dominate.",
            [query(total, table=True)], width=12, unit="s", shape=(matrix("variant", "stage"),), least=0,
            options={**bars, "stacking": "normal", "xField": "variant\\stage"},
        ),
        panel(
            "barchart", "Cold start by part",
            "Mean over starts, by the server's own log; `weights` is part of `model`, `compile` part of `engine`, so"
            " the bars do not add up.",
            [query(parts, table=True)], width=12, unit="s", shape=(matrix("variant", "part"),), least=0,
            options={**bars, "stacking": "none", "xField": "variant\\part"},
            none="The logs of these servers do not say.",
        ),
        lines(
            "Passes over time", "A flat stretch while the study runs is time in which nothing was measured.",
            query(most("quantbench_benchmark_passes", ("benchmark",), where=STUDY), "passes stored"),
            query(most("quantbench_benchmark_active_runs", ("benchmark",), where=STUDY), "active runs", ref="B"),
            width=24, decimals=0, least=0,
        ),
    ]  # fmt: skip
