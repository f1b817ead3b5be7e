"""The whole comparison: a published text, its conclusions, and a measured study."""

from collections.abc import Sequence

from quantbench.audit.context import ends_at_eos, stated_version
from quantbench.audit.rules import read
from quantbench.exports.study import ExportError, Study
from quantbench.published.claims import Conclusions
from quantbench.published.document import Comparison, Table
from quantbench.published.judge import judge
from quantbench.published.matching import all_at_once, gpu_of, target_of
from quantbench.published.measured import Measured
from quantbench.published.rows import Published, table_of


def compare(
    text: str, source: str, study: Study, conclusions: Conclusions | None = None, baseline: str | None = None
) -> Comparison:
    """Put a published study beside a measured one.

    Args:
        text: the published file.
        source: its name.
        study: what was measured; needs its runs.
        conclusions: what the published study concludes; None: only its tables are compared.
        baseline: name of the published baseline, where the names do not tell.

    Raises:
        quantbench.audit.document.Unreadable: the text holds no table with figures.
        ExportError: nothing in it can be compared with this study.
    """
    document, published = read(text, source, baseline)
    version = stated_version(document)
    spec = study.benchmark.spec
    like = all_at_once(spec.loads)
    known = Published(version, ends_at_eos(document))
    targets = {target.name: Measured(study, target) for target in spec.targets}
    tables: list[Table] = []
    left_out: list[str] = []
    for table in published:
        gpu = gpu_of(table, published)
        target = target_of(gpu, study)
        if target is None:
            left_out.append(f"{table.title}: {_whose(gpu)}")
        elif not table.baselines:
            left_out.append(f"{table.title}: no baseline among its rows")
        else:
            tables.append(table_of(table, targets[target.name], like, known))
    if not tables:
        raise ExportError(f"{source}: nothing to compare with {study.benchmark.name}: {'; '.join(left_out)}")
    return Comparison(
        source=source,
        study=study.benchmark.name,
        model=spec.model,
        published_version=str(version) if version else None,
        measured_versions=tuple(study.engine_versions()),
        like_published=like.name if like else None,
        tables=tuple(tables),
        left_out=tuple(left_out),
        conclusions=tuple(judge(one, _measured(tables, targets)) for one in conclusions.conclusions)
        if conclusions
        else (),
    )


def _measured(tables: Sequence[Table], targets: dict[str, Measured]) -> list[Measured]:
    """The targets that the study is about, each once."""
    return [targets[name] for name in dict.fromkeys(table.target for table in tables)]


def _whose(gpu: frozenset[str]) -> str:
    return f"no target has the GPU {', '.join(sorted(gpu))}" if gpu else "it does not say which GPU"
