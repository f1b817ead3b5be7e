"""docs/published-study-h100.md: the published study beside our own runs, once there are exports of them."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from quantbench import __version__, stages, times
from quantbench.cli.published import read_conclusions
from quantbench.cli.read import read_path
from quantbench.exports import Study, merged
from quantbench.observe import Run
from quantbench.published import compare
from quantbench.published import markdown as comparison
from quantbench.report import build
from quantbench.report import to_markdown as report_markdown
from quantbench.report.evidence import READY, by_compilation
from reference.markdown import NOTICE, code, table

STUDY = "benchmarks/published/qwen3-8b.md"
SHIPPED = "benchmarks/studies/published-study-h100.yaml"
RESULTS = "benchmarks/results/published-study-h100"
_EXPORT = "QuantBenchmarkExport"

HEAD = """# The published study on an H100

{notice}

[The published study]({source}) measured Qwen3-8B in many quantizations on vLLM 0.9.2, each once. This project's
operator ran its H100 part again: {starts}.

!!! warning "The weights are random"
    The checkpoints have the true shape of Qwen3-8B and gaussian weights, really quantized in each scheme. Kernels,
    shapes, prompts, power and clocks are real, so that speeds hold; nothing is said about quality. The tokenizer is
    not Qwen's but one of the same vocabulary size, learned from text at hand: the same prompts have other numbers of
    tokens.

The next part is printed by a command, from the exports of the runs:

```console
quantbench audit {study} --against {exports} --as-it-stands
```

"""

FINDINGS = """
## What the operator says about its own figures

```console
quantbench report {exports} --as-it-stands --output report.md
```

The report of that command, with every figure, attestation and command line, is `{results}/report.md`. Its findings
allow for all comparisons of the study at once, and are stricter than the single intervals that they show:

"""

RUN = """
## How it was run

Every server had an H100 of its own, on one node, and {parallel} servers ran at a time; the cluster was the embedded
one, from its [bundle](air-gapped.md), on a machine without a network. `{results}/study.yaml`
holds the rows of `{study}`{without}, with checkpoints made
on the machine. GPU time came in sittings, and each measured a part of the rows and the baseline with them:

```console
{commands}
```

"""

CHECKPOINTS = "python3 benchmarks/checkpoints --shape qwen3-8b{schemes} --device cuda --out {folder}"
DATASET = "python3 benchmarks/datasets/sharegpt.py --input ShareGPT_V3_unfiltered_cleaned_split.json --out {path}"
CUT = (
    "quantbench cut -f {study} --variants {variants} --starts {starts}{control} --name {name}"
    " | kubectl apply -n {namespace} -f -"
)
EXPORT = "quantbench export {name} -n {namespace} --to {file}"


def exports(root: Path) -> list[Path]:
    """The exports of the runs, sitting by sitting; other JSON files beside them are none."""
    files = sorted((root / RESULTS).glob("*.json"))
    return [file for file in files if json.loads(file.read_bytes()).get("kind") == _EXPORT]


def text(root: Path) -> str:
    """The page; needs at least one export."""
    files = exports(root)
    conclusions = read_conclusions((root / STUDY).with_suffix(".yaml"))
    shown = ",".join(str(file.relative_to(root)) for file in files)
    sittings = [read_path(file) for file in files]
    study = _whole(sittings)
    found = compare((root / STUDY).read_text(), Path(STUDY).name, study, conclusions)
    runs = [run for run in study.runs if run.status.passes]
    said = "".join(f"- {finding.message}\n" for finding in study.benchmark.status.findings)
    parts = (
        HEAD.format(notice=NOTICE, source=conclusions.source, study=STUDY, exports=shown, starts=_number(runs)),
        comparison.to_markdown(found),
        FINDINGS.format(results=RESULTS, exports=shown) + said,
        _run(root, files, sittings),
        "\n".join((_counts(runs), _starts(runs), _use(sittings))),
    )
    return "".join(parts)


def report(root: Path) -> str:
    """The report of all sittings, as Markdown; needs at least one export."""
    return report_markdown(build(_whole([read_path(file) for file in exports(root)]), __version__))


def _whole(sittings: Sequence[Study]) -> Study:
    """All sittings as they stand: the clock ended some of them."""
    return merged(sittings, as_they_stand=True)


def _number(runs: Sequence[Run]) -> str:
    ended = sum(run.ended for run in runs)
    return f"{len(runs)} server starts so far" + (f", {ended} of them to their end" if ended < len(runs) else "")


def _run(root: Path, files: Sequence[Path], sittings: Sequence[Study]) -> str:
    """How to run it again: the commands with the names, variants and paths of the sittings."""
    specs = [sitting.benchmark.spec for sitting in sittings]
    folders = [Path(name) for spec in specs for name in (spec.model, *(v.model for v in spec.variants)) if name]
    made = dict.fromkeys(folder.name for folder in folders if folder.suffix != ".gguf")
    schemes = "".join(f" --scheme {name}" for name in made)
    dataset = specs[0].workload.dataset.share_gpt
    commands = [CHECKPOINTS.format(schemes=schemes, folder=folders[0].parent)]
    commands += [DATASET.format(path=dataset.path)] if dataset else []
    for file, sitting, spec in zip(files, sittings, specs, strict=True):
        name, namespace = sitting.benchmark.name, sitting.benchmark.namespace
        variants = ",".join(variant.name for variant in spec.variants if variant.name != spec.baseline)
        study = f"{RESULTS}/study.yaml"
        commands += [
            CUT.format(
                study=study,
                variants=variants,
                starts=spec.sampling.starts,
                control="" if spec.sampling.control else " --no-control",
                name=name,
                namespace=namespace,
            ),
            EXPORT.format(name=name, namespace=namespace, file=file.relative_to(root)),
        ]
    applied = _rows(root / RESULTS / "study.yaml")
    left_out = [code(name) for name in _rows(root / SHIPPED) if name not in applied]
    return RUN.format(
        parallel=max(spec.limits.parallelism for spec in specs),
        results=RESULTS,
        study=SHIPPED,
        without=f" without {', '.join(left_out)}" if left_out else "",
        commands="\n".join(commands),
    )


def _rows(study: Path) -> list[str]:
    return [variant["name"] for variant in yaml.safe_load(study.read_text())["spec"]["variants"]]


def _counts(runs: Sequence[Run]) -> str:
    """In how many valid passes client and server counted the same."""
    valid = [one for run in runs for one in run.status.passes if one.valid]
    same = [
        one
        for one in valid
        if one.server
        and (one.server.requests_succeeded, one.server.prompt_tokens, one.server.generation_tokens)
        == (one.completed, one.total_input_tokens, one.total_output_tokens)
    ]
    invalid = sum(not one.valid for run in runs for one in run.status.passes)
    cut_off = sum(one.valid for run in runs if not run.ended for one in run.status.passes)
    refused = "1 pass was" if invalid == 1 else f"{invalid or 'No'} passes were"
    said = f" {cut_off} of them are of starts that were cut off later." if cut_off else ""
    return (
        f"In {len(same)} of {len(valid)} valid passes the client counted the same requests, prompt tokens and output"
        f" tokens as vLLM's own counters.{said} {refused} invalid.\n"
    )


def _starts(runs: Sequence[Run]) -> str:
    """Seconds from the container's start until vLLM answered, with and without compiled code in the cache."""
    rows = []
    for variant in dict.fromkeys(run.spec.variant.name for run in runs):
        mine = [run for run in runs if run.spec.variant.name == variant]
        seconds = {word: _spread(list(map(READY, group))) for word, group in by_compilation(mine)}
        rows.append((code(variant), seconds.get("compiled", ""), seconds.get("from the cache", "")))
    header = ("variant", "code compiled", "code from the cache")
    return (
        "Seconds from the start of a server's container until it answered. All servers shared one compile cache, in"
        " which a later start of a configuration found its code. The control is the baseline's configuration: where"
        f" both started at once, both compiled.\n\n{table(header, rows)}\n"
    )


def _spread(seconds: Sequence[float | None]) -> str:
    known = sorted(value for value in seconds if value is not None)
    return " to ".join(dict.fromkeys(f"{value:.0f}" for value in (*known[:1], *known[-1:])))


def _use(sittings: Sequence[Study]) -> str:
    """How much of the servers' time went into loading and measuring, and how much of the GPUs' with the gaps."""
    shares: list[float] = []
    used = held = 0.0
    for sitting in sittings:
        gpus: dict[str, list[Run]] = {}
        for run in sitting.runs:
            attested, use = run.status.attestation, stages.usage(run)
            # Of a server that was refused the GPU may not be known: its time counts as a gap.
            if use and attested and attested.gpus:
                gpus.setdefault(str(attested.gpus[0].uuid), []).append(run)
                shares.append(use.share)
                used += use.loading + use.measuring
        for runs in gpus.values():
            first = min(run.status.times.server_created or "" for run in runs)
            held += times.seconds_between(first, max(run.status.times.released or "" for run in runs)) or 0.0
    return (
        f"{_percent(min(shares))} to {_percent(max(shares))} of the life of a server pod that was measured went into"
        f" loading the model and measuring, and {_percent(used / held)} of the time from a GPU's first server to the"
        " end of its last, gaps included.\n"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"
