"""A study → what its report says."""

from collections.abc import Sequence

from quantbench import times
from quantbench.answer import place
from quantbench.api.base import JsonObject
from quantbench.api.conditions import ConditionType
from quantbench.api.status import Crossover
from quantbench.exports import Study
from quantbench.exports.secrets import shareable
from quantbench.report import configuration, evidence, figures, plots
from quantbench.report.document import Block, Column, Entry, Paragraph, Report, Section, Table


def build(study: Study, version: str) -> Report:
    """The report of a study, finished or not.

    Args:
        study: what to report.
        version: of the program that writes it.
    """
    study = shareable(study)
    benchmark = study.benchmark
    state, done = _state(study)
    return Report(
        title=benchmark.name,
        subtitle=f"Which quantization of {benchmark.spec.model} to serve with vLLM",
        state=state,
        done=done,
        answer=_answer(study),
        facts=tuple((label, value) for label, value in _facts(study) if value),
        sections=tuple(section for section in _sections(study) if section.blocks),
        colophon=(
            f"Written by quantbench {version} from {len(study.runs)} runs of"
            f" {benchmark.namespace}/{benchmark.name} (plan {benchmark.status.plan_hash or 'unknown'})."
        ),
    )


def _state(study: Study) -> tuple[str, bool]:
    if study.refused:
        return "not accepted", True
    progress = study.benchmark.status.progress
    if study.cut_off:
        return study.condition(ConditionType.COMPLETE)[2], True
    if study.ended:
        return f"finished, {progress} runs" if progress else "finished", True
    return f"under way, {progress or '0'} runs", False


def _answer(study: Study) -> str:
    """The summary of the status, or why there is none."""
    if study.refused:
        return f"The study was not accepted: {study.condition(ConditionType.ACCEPTED)[2]}"
    said = study.benchmark.status.summary
    if study.measured:
        return said or "There are figures, and no summary of them."
    ends = [cell for cell in study.benchmark.status.cells if cell.verdict]
    if said or not ends:
        return said or "Nothing is measured yet."
    return f"Nothing could be measured: {'; '.join(sorted({str(cell.verdict) for cell in ends}))}."


def _facts(study: Study) -> list[tuple[str, str]]:
    benchmark = study.benchmark
    spec, status = benchmark.spec, benchmark.status
    versions = ", ".join(study.engine_versions()) if study.runs else ""
    least, most = spec.sampling.starts, spec.sampling.most_starts
    starts = str(least) if least == most else f"{least} to {most}"
    blocks = max((run.spec.block for run in study.runs), default=0)
    sittings = f", {blocks} blocks in several sittings" if blocks > most else ""
    sampling = f"{starts} starts{sittings}, {spec.sampling.repeats} repeats" + (
        ", with control" if spec.sampling.control else ", no control"
    )
    return [
        ("Model", spec.model),
        ("Baseline", spec.baseline),
        ("vLLM", versions or spec.engine.version or spec.engine.image),
        ("GPUs", "" if study.of_another_tool else configuration.hardware(study)),
        ("Requests", "" if study.of_another_tool else _workload(spec.workload.to_json())),
        ("Loads", "; ".join(_load(load.to_json()) for load in spec.loads)),
        ("Sampling", sampling),
        ("Measured", " to ".join(map(_moment, filter(None, (status.started_at, status.finished_at))))),
        ("GPU-hours", "" if status.gpu_hours is None else f"{status.gpu_hours:.2f}"),
    ]


def _moment(text: str) -> str:
    """To the minute, where it can be read."""
    return f"{times.parse(text):%Y-%m-%d %H:%M} UTC" if times.is_moment(text) else text


def _workload(fields: JsonObject) -> str:
    dataset = fields["dataset"]
    prompts = (
        f"ShareGPT ({dataset['shareGPT']['path']})"
        if "shareGPT" in dataset
        else f"random, {dataset['random']['inputLen']} in, {dataset['random']['outputLen']} out"
    )
    eos = "end of sequence ignored" if fields["ignoreEOS"] else "until end of sequence"
    return f"{fields['numPrompts']} × {prompts}, {eos}, temperature {fields['temperature']:g}, seed {fields['seed']}"


def _load(fields: JsonObject) -> str:
    parts = [] if str(fields["requestRate"]) == "inf" else [f"{fields['requestRate']} requests/s"]
    parts += [f"{fields['maxConcurrency']} in flight"] if "maxConcurrency" in fields else []
    parts += [f"{fields['numPrompts']} requests"] if "numPrompts" in fields else []
    parts = parts or ["all at once"]
    parts += [f"repeats {fields['repeats']}"] if "repeats" in fields else []
    return f"{fields['name']}: {', '.join(parts)}"


def _sections(study: Study) -> list[Section]:
    of = plots.measured(study)
    known = not study.of_another_tool
    return [
        Section("matrix", "Every variant against the baseline", figures.matrix(study)),
        Section("baseline", "How sure the differences are", plots.against_baseline(study, of)),
        Section("trade-off", "Throughput against latency", plots.trade_off(of)),
        Section(
            "loads",
            "From light load to heavy",
            (*plots.along_loads(of), *_crossovers(study.benchmark.status.crossovers)),
        ),
        Section("findings", "Findings", evidence.findings(study)),
        Section("failures", "Refused or failed", evidence.failures(study)),
        Section("duplicates", "Duplicates", evidence.duplicates(study)),
        Section("cold-starts", "Cold starts", (*plots.cold_starts(study), *evidence.cold_starts(study))),
        Section("figures", "Every figure", figures.everything(study)),
        Section("validity", "Validity", evidence.validity(study)),
        Section("configuration", "Configuration", configuration.configuration(study) if known else ()),
        Section("rerun", "Run it again", configuration.once_more(study) if known else ()),
    ]


def _crossovers(found: Sequence[Crossover]) -> tuple[Block, ...]:
    rows = tuple(
        (
            Entry(one.target),
            Entry(one.other),
            Entry(one.variant),
            Entry(place(one)),
            Entry(figures.NONE if one.low is None or one.high is None else f"{one.low:g} to {one.high:g}"),
        )
        for one in found
    )
    names = ("target", "faster below", "faster above", "at about", "95 % interval")
    note = "Where two variants are equally fast, interpolated between the loads around it."
    return (Paragraph(note), Table("Crossovers", tuple(map(Column, names)), rows)) if rows else ()
