"""The operator's own health."""

from grafana_foundation_sdk.builders import dashboard as build

from dashboards.parts import AMBER, GREEN, GREY, RED, frame, lines, query, stat, text, variable

HERE = 'job=~"$job"'
RATE = "[$__rate_interval]"
WHO = "{{pod}} {{instance}}"


def dashboard() -> str:
    """The dashboard as JSON."""
    built = frame(
        "quantbench-operator", "QuantBenchmark / Operator",
        "Is the operator alive, does it keep up, and how does the API server answer it?", since="now-3h",
    )  # fmt: skip
    built = built.with_variable(variable("job", "Job", "label_values(quantbench_leader, job)", several=True))
    for one in (*_figures(), *_work(), *_calls()):
        built = built.with_panel(one)
    return text(built)


def _figures() -> list[build.Panel]:
    return [
        stat(
            "Leaders", "Exactly one per installation. None: no study makes progress. See runbook NoLeader.",
            f"sum(quantbench_leader{{{HERE}}})", width=6, decimals=0, colours=((None, RED), (1.0, GREEN)),
        ),
        stat(
            "Last listing", "The leader lists everything once a minute; four in a row that fail end it.",
            f"max(quantbench_resync_age_seconds{{{HERE}}} and quantbench_leader{{{HERE}}} == 1)",
            width=6, unit="s", decimals=0, colours=((None, GREEN), (120.0, AMBER), (240.0, RED)),
        ),
        stat(
            "Objects waiting", "Due objects without a worker. It should be back at 0 within seconds; else raise"
            " `workers` in the chart, or look at how fast the API server answers.",
            f"sum(quantbench_workqueue_depth{{{HERE}}})", width=6, decimals=0, colours=((None, GREY), (50.0, AMBER)),
        ),
        stat(
            "Oldest waiting", "How long the first of them has waited.",
            f"max(quantbench_workqueue_oldest_seconds{{{HERE}}})", width=6, unit="s", decimals=1,
            colours=((None, GREEN), (30.0, AMBER), (120.0, RED)),
        ),
    ]  # fmt: skip


def _work() -> list[build.Panel]:
    buckets = f"sum by (le, kind) (rate(quantbench_reconcile_duration_seconds_bucket{{{HERE}}}{RATE}))"
    return [
        lines(
            "Time of one look", "Median and 99th percentile. A look is a few API calls: seconds mean"
            " a slow API server.",
            query(f"histogram_quantile(0.5, {buckets})", "median {{kind}}"),
            query(f"histogram_quantile(0.99, {buckets})", "99 % {{kind}}", ref="B"),
            unit="s", least=0,
        ),
        lines(
            "Looks per second, and those that failed", "Failed looks are taken again within 20 s; a steady rate of"
            " them is an object that the operator cannot deal with: its log names it.",
            query(f"sum by (kind) (rate(quantbench_reconcile_duration_seconds_count{{{HERE}}}{RATE}))", "{{kind}}"),
            query(
                f"sum by (kind) (rate(quantbench_reconcile_errors_total{{{HERE}}}{RATE}))", "{{kind}} failed", ref="B",
            ),
            unit="ops", least=0,
        ),
        lines(
            "Queue", "Objects that wait, per replica; a standby has none.",
            query(f"quantbench_workqueue_depth{{{HERE}}}", f"waiting {WHO}"), decimals=0, least=0,
        ),
        lines(
            "Age of the last listing", "A saw-tooth up to a minute on the leader. A straight line upwards on the leader"
            " is an operator that has gone blind.",
            query(f"quantbench_resync_age_seconds{{{HERE}}}", WHO), unit="s", least=0,
        ),
    ]  # fmt: skip


def _calls() -> list[build.Panel]:
    return [
        lines(
            "API requests by verb", "A study costs a few requests per change; nothing but lists and the Lease while"
            " all is at rest.",
            query(f"sum by (verb) (rate(quantbench_api_requests_total{{{HERE}}}{RATE}))", "{{verb}}"),
            unit="reqps", stacked=True, least=0,
        ),
        lines(
            "API requests by code", "0 is no answer. 409 now and then is two writers and harmless; 403 is a missing"
            " role or a quota; 429 and 5xx are an API server in trouble.",
            query(f"sum by (code) (rate(quantbench_api_requests_total{{{HERE}}}{RATE}))", "{{code}}"),
            unit="reqps", stacked=True, least=0,
        ),
        lines(
            "Memory", "Resident memory of the process. The chart's limit is 1 GiB.",
            query(f"process_resident_memory_bytes{{{HERE}}} and quantbench_leader{{{HERE}}}", WHO),
            unit="bytes", least=0,
        ),
        lines(
            "CPU", "Busy cores of the process.",
            query(f"rate(process_cpu_seconds_total{{{HERE}}}{RATE}) and quantbench_leader{{{HERE}}}", WHO),
            unit="suffix: cores", least=0,
        ),
    ]  # fmt: skip
