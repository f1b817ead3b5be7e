"""The documentation promises nothing that is not there: YAML, commands, links, verdicts, the site."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft4Validator
from pydantic import ValidationError
from typer.exceptions import TyperException

from chart_support.chart import CHART, helm, helm_binary
from cluster import cli as cluster_cli
from cluster import install
from core_support.crd import root
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Difference, Verdict
from quantbench.api.rules import violations
from quantbench.api.schema import KINDS, QUANT_BENCHMARK
from quantbench.cli import app
from quantbench.plan import SpecInvalid, make_plan
from quantbench.published import Conclusions
from tests import documentation
from tests.documentation import HELM_VALUES, ROOT, Command, Document, JsonObject, Place

KUBERNETES_RESOURCES = frozenset(
    (
        *("configmap", "crd", "deployment", "deployments", "events", "job", "jobs", "lease", "leases", "namespace"),
        *("namespaces", "node", "nodes", "pod", "pods", "pvc", "resourcequota", "runtimeclass", "secret", "secrets"),
        *(name for kind in KINDS for name in (kind.plural, kind.kind.lower(), kind.short)),
    )
)
KUBECTL = ROOT / ".cluster" / "bin" / "kubectl"
TAKES_RESOURCES = frozenset({"get", "describe", "delete", "patch", "label"})
OTHER_PROGRAMS = frozenset({"cd", "curl", "docker", "export", "uv"})
"""Programs that are not ours and whose command lines nothing here can check."""


# --- YAML ----------------------------------------------------------------------------------------------------------


def closed(schema: Any) -> Any:
    """The schema as the API server with strict field validation takes it: what it does not name is refused."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: closed(value) for key, value in schema.items()}
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if named and not schema.get("x-kubernetes-preserve-unknown-fields"):
        copy["additionalProperties"] = False
    return copy


def study_errors(study: JsonObject) -> list[str]:
    """What the CRD's schema, the models and the planner have against a study."""
    schema = root(QUANT_BENCHMARK)
    spec = closed(schema)["properties"]["spec"]
    errors = [
        f"schema: {error.json_path}: {error.message}" for error in Draft4Validator(spec).iter_errors(study["spec"])
    ]
    unknown = set(study) - {"apiVersion", "kind", "metadata", "spec"}
    errors += [f"no such field: {name}" for name in sorted(unknown)]
    if errors:
        return errors
    try:
        asked = QuantBenchmarkSpec.model_validate(study["spec"])
        if broken := violations(asked):
            return [f"rule: {path}: {message}" for path, message in broken]
        make_plan(study["metadata"]["name"], "0" * 36, asked)
    except (ValidationError, SpecInvalid) as error:
        return [f"plan: {error}"]
    return []


@pytest.mark.parametrize("study", [pytest.param(study, id=str(shown)) for shown, study in documentation.studies()])
def test_every_study_shown_is_one_that_the_operator_takes(study: JsonObject) -> None:
    assert study_errors(study) == []


def test_studies_are_looked_at() -> None:
    assert len(documentation.studies()) > 15


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"engin": {}}, "'engin' was unexpected"),
        ({"engine": {"podTemplate": {"hostNetwork": True}}}, "'hostNetwork' was unexpected"),
        ({"engine": {"podTemplate": {"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]}}}, "'fieldRef'"),
        ({"variants": [{"name": "bf16", "method": "BF17"}]}, "'BF17' is not one of"),
        ({"baseline": "fp16"}, "baseline must be the name of one of the variants"),
        ({"limits": {"startTimeout": "five minutes"}}, "does not match"),
        ({"engine": {"image": "registry.example/vllm@sha256:" + "0" * 64}}, "spec.engine.version"),
        ({"engine": {"args": ["--port=80"]}}, "spec.engine.args[0]"),
    ],
)
def test_a_wrong_study_would_be_noticed(change: JsonObject, error: str) -> None:
    wrong = documentation.merged(documentation.FIRST_STUDY, {"spec": change})
    assert error in "; ".join(study_errors(wrong))


@pytest.mark.parametrize("document", documentation.others(), ids=str)
def test_other_objects_are_whole(document: Document) -> None:
    assert isinstance(document.content.get("apiVersion"), str), "neither an object, nor `spec:`, nor values.yaml"
    assert isinstance(document.content.get("kind"), str)
    assert document.content["metadata"]["name"]


@pytest.mark.parametrize("document", [each for each in documentation.documents() if each.title == HELM_VALUES], ids=str)
def test_chart_values_are_those_of_the_chart(document: Document, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(document.content))
    done = helm("template", "quantbench", str(CHART), "--values", str(file))
    assert done.returncode == 0, done.stderr


def test_conclusions_are_those_that_the_audit_reads() -> None:
    shown = [each for each in documentation.documents() if each.title == documentation.CONCLUSIONS]
    assert [len(Conclusions.model_validate(each.content).conclusions) for each in shown] == [1]


def test_every_yaml_of_the_chart_values_kind_is_found() -> None:
    assert len([each for each in documentation.documents() if each.title == HELM_VALUES]) >= 2


# --- commands ------------------------------------------------------------------------------------------------------


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def quantbench_error(words: tuple[str, ...], *, mentioned: bool) -> str | None:
    """What the command line itself has against these arguments."""
    group: Any = typer.main.get_command(app)  # typer brings click along as its own module, whose classes are not public
    if words[0].startswith("-"):  # Not parsed: these options act at once, --install-completion among them.
        return None if any(words[0] in option.opts for option in group.params) else f"no option {words[0]}"
    try:
        with group.make_context("quantbench", [words[0]]) as context:
            name, command, rest = group.resolve_command(context, list(words))
            command.make_context(name, rest, parent=context)
    except TyperException as error:
        if mentioned and type(error).__name__ == "MissingParameter":
            return None
        return error.format_message()
    return None


def kubectl_error(words: tuple[str, ...]) -> str | None:
    """What kubectl has against its arguments; it parses them before it shows its help."""
    if "--" in words:
        inner = words[words.index("--") + 1 :]
        words = words[: words.index("--")]
        if error := command_error(Command(Place("", 0), inner)):
            return error
    verb, *rest = [word for word in words if not word.startswith("-")]
    if verb == "quantbench":  # The plugin.
        return quantbench_error(tuple(rest), mentioned=True) if rest else None
    if verb in TAKES_RESOURCES and rest and "--filename" not in words:
        unknown = [name for name in rest[0].split(",") if name.split("/")[0] not in KUBERNETES_RESOURCES]
        if unknown:
            return f"no resource {unknown[0]}"
    if not KUBECTL.exists():
        return None
    done = subprocess.run(
        [KUBECTL, *words, "--help"], capture_output=True, text=True, check=False, env={"KUBECONFIG": os.devnull}
    )
    # Of a verb that it does not know kubectl shows the help of what stands above it, with exit status 0.
    if done.returncode or "Basic Commands (Beginner)" in done.stdout or " SUBCOMMAND [options]" in done.stdout:
        return done.stderr.strip() or f"no verb {verb}"
    return None


def helm_error(words: tuple[str, ...]) -> str | None:
    """What helm has against its arguments, and the chart against the values among them."""
    parsed = helm(*words, "--help")
    if parsed.returncode or f"helm {words[0]}" not in parsed.stdout:
        return parsed.stderr.strip() or f"no verb {words[0]}"
    settings = [word for flag, word in itertools.pairwise(words) if flag.startswith("--set")]
    if not settings:
        return None
    done = helm("template", "quantbench", str(CHART), *(f"--set={setting}" for setting in settings))
    return done.stderr.strip() if done.returncode else None


def python_error(words: tuple[str, ...]) -> str | None:
    """Whether a module or script is there, and whether the cluster's command lines take the arguments."""
    if parser := {"cluster": cluster_cli._parser, "install.py": install._parser}.get(words[0]):
        try:
            parser().parse_args(words[1:])
        except SystemExit as error:
            return f"{words[0]} refuses it" if error.code else None
        return None
    where = words[1].replace(".", "/") if words[0] == "-m" else words[0]
    return None if (ROOT / where).exists() else f"no {where}"


def command_error(command: Command) -> str | None:
    """Why a command line cannot work; None where nothing speaks against it."""
    program, *rest = command.words
    words = tuple(rest)
    if program == "uv" and words[0] == "run":
        return command_error(Command(command.place, words[1:], command.mentioned))
    match Path(program).name:
        case "make":
            unknown = [word for word in words if word not in make_targets() and "=" not in word]
            return f"no target {unknown[0]}" if unknown else None
        case "quantbench":
            return quantbench_error(words, mentioned=command.mentioned)
        case "kubectl":
            return kubectl_error(words)
        case "helm":
            return helm_error(words)
        case "python" | "python3":
            return python_error(words)
        case name if name in OTHER_PROGRAMS:
            return None
    # FOO=bar make test
    if re.fullmatch(r"[A-Z_]+=\S*", program) and words:
        return command_error(Command(command.place, words, command.mentioned))
    return f"no program {program} that is known here"


@pytest.mark.parametrize("command", documentation.commands(), ids=str)
def test_every_command_shown_exists(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if Path(command.words[0]).name == "helm" and not helm_binary():
        pytest.skip("no helm")
    assert command_error(command) is None, command


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("quantbench guess NAME", "No such command"),
        ("quantbench watch", "Missing"),
        ("quantbench --install-everything", "no option"),
        ("kubectl quantbench guess", "No such command"),
        ("quantbench results NAME --colour red", "No such option"),
        ("make coffee", "no target coffee"),
        ("kubectl get qbx", "no resource qbx"),
        ("kubectl exec deploy/quantbench-operator -- quantbench guess NAME", "No such command"),
        ("python3 cluster sideways", "refuses"),
        ("uv run python -m benchmarks.nothing", "no benchmarks/nothing"),
        ("frobnicate", "no program"),
    ],
)
def test_a_wrong_command_would_be_noticed(line: str, error: str) -> None:
    assert error in (command_error(Command(Place("", 0), tuple(line.split()))) or "")


@pytest.mark.parametrize(
    "line",
    [
        "helm install quantbench charts/quantbench --set image.repositry=x",
        "helm instal quantbench charts/quantbench",
        "helm install quantbench charts/quantbench --create-namespaces",
        "kubectl instal pods",
        "kubectl rollout state deployment/quantbench-operator",
        "kubectl get pods --colour",
    ],
)
def test_a_wrong_helm_or_kubectl_command_would_be_noticed(line: str) -> None:
    if not helm_binary() or not KUBECTL.exists():
        pytest.skip("no helm or kubectl: `python3 cluster binaries`")
    assert command_error(Command(Place("", 0), tuple(line.split())))


# --- links ---------------------------------------------------------------------------------------------------------


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and Python-Markdown make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower()) for text in plain}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in slugs(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", documentation.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here\n\n[a](page.md#here) [b](page.md#there) [c](nowhere.md) [d](https://example.com)\n")
    assert broken_links(page) == ["page.md#there", "nowhere.md"]


# --- completeness --------------------------------------------------------------------------------------------------


def test_every_verdict_has_a_section() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [verdict.value for verdict in Verdict]


def test_every_word_about_a_difference_is_explained() -> None:
    page = (ROOT / "docs" / "figures.md").read_text()
    assert [word.value for word in Difference if f"`{word.value}`" not in page] == []


# --- the site ------------------------------------------------------------------------------------------------------


def build(configuration: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """`mkdocs build --strict`; not quietly, for then warnings do not count."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--config-file={configuration}", f"--site-dir={site}"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_broken_site_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "docs" / "index.md").write_text("# Here\n\n[a](index.md#there) [b](nowhere.md)\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert "'#there'" in done.stderr or "index.md#there" in done.stderr
    assert "nowhere.md" in done.stderr


def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    done = build(ROOT / "mkdocs.yml", tmp_path)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 15
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//|<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]+//"
    )
    assert [page.name for page in pages if fetched.search(page.read_text())] == []
    # A page is called what its heading says, in the navigation, too.
    named = re.compile(r"(?s)<title>(.*?)( - QuantBenchmark)?</title>.*?<h1[^>]*>(.*?)(<a |</h1>)")
    names = {page.name: found.group(1, 3) for page in pages if (found := named.search(page.read_text()))}
    assert len(names) > 15
    assert [name for name, both in names.items() if both[0] != both[1]] == ["404.html"]
