"""From the pydantic models to CustomResourceDefinitions: structural schemas as Kubernetes asks for them."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import GROUP, VERSION
from quantbench.api.run import QuantBenchmarkRunSpec, QuantBenchmarkRunStatus
from quantbench.api.status import QuantBenchmarkStatus

DROPPED = ("title", "$defs", "propertyNames")


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; ``wide`` shows it only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def to_json(self) -> JsonObject:
        """The entry of additionalPrinterColumns."""
        column: JsonObject = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.wide:
            column["priority"] = 1
        return column


@dataclass(frozen=True)
class Kind:
    """One custom resource: names, models and columns."""

    kind: str
    plural: str
    short: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Column, ...]
    about: str


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


AGE = Column("Age", ".metadata.creationTimestamp", "date")

QUANT_BENCHMARK = Kind(
    kind="QuantBenchmark",
    plural="quantbenchmarks",
    short="qb",
    spec=QuantBenchmarkSpec,
    status=QuantBenchmarkStatus,
    about="A study: which quantization of a model to serve with vLLM, on which GPU.",
    columns=(
        Column("Model", ".spec.model"),
        Column("Progress", ".status.progress"),
        Column("State", _condition("Progressing", "reason")),
        Column("Complete", _condition("Complete", "status")),
        Column("Summary", ".status.summary"),
        Column("GPU-Hours", ".status.gpuHours", "number", wide=True),
        Column("Accepted", _condition("Accepted", "status"), wide=True),
        Column("Comparable", _condition("Comparable", "reason"), wide=True),
        AGE,
    ),
)

QUANT_BENCHMARK_RUN = Kind(
    kind="QuantBenchmarkRun",
    plural="quantbenchmarkruns",
    short="qbr",
    spec=QuantBenchmarkRunSpec,
    status=QuantBenchmarkRunStatus,
    about="One server start of one variant on one target. Written by the operator.",
    columns=(
        Column("Variant", ".spec.variant.name"),
        Column("Target", ".spec.target.name"),
        Column("Block", ".spec.block", "integer"),
        Column("Stage", _condition("Complete", "reason")),
        Column("Verdict", ".status.verdict.name"),
        Column("Tok/s", ".status.headline.totalTokensPerSecond", "number"),
        Column("TTFT ms", ".status.headline.meanTTFTMilliseconds", "number"),
        Column("TPOT ms", ".status.headline.meanTPOTMilliseconds", "number"),
        Column("Node", ".status.server.node", wide=True),
        Column("Attempt", ".status.attempt", "integer", wide=True),
        Column("Reason", ".status.verdict.message", wide=True),
        AGE,
    ),
)

KINDS = (QUANT_BENCHMARK, QUANT_BENCHMARK_RUN)


def _inline(node: Any, definitions: JsonObject) -> Any:
    """Resolve ``$ref``, drop what structural schemas refuse, and turn `X or null` into an optional X."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return _inline({**target, **siblings}, definitions)
    if node.get("x-kubernetes-int-or-string"):
        return _int_or_string(node)
    alternatives = [option for option in node.get("anyOf", []) if option != {"type": "null"}]
    if len(alternatives) == 1:
        siblings = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _inline({**alternatives[0], **siblings}, definitions)
    return _cleaned(node, definitions)


def _int_or_string(node: JsonObject) -> JsonObject:
    kept = ("description", "pattern", "maxLength", "minimum", "default", "x-kubernetes-int-or-string")
    return {key: node[key] for key in kept if key in node} | {"anyOf": [{"type": "integer"}, {"type": "string"}]}


def _property(schema: JsonObject, definitions: JsonObject, required: bool) -> Any:
    inlined = _inline(schema, definitions)
    if "$ref" in schema and not required and inlined.get("type") == "object":
        # The API server fills in the defaults of an object only where the object itself has one.
        inlined.setdefault("default", {})
    return inlined


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _without_defaults(schema: Any) -> Any:
    """A status says what was observed; the API server must not fill in anything."""
    if isinstance(schema, dict):
        return {key: _without_defaults(value) for key, value in schema.items() if key != "default"}
    if isinstance(schema, list):
        return [_without_defaults(item) for item in schema]
    return schema


def _cleaned(node: JsonObject, definitions: JsonObject) -> JsonObject:
    cleaned: JsonObject = {}
    for key, value in node.items():
        if key in DROPPED or (key == "additionalProperties" and value is False):
            continue
        if key == "properties":
            required = node.get("required", [])
            cleaned[key] = {name: _property(schema, definitions, name in required) for name, schema in value.items()}
        elif key == "default":
            if value is not None:
                cleaned[key] = _without_nulls(value)
        elif key in ("exclusiveMinimum", "exclusiveMaximum"):
            # OpenAPI v3.0, which Kubernetes uses, has these as switches beside the bound.
            cleaned["minimum" if key == "exclusiveMinimum" else "maximum"] = value
            cleaned[key] = True
        elif key in ("required", "enum") or key.startswith("x-kubernetes-"):
            cleaned[key] = value
        else:
            cleaned[key] = _inline(value, definitions)
    if cleaned.get("x-kubernetes-preserve-unknown-fields"):
        cleaned.pop("additionalProperties", None)
    if "enum" in cleaned:
        cleaned.setdefault("type", "string")
    return cleaned


def openapi(model: type[BaseModel]) -> JsonObject:
    """The structural OpenAPI v3 schema of a model, defaults included."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    inlined: JsonObject = _inline(schema, schema.get("$defs", {}))
    return inlined


def custom_resource_definition(kind: Kind) -> JsonObject:
    """The CRD of a kind, with the status subresource."""
    schema = {
        "type": "object",
        "description": kind.about,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": openapi(kind.spec),
            "status": _without_defaults(openapi(kind.status)),
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.to_json() for column in kind.columns],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["quantbench"],
            },
            "versions": [version],
        },
    }
