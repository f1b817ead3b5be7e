"""What the documentation shows is taken by a real API server: schemas, CEL rules, defaults, Kubernetes' own kinds."""

import copy

import pytest
import yaml

from harness.api import Api, JsonObject, Refused, path_of
from harness.study import Space
from tests import documentation

NOT_INSTALLED = frozenset({"kueue.x-k8s.io"})
"""API groups that the docs show and the tests' API server does not have."""
STUDIES = sorted((documentation.ROOT / "benchmarks" / "studies").glob("*.yaml"))
SHIPPED = [
    pytest.param(study, id=f"{file.name}-{place}")
    for file in STUDIES
    for place, study in enumerate(yaml.safe_load_all(file.read_text()))
]
SHOWN = [pytest.param(study, id=str(document)) for document, study in documentation.studies()] + [
    pytest.param(document.content, id=str(document))
    for document in documentation.others()
    if document.content["apiVersion"].split("/")[0] not in NOT_INSTALLED
]


async def try_out(api: Api, space: Space, manifest: JsonObject) -> None:
    """Create it without keeping it, unknown fields refused."""
    placed = copy.deepcopy(manifest)
    placed["metadata"]["namespace"] = space.name
    if placed["kind"] in ("PriorityClass", "Namespace"):
        del placed["metadata"]["namespace"]
    path = path_of(placed["kind"], placed["metadata"].get("namespace"), None)
    await api.call("POST", path, placed, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("manifest", SHOWN + SHIPPED)
async def test_the_api_server_takes_what_is_shown(api: Api, module_space: Space, manifest: JsonObject) -> None:
    await try_out(api, module_space, manifest)


@pytest.mark.parametrize(
    "change",
    [{"engine": {"podTemplate": {"hostNetwork": True}}}, {"baseline": "fp16"}],
    ids=["unknown field", "rule"],
)
async def test_a_wrong_study_would_be_noticed(api: Api, module_space: Space, change: JsonObject) -> None:
    with pytest.raises(Refused):
        await try_out(api, module_space, documentation.merged(documentation.FIRST_STUDY, {"spec": change}))
