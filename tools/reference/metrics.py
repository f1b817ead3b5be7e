"""The metrics of the operator's /metrics."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric

from quantbench.api.benchmark import MAX_ROWS
from quantbench.metrics import Family, Health, State, operator_families, study_families
from quantbench.metrics.families import MAX_SERIES, OPERATOR_GAUGES, PER_CELL, PER_LOAD, PER_ROW, PER_STUDY
from reference.markdown import code, codes, page, table

ABOUT = """
Served at `/metrics` on the operator's HTTP port. Results and progress are read from the objects at scrape time: nothing
is stale after a deletion, and nothing is lost by a restart. Only the leader shows studies; while leadership changes
hands, two may: aggregate first, `max by (namespace, benchmark, variant, target, load) (…)`.
Times are in seconds, as Prometheus has it. `namespace` is the benchmark's: scrape with `honorLabels: true`.
"""
CEILING = f"""
## How many series

Labels take their values from the specification and from fixed lists; an info series carries what else there is to
say. One benchmark has at most {PER_ROW} series per row (variant × target × load), {PER_CELL} per cell (variant ×
target), {PER_LOAD} per load and {PER_STUDY} of its own. It has at most {MAX_ROWS} rows, and so never more than
{MAX_SERIES:,} series.
"""


def text() -> str:
    """The page."""
    header = ("Metric", "Type", "Labels", "Meaning")
    own = [_row(family) for family in operator_families(dict.fromkeys(OPERATOR_GAUGES, 0.0))]
    return page(
        "Metrics",
        ABOUT,
        "## Studies",
        table(header, [_row(family) for family in study_families(State())]),
        CEILING,
        "## Operator",
        table(header, [*own, *_counted()]),
        "Beside them stand the usual `process_*` metrics of a Prometheus client: CPU time, memory, open files.",
    )


def _row(family: Family) -> tuple[str, ...]:
    return code(family.name), family.type, codes(family.labels), family.about


def _counted() -> Iterator[tuple[str, ...]]:
    """What the process counts as it happens."""
    registry = CollectorRegistry()
    health = Health(registry)
    health.api_call("", "", 200)
    with health.reconciling(""):
        pass
    metrics: Iterable[Metric] = registry.collect()
    for metric in metrics:
        if not metric.name.startswith("quantbench_"):
            continue
        shown = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = [label for label in metric.samples[0].labels if label != "le"]
        yield code(shown), metric.type, codes(labels), metric.documentation
