"""What the dashboards are made of: selectors that bear several replicas, panels, variables.

Only the leader shows studies, but its pod changes with every upgrade, and for some minutes Prometheus may see both: so
every query takes the maximum over what tells replicas apart.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

CELL = ("variant", "target")
ROW = (*CELL, "load")
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, RED, AMBER, GREY, BLUE = "green", "red", "orange", "text", "blue"


def most(metric: str, by: Iterable[str], *more: str, where: Sequence[str] = ()) -> str:
    """One value per `by`, whatever replicas are scraped."""
    labels = ", ".join((*where, *more))
    return f"max by ({', '.join(by)}) ({metric}{{{labels}}})"


STATES: Mapping[str, tuple[str, str]] = {
    "0": ("Running", BLUE),
    "1": ("Complete", GREEN),
    "2": ("Suspended", AMBER),
    "3": ("Refused", RED),
}
"""What the value of `state` means."""


def state(of: Callable[[str], str]) -> str:
    """A study's state as one of `STATES`, from the metrics quantbench_benchmark_* that `of` asks for."""
    complete, accepted, suspended = of("complete"), of("accepted"), of("suspended")
    return f"{complete} + (1 - {complete}) * (3 * (1 - {accepted}) + 2 * {accepted} * {suspended})"


def query(
    expression: str, legend: str = "", *, ref: str = "A", table: bool = False, now: bool = False
) -> prometheus.Dataquery:
    """A query: of the moment for a table or where `now` says so, over the time range otherwise.

    Panels that show one value ask for no more than that: a week of a fleet is too much to read for it.
    """
    built = prometheus.Dataquery().datasource({"type": "prometheus", "uid": "${datasource}"})
    built = built.expr(expression).ref_id(ref).legend_format(legend or "__auto")
    if table:
        return built.format(PromQueryFormat.TABLE).instant()
    return built.instant() if now else built.range()


def panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    width: int,
    height: int = 8,
    unit: str = "none",
    decimals: int | None = None,
    none: str = "–",
    colours: Sequence[tuple[float | None, str]] = ((None, GREY),),
    words: Mapping[str, tuple[str, str]] | None = None,
    custom: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    shape: Sequence[tuple[str, Mapping[str, Any]]] = (),
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    least: float | None = None,
) -> build.Panel:
    """A panel. `shape` are transformations, `words` names for values, `columns` properties of single fields."""
    built = build.Panel().type(kind).title(title).description(description).datasource(SOURCE)
    built = built.span(width).height(height).targets(list(queries)).no_value(none).unit(unit)
    steps = [model.Threshold(value=value, color=colour) for value, colour in colours]
    built = built.thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
    scheme = model.FieldColorModeId.THRESHOLDS if len(colours) > 1 else model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME
    built = built.color_scheme(build.FieldColor().mode(scheme))
    if decimals is not None:
        built = built.decimals(decimals)
    if least is not None:
        built = built.min(least)
    if words:
        named = {value: model.ValueMappingResult(text=shown, color=colour) for value, (shown, colour) in words.items()}
        built = built.mappings([model.ValueMap(options=named)])
    for identity, settings in shape:
        built = built.with_transformation(model.DataTransformerConfig(id_val=identity, options=dict(settings)))
    for name, properties in (columns or {}).items():
        changed = [model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()]
        built = built.override_by_name(name, changed)
    return built.custom(dict(custom or {})).options(dict(options or {}))


def stat(title: str, description: str, expression: str, *, width: int = 4, **more: Any) -> build.Panel:
    """One large figure."""
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    return panel(
        "stat", title, description, [query(expression, now=True)], width=width, height=4, options=options, **more
    )


def lines(
    title: str, description: str, *queries: prometheus.Dataquery, width: int = 12, stacked: bool = False, **more: Any
) -> build.Panel:
    """Values over time."""
    custom: dict[str, Any] = {"lineWidth": 2, "fillOpacity": 20 if stacked else 5, "showPoints": "auto"}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    legend = {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel("timeseries", title, description, queries, width=width, custom=custom, options=options, **more)


def matrix(row: str, column: str, value: str = "Value") -> tuple[str, Mapping[str, Any]]:
    """A transformation: one line per `row`, one field per `column`."""
    return "groupingToMatrix", {"rowField": row, "columnField": column, "valueField": value, "emptyValue": "null"}


def hidden(*names: str, order: Sequence[str] = (), called: Mapping[str, str] | None = None) -> Any:
    """A transformation: leave fields out, order and rename the others."""
    return "organize", {
        "excludeByName": dict.fromkeys(("Time", *names), True),
        "indexByName": {name: place for place, name in enumerate(order)},
        "renameByName": dict(called or {}),
    }


def variable(name: str, label: str, values: str, *, several: bool = False) -> build.QueryVariable:
    """A choice filled by `label_values`."""
    asked: dict[str, object] = {"query": values, "refId": f"Variable-{name}"}
    built = build.QueryVariable(name).label(label).datasource(SOURCE).query(asked)
    built = built.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    return built.multi(True).include_all(True).all_value(".*") if several else built


def frame(uid: str, title: str, description: str, *, since: str) -> build.Dashboard:
    """An empty dashboard with a choice of the data source."""
    built = build.Dashboard(title).uid(uid).description(description).tags(["quantbench"]).readonly()
    source = build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    others = build.DashboardLink("QuantBenchmark").type(model.DashboardLinkType.DASHBOARDS).tags(["quantbench"])
    built = built.with_variable(source).link(others.as_dropdown(True).keep_time(True))
    return built.time(since, "now").refresh("1m").timezone("browser")


def text(dashboard: build.Dashboard) -> str:
    """The JSON that Grafana imports, with numbered panels."""
    built = dashboard.build()
    for number, one in enumerate(built.panels or [], start=1):
        one.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
