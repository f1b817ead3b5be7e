"""All studies: what runs, what it costs, what fails."""

from grafana_foundation_sdk.builders import dashboard as build

from dashboards.parts import (
    AMBER,
    GREEN,
    GREY,
    RED,
    STATES,
    frame,
    hidden,
    lines,
    most,
    panel,
    query,
    stat,
    state,
    text,
    variable,
)

STUDY = ("namespace", "benchmark")
CELL = (*STUDY, "variant", "target")
HERE = ('namespace=~"$namespace"',)
BAD = 'verdict!~"Measured|Duplicate|Unstable"'
LINK = "/d/quantbench-study?var-namespace=${__data.fields.namespace}&var-benchmark=${__value.text}"
OPEN = {"benchmark": {"links": [{"title": "Open the study", "url": LINK}]}}


def of(short: str) -> str:
    """A figure per study."""
    return most(f"quantbench_benchmark_{short}", STUDY, where=HERE)


def dashboard() -> str:
    """The dashboard as JSON."""
    built = frame(
        "quantbench-fleet", "QuantBenchmark / Fleet",
        "All studies: progress, GPU time, failures, and what became slower since the last study of the same name.",
        since="now-7d",
    )  # fmt: skip
    choice = variable("namespace", "Namespace", "label_values(quantbench_benchmark_info, namespace)", several=True)
    built = built.with_variable(choice)
    for heading, panels in (("Now", _now()), ("Studies", _studies()), ("Failures", _failures())):
        built = built.with_row(build.Row(heading))
        for one in panels:
            built = built.with_panel(one)
    return text(built)


def _now() -> list[build.Panel]:
    return [
        stat("Studies in all", "QuantBenchmarks that exist.", f"count({of('info')})", decimals=0),
        stat(
            "Running", "Accepted, neither complete nor suspended.",
            f"sum((1 - {of('complete')}) * (1 - {of('suspended')}) * {of('accepted')})", decimals=0,
        ),
        stat(
            "Refused", "Studies whose specification cannot be carried out: condition Accepted names the field.",
            f"sum(1 - {of('accepted')})", decimals=0, colours=((None, GREY), (1.0, AMBER)),
        ),
        stat("Servers", "Runs that hold a server now.", f"sum({of('active_runs')})", decimals=0),
        stat(
            "GPU time of existing studies", "GPUs × time that servers had a node. Deleted studies are no longer in it.",
            f"sum({of('gpu_seconds')})", unit="s", decimals=1,
        ),
        stat(
            "Cells without figures", "Variants on targets whose runs ended in a verdict without figures.",
            f"sum({most('quantbench_benchmark_cells', (*STUDY, 'verdict'), BAD, where=HERE)})", decimals=0,
            colours=((None, GREEN), (1.0, AMBER)),
        ),
    ]  # fmt: skip


def _studies() -> list[build.Panel]:
    runs = {name: f"sum by (namespace, benchmark) ({most(f'quantbench_cell_runs_{name}', CELL, where=HERE)})"
            for name in ("finished", "planned")}  # fmt: skip
    columns = {
        "A": most("quantbench_benchmark_info", (*STUDY, "model", "image"), where=HERE),
        "B": f"{runs['finished']} / {runs['planned']}",
        "C": state(of),
        "D": of("gpu_seconds"),
        "E": f"time() - {of('last_progress_timestamp_seconds')}",
    }
    called = {"Value #B": "Runs ended", "Value #C": "State", "Value #D": "GPU time", "Value #E": "Since progress"}
    states = [{"type": "value", "options": {
        value: {"text": shown, "color": colour} for value, (shown, colour) in STATES.items()
    }}]  # fmt: skip
    before = "max by (namespace, benchmark, variant, target, load) (quantbench:ratio_to_previous{" + HERE[0] + "})"
    busy = "max by (namespace, benchmark) (deriv(quantbench_benchmark_gpu_seconds{" + HERE[0] + "}[5m]))"
    return [
        panel(
            "table", "Studies", "A click on a name opens the study.",
            [query(expression, ref=ref, table=True) for ref, expression in columns.items()],
            width=24, height=10, custom={"filterable": True},
            shape=(("merge", {}), hidden("Value #A", order=(*STUDY, "model", "image"), called=called)),
            columns={
                **OPEN,
                "Runs ended": {"unit": "percentunit", "decimals": 0},
                "State": {"mappings": states}, "GPU time": {"unit": "s", "decimals": 1},
                "Since progress": {"unit": "s", "decimals": 0},
            },
        ),
        lines(
            "GPUs at work", "GPUs that servers hold, by namespace: the area is the GPU time. Deleted studies count"
            " up to their deletion.",
            query(f"sum by (namespace) (clamp_min({busy}, 0))", "{{namespace}}"),
            unit="suffix: GPUs", stacked=True, least=0,
        ),
        panel(
            "table", "Against the last study of the same name and work",
            "Throughput of a finished study over that of the finished study that had its name before, row by row; 0.95"
            " and less raises an alert. Needs the chart's recording rules.",
            [query(f"sort({before})", table=True)], width=12, decimals=3, custom={"filterable": True},
            shape=(hidden(order=(*CELL, "load"), called={"Value": "Ratio"}),),
            columns={"Ratio": {"custom.cellOptions": {"type": "color-text"}}},
            colours=((None, RED), (0.95, GREY), (1.05, GREEN)),
            none="No study has had a predecessor of the same name and work, or the rules are not installed.",
        ),
    ]  # fmt: skip


def _failures() -> list[build.Panel]:
    cells = most("quantbench_benchmark_cells", (*STUDY, "verdict"), where=HERE)
    bad = most("quantbench_benchmark_cells", (*STUDY, "verdict"), BAD, where=HERE)
    findings = most("quantbench_benchmark_findings", (*STUDY, "kind"), where=HERE)
    return [
        panel(
            "bargauge", "Cells by verdict", "How variants on targets ended, over all studies.",
            [query(f"sum by (verdict) ({cells})", "{{verdict}}", now=True)], width=8, decimals=0, least=0,
            options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}},
        ),
        panel(
            "bargauge", "Findings by kind", "What the data say, over all studies. Mismatch and Throttled deserve a"
            " look before figures are used.",
            [query(f"sum by (kind) ({findings})", "{{kind}}", now=True)], width=8, decimals=0, least=0,
            options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}},
        ),
        panel(
            "table", "Studies with cells without figures",
            "How many variants on targets of a study ended in a verdict without figures; a click on the name opens the"
            " study, which names them.",
            [query(f"{bad} > 0", table=True)], width=8, decimals=0, custom={"filterable": True},
            shape=(hidden(order=(*STUDY, "verdict"), called={"Value": "Cells"}),), columns=OPEN, none="None.",
        ),
    ]  # fmt: skip
