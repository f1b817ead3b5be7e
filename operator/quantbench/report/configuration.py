"""What was asked for and what ran: arguments, environment, effective configuration, GPUs, and how to run it again."""

import shlex
from collections import Counter
from typing import Any

import yaml

from quantbench.api.base import JsonObject, Model
from quantbench.api.names import API_VERSION
from quantbench.api.run import Attestation, RunEngine
from quantbench.effective import effective
from quantbench.exports import Study
from quantbench.exports.secrets import REDACTED
from quantbench.observe import Run
from quantbench.report.document import Block, Code, Column, Entry, Paragraph, Table
from quantbench.report.evidence import cells_of
from quantbench.report.figures import NONE, significant

END_OF_YAML = "END_OF_STUDY"


def configuration(study: Study) -> tuple[Block, ...]:
    """What every variant was asked to run and what its servers said they ran."""
    ran, hardware, asked = [], [], []
    for (variant, target), runs in cells_of(study).items():
        ran.append((Entry(variant), Entry(target), *_effective(runs)))
        if runs:
            asked.append(Code(f"{variant} on {target}", _command(runs), "sh"))
        hardware.append((Entry(variant), Entry(target), *_hardware(runs)))
    if not ran:
        return ()
    names = ("variant", "target", "effective configuration", "fingerprint", "vLLM", "quantized layers", "KV cache")
    where = ("variant", "target", "GPUs of the servers", "UUIDs", "driver", "nodes")
    return (
        Paragraph(
            "Effective is what the servers' logs and metrics say. Equal fingerprints are one configuration; names and"
            " arguments that only ask for something are no part of it."
        ),
        Table("What ran", tuple(map(Column, names)), tuple(ran), wide=True),
        Table("Where it ran", tuple(map(Column, where)), tuple(hardware), wide=True),
        *_once(asked),
    )


def _once(asked: list[Code]) -> list[Code]:
    """Equal commands under one heading: on several targets most are."""
    titles: dict[str, list[str]] = {}
    for code in asked:
        titles.setdefault(code.text, []).append(code.title)
    return [Code("; ".join(of), text, "sh") for text, of in titles.items()]


def _effective(runs: list[Run]) -> tuple[Entry, ...]:
    words, fingerprint = effective(runs)
    attested = [run.status.attestation for run in runs if run.status.attestation]
    marks = dict.fromkeys(one.fingerprint for one in attested if one.fingerprint)
    last = attested[-1] if attested else Attestation()
    layers = NONE
    if last.quantized_layers is not None:
        rest = "" if last.unquantized_layers is None else f", {last.unquantized_layers} are not"
        layers = f"{last.quantized_layers} are{rest}"
    kernels = tuple(f"{one.layer}: {one.kernel}" for one in last.linear_kernels)
    tokens = NONE if last.kv_cache_tokens is None else f"{last.kv_cache_tokens:,} tokens"
    weights = () if last.weights_gibibytes is None else (f"{significant(last.weights_gibibytes)} GiB of weights",)
    versions = dict.fromkeys(one.engine_version for one in attested if one.engine_version)
    planned = dict.fromkeys(f"{run.spec.engine.version} (as planned)" for run in runs)
    differ = ("its starts differ",) if len(marks) > 1 and fingerprint is None else ()
    return (
        Entry(words or NONE, kernels),
        Entry(", ".join(marks) or NONE, differ, code=True),
        Entry(", ".join(versions or planned) or NONE),
        Entry(layers),
        Entry(tokens, weights),
    )


def _hardware(runs: list[Run]) -> tuple[Entry, ...]:
    attested = [run.status.attestation for run in runs if run.status.attestation]
    gpus = [gpu for one in attested for gpu in one.gpus]
    uuids = dict.fromkeys(gpu.uuid for gpu in gpus if gpu.uuid)
    drivers = dict.fromkeys(gpu.driver for gpu in gpus if gpu.driver)
    nodes = dict.fromkeys(run.status.server.node for run in runs if run.status.server and run.status.server.node)
    return (
        Entry("; ".join(_gpus(runs)) or NONE),
        Entry(", ".join(uuids) or NONE, code=bool(uuids)),
        Entry(", ".join(drivers) or NONE),
        Entry(", ".join(nodes) or NONE),
    )


def _gpus(runs: list[Run]) -> list[str]:
    """Each kind of server once."""
    kinds: dict[str, None] = {}
    for run in runs:
        attested = run.status.attestation
        if run.spec.target.gpus == 0:
            kinds["CPU"] = None
        elif attested and attested.gpus:
            for name, count in Counter(gpu.name for gpu in attested.gpus).items():
                kinds[f"{count} × {name}"] = None
    return list(kinds)


def hardware(study: Study) -> str:
    """GPUs of all servers, in short."""
    return "; ".join(_gpus(list(study.runs))) or "; ".join(
        dict.fromkeys(_wanted(target.to_json()) for target in study.benchmark.spec.targets)
    )


def _wanted(target: JsonObject) -> str:
    labels = ", ".join(str(value) for value in target.get("nodeSelector", {}).values())
    return f"{target['gpus']} × {labels or target['gpuResourceName']} (as asked for)" if target["gpus"] else "CPU"


def _command(runs: list[Run]) -> str:
    """The server's command, with its environment; that of the last start, and others where they differ."""
    return "\n\n".join(dict.fromkeys(_shell(run.spec.engine, run.spec.variant.notes) for run in runs))


def _shell(engine: RunEngine, notes: tuple[str, ...]) -> str:
    lines = [f"# {note}" for note in notes]
    lines.append(f"# image {engine.image}, vLLM {engine.version}, tokenizer {engine.tokenizer}")
    variables = [*engine.env, *engine.pod_template.env]
    for variable in (one.to_json() for one in variables):
        value = variable.get("value")
        lines.append(f"export {variable['name']}={shlex.quote(value)}" if value is not None else _referred(variable))
    arguments = [shlex.quote(argument) for argument in engine.args]
    return "\n".join([*lines, " \\\n  ".join([f"vllm serve {shlex.quote(engine.model)}", *arguments])])


def _referred(variable: JsonObject) -> str:
    return (
        f"# {variable['name']} comes from {yaml.safe_dump(variable.get('valueFrom'), default_flow_style=True).strip()}"
    )


# --- once more ---------------------------------------------------------------------------------------------------


def manifest(study: Study) -> str:
    """The study as YAML to apply: its specification with every default said, credentials left out."""
    spec = _brief(study.benchmark.spec)
    head = {"name": study.benchmark.name, "namespace": study.benchmark.namespace}
    document = {"apiVersion": API_VERSION, "kind": "QuantBenchmark", "metadata": head, "spec": spec}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110))


def _brief(value: Any) -> Any:
    """A part of the specification as JSON, without defaults that are empty; those that say something are said."""
    if isinstance(value, tuple | list):
        return [_brief(item) for item in value]
    if not isinstance(value, Model):
        return value
    said = value.to_json()
    for name, field in type(value).model_fields.items():
        key, item = field.alias or name, getattr(value, name)
        if key in said and isinstance(item, Model | tuple):
            said[key] = _brief(item)
        if key in said and said[key] in ([], {}) and item == field.get_default(call_default_factory=True):
            del said[key]
    return said


def once_more(study: Study) -> tuple[Block, ...]:
    """How to run the study again."""
    text = manifest(study)
    note = (
        "A study that is there already cannot be changed and is not measured again: delete it first, or give this one"
        " another name. Deleting a single run (kubectl delete qbr NAME) measures that one again."
    )
    if REDACTED in text:
        note += f" Values that look like credentials were left out: put them in where {REDACTED} stands."
    command = f"kubectl apply --filename - <<'{END_OF_YAML}'\n{text}{END_OF_YAML}\n"
    return Paragraph(note), Code("The study", command, "sh")
