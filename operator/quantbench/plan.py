"""A study → the runs it takes: which, in which blocks, in which order, under which names.

Pure and deterministic: the same benchmark always gives the same plan, whatever process asks.
"""

import hashlib
import json
from dataclasses import dataclass

from quantbench.api.base import MAX_SECONDS, seconds
from quantbench.api.benchmark import CONTROL, IMMUTABLE, Engine, QuantBenchmarkSpec, Target, Variant
from quantbench.api.run import QuantBenchmarkRunSpec, Refusal, RunEngine, RunLimits, RunLoadPlan, RunVariant
from quantbench.engine.flags import OWNED_ENV, common_env, common_flags, refused_arguments
from quantbench.engine.gpus import Contradiction, target_capability
from quantbench.engine.methods import EngineSettings, server_settings
from quantbench.engine.rows import Refusal as EngineRefusal
from quantbench.engine.version import OLDEST, EngineVersion, version_of_image
from quantbench.fates import CellFate, cell_fates, engine_request
from quantbench.resources.pods import OUR_VOLUMES, RESERVED_ENV, is_reserved
from quantbench.resources.server import PORT

LONGEST_AFFINITY = 16 * 1024


@dataclass(frozen=True)
class FieldError:
    """What is wrong with a field of the specification; ``path`` as kubectl prints it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SpecInvalid(Exception):
    """The specification cannot be planned; ``errors`` says which fields and why."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors


@dataclass(frozen=True)
class PlannedRun:
    """One server start: its stable name and its place."""

    name: str
    variant: str
    target: str
    block: int
    position: int
    refusal: Refusal | None
    notes: tuple[str, ...] = ()
    """What is known of its cell before it runs."""

    @property
    def cell(self) -> tuple[str, str]:
        """Variant and target: the runs of one cell differ in their block only."""
        return (self.variant, self.target)


@dataclass(frozen=True)
class Plan:
    """The runs of a study in the order in which they are started.

    Attributes:
        runs: blocks 1 to ``sampling.starts``, which are always run.
        further: the blocks after them, of which `quantbench.comparisons` chooses.
    """

    hash: str
    version: EngineVersion
    runs: tuple[PlannedRun, ...]
    further: tuple[PlannedRun, ...] = ()


def plan_hash(spec: QuantBenchmarkSpec) -> str:
    """Digest of everything that shapes the work; limits and suspend do not."""
    content = spec.to_json()
    return _digest({field: content[field] for field in IMMUTABLE})[:16]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def engine_version(engine: Engine) -> EngineVersion:
    """The vLLM version, as said or as read from the image's tag.

    Raises:
        SpecInvalid: it cannot be told, or is not supported.
    """
    try:
        version = EngineVersion.parse(engine.version) if engine.version else version_of_image(engine.image)
    except ValueError as error:
        raise SpecInvalid([FieldError("spec.engine.version", str(error))]) from error
    if version is None:
        hint = f"cannot tell vLLM's version from image {engine.image!r}: set spec.engine.version, e.g. 0.24.0"
        raise SpecInvalid([FieldError("spec.engine.version", hint)])
    if version < OLDEST:
        raise SpecInvalid(
            [FieldError("spec.engine.version", f"vLLM {version} is older than {OLDEST}, the oldest known")]
        )
    return version


def _settings(variant: Variant, target: Target, version: EngineVersion) -> EngineSettings | EngineRefusal:
    return server_settings(engine_request(variant, target), version)


def fates(spec: QuantBenchmarkSpec) -> list[CellFate]:
    """What becomes of every variant on every target, in the study's order, targets first.

    Raises:
        SpecInvalid: with the path of the field that is wrong.
    """
    version = engine_version(spec.engine)
    if errors := _target_errors(spec):
        raise SpecInvalid(errors)
    return list(cell_fates(measured_variants(spec), spec, version).values())


def make_plan(name: str, uid: str, spec: QuantBenchmarkSpec) -> Plan:
    """Plan a study. ``uid`` makes the names of a deleted and recreated benchmark differ.

    Raises:
        SpecInvalid: with the path of every field that is wrong.
    """
    version = engine_version(spec.engine)
    errors = _target_errors(spec)
    errors += _pod_template_errors(spec) if errors else [*_argument_errors(spec, version), *_pod_template_errors(spec)]
    if not any(variant.name == spec.baseline for variant in spec.variants):
        errors.append(FieldError("spec.baseline", f"{spec.baseline!r} is not among the variants"))
    if errors:
        raise SpecInvalid(errors)
    digest = plan_hash(spec)
    cells = cell_fates(measured_variants(spec), spec, version)
    runs: list[PlannedRun] = []
    for block in range(1, spec.sampling.most_starts + 1):
        for target in spec.targets:
            order = sorted(
                (variant.name for variant in measured_variants(spec)),
                key=lambda variant: _digest([digest, target.name, block, variant]),
            )
            for position, variant_name in enumerate(order, 1):
                cell = cells[variant_name, target.name]
                if cell.refusal and block > 1:
                    continue
                runs.append(
                    PlannedRun(
                        name=run_name(name, uid, variant_name, target.name, block),
                        variant=variant_name,
                        target=target.name,
                        block=block,
                        position=position,
                        refusal=_refusal(cell.refusal) if cell.refusal else None,
                        notes=cell.notes,
                    )
                )
    certain = sum(1 for run in runs if run.block <= spec.sampling.starts)
    return Plan(hash=digest, version=version, runs=tuple(runs[:certain]), further=tuple(runs[certain:]))


def measured_variants(spec: QuantBenchmarkSpec) -> tuple[Variant, ...]:
    """The variants of a study, with the repeated baseline where it is asked for."""
    if not spec.sampling.control:
        return spec.variants
    baseline = next(variant for variant in spec.variants if variant.name == spec.baseline)
    return (*spec.variants, baseline.model_copy(update={"name": CONTROL}))


def run_name(benchmark: str, uid: str, variant: str, target: str, block: int) -> str:
    """A stable name of at most 52 characters, so that its children's names fit into a label.

    The digest alone must keep the 13,200 runs of the largest study apart: 40 bits do, to one in ten thousand.
    """
    digest = _digest([uid, variant, target, block])[:10]
    return f"{f'{benchmark[:24]}-{variant}'[:41].rstrip('-.').replace('.', '-')}-{digest}"


def _refusal(refusal: EngineRefusal) -> Refusal:
    message = f"{refusal.message}; {refusal.hint}"
    return Refusal(verdict=refusal.verdict, reason=str(refusal.verdict), message=message[:1024])


def _target_errors(spec: QuantBenchmarkSpec) -> list[FieldError]:
    """Targets that do not say one compute capability, or say one where there is no GPU."""
    errors = []
    for place, target in enumerate(spec.targets):
        path = f"spec.targets[{place}]"
        if not target.gpus and target.compute_capability is not None:
            errors.append(FieldError(f"{path}.computeCapability", "gpus is 0: there is no GPU to have one"))
        try:
            target_capability(target.compute_capability, target.node_selector)
        except Contradiction as error:
            errors.append(FieldError(f"{path}.{error.path}", str(error)))
    return errors


def _argument_errors(spec: QuantBenchmarkSpec, version: EngineVersion) -> list[FieldError]:
    """What a variant's method lacks, and arguments that are the operator's or would override what the method sets."""
    errors: dict[str, FieldError] = {}
    for place, variant in enumerate(spec.variants):
        for target in spec.targets:
            settings = _settings(variant, target, version)
            if isinstance(settings, EngineRefusal):
                continue
            if settings.needs_tokenizer and not variant.tokenizer:
                field = f"spec.variants[{place}].tokenizer"
                errors[field] = FieldError(field, f"a {variant.method} checkpoint brings no tokenizer: say which one")
            for path, args in (("spec.engine.args", spec.engine.args), (f"spec.variants[{place}].args", variant.args)):
                for refused in refused_arguments(args, settings, variant.method):
                    field = f"{path}[{refused.index}]"
                    message = f"{args[refused.index]!r} is not for users: {refused.advice}"
                    errors.setdefault(field, FieldError(field, message))
    return list(errors.values())


def _pod_template_errors(spec: QuantBenchmarkSpec) -> list[FieldError]:
    template, errors = spec.engine.pod_template, []
    volumes = {volume.name for volume in template.volumes}
    for index, volume in enumerate(template.volumes):
        if volume.name.startswith(OUR_VOLUMES):
            message = f"names that begin with {OUR_VOLUMES} are the operator's"
            errors.append(FieldError(f"spec.engine.podTemplate.volumes[{index}].name", message))
    for index, variable in enumerate(template.env):
        path = f"spec.engine.podTemplate.env[{index}].name"
        if variable.name in RESERVED_ENV:
            errors.append(FieldError(path, f"{variable.name} is set by the operator"))
        elif variable.name in OWNED_ENV:
            errors.append(FieldError(path, f"{variable.name} is not for users: {OWNED_ENV[variable.name]}"))
    for index, mount in enumerate(template.volume_mounts):
        path = f"spec.engine.podTemplate.volumeMounts[{index}]"
        if mount.name not in volumes:
            errors.append(FieldError(f"{path}.name", f"no volume is called {mount.name!r}"))
        if is_reserved(mount.mount_path):
            errors.append(FieldError(f"{path}.mountPath", f"{mount.mount_path} is used by the operator"))
    if len(json.dumps(template.affinity)) > LONGEST_AFFINITY:
        # Its schema is open, so the API server cannot bound it, and every run holds a copy.
        message = f"longer than {LONGEST_AFFINITY} characters as JSON"
        errors.append(FieldError("spec.engine.podTemplate.affinity", message))
    return errors


def run_spec(name: str, spec: QuantBenchmarkSpec, plan: Plan, run: PlannedRun) -> QuantBenchmarkRunSpec:
    """The fully resolved specification of one planned run."""
    variant = next(v for v in measured_variants(spec) if v.name == run.variant)
    target = next(t for t in spec.targets if t.name == run.target)
    return QuantBenchmarkRunSpec(
        benchmark=name,
        variant=RunVariant(
            name=variant.name,
            method=variant.method,
            kernel=variant.kernel,
            kv_cache_dtype=variant.kv_cache_dtype,
            notes=run.notes,
        ),
        target=target,
        block=run.block,
        position=run.position,
        engine=_run_engine(spec, plan.version, variant, target),
        load=RunLoadPlan(workload=spec.workload, loads=spec.loads, repeats=spec.sampling.repeats),
        limits=run_limits(spec),
        refusal=run.refusal,
        suspend=spec.suspend,
    )


def run_limits(spec: QuantBenchmarkSpec, *, budget_spent: bool = False) -> RunLimits:
    """The study's limits as a run needs them."""
    return RunLimits(
        schedule_timeout_seconds=_bounded(spec.limits.schedule_timeout),
        start_timeout_seconds=_bounded(spec.limits.start_timeout),
        load_timeout_seconds=_bounded(spec.limits.load_timeout),
        retries=spec.limits.retries,
        budget_spent=budget_spent,
    )


def _bounded(duration: str) -> int:
    return min(max(1, seconds(duration)), MAX_SECONDS)


def _run_engine(spec: QuantBenchmarkSpec, version: EngineVersion, variant: Variant, target: Target) -> RunEngine:
    settings = _settings(variant, target, version)
    method_args = settings.args if isinstance(settings, EngineSettings) else ()
    method_env = settings.env if isinstance(settings, EngineSettings) else ()
    args = [
        f"--served-model-name={spec.model}",
        "--host=0.0.0.0",
        f"--port={PORT}",
        f"--max-num-seqs={spec.engine.max_num_seqs}",
        f"--max-num-batched-tokens={spec.engine.max_num_batched_tokens}",
        *([f"--tensor-parallel-size={target.gpus}"] if target.gpus > 1 else []),
        *common_flags(version),
        *method_args,
        *([f"--tokenizer={variant.tokenizer}"] if variant.tokenizer else []),
        *spec.engine.args,
        *variant.args,
    ]
    return RunEngine.model_validate(
        {
            "image": spec.engine.image,
            "imagePullPolicy": spec.engine.image_pull_policy,
            "version": str(version),
            "model": variant.model or spec.model,
            # The same tokenizer for all variants, or the sampler would pick other prompts.
            "tokenizer": spec.model,
            "args": args,
            "env": [{"name": key, "value": value} for key, value in dict([*common_env(version), *method_env]).items()],
            "podTemplate": spec.engine.pod_template,
        }
    )
