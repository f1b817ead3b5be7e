"""Where a study comes from: a cluster, an export, or another tool's result files. All file reading of the views."""

import asyncio
import gzip
import json
import warnings
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from kubernetes.aio.config import ConfigException, list_kube_config_contexts
from pydantic import ValidationError

from quantbench.exports import ExportError, Study, from_document, merged
from quantbench.exports.document import field_errors
from quantbench.exports.study import in_order
from quantbench.exports.vllm_bench import is_result, study_of_results
from quantbench.kube import ApiError, Kube
from quantbench.observe import read_benchmark, read_runs
from quantbench.resources import labels

MOST_BYTES = 1 << 30
"""Largest file that is read, unpacked: an export of the largest study is well below."""
MOST_FILES = 20_000
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the name of its own namespace."""


class NotFound(Exception):
    """There is no such object."""


@dataclass(frozen=True)
class Access:
    """Which cluster and namespace, as kubectl's flags of these names say it."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


def load_study(
    source: str,
    access: Access | None = None,
    baseline: str | None = None,
    *,
    with_runs: bool = True,
    as_it_stands: bool = False,
) -> Study:
    """The study of a source.

    Args:
        source: path of an export or of a folder or file of ``vllm bench`` results; several exports of one study may
            be joined by commas; anything else is the name of a QuantBenchmark in the cluster.
        access: which cluster.
        baseline: variant that others are compared with, for results that do not say.
        with_runs: whether the runs are needed, too: thousands of them take seconds, and the figures stand without.
        as_it_stands: of files: whether a study that has not ended is to be taken as if no run followed.

    Raises:
        ExportError: a file cannot be read as a study.
        NotFound: there is neither such a file nor such a benchmark.
        ApiError: the API server did not answer.
    """
    if is_path(source):
        paths = [Path(part) for part in source.split(",")]
        if len(paths) > 1 or as_it_stands:
            return load_paths(paths, baseline, as_they_stand=as_it_stands)
        return read_path(paths[0], baseline, with_runs=with_runs)
    return asyncio.run(_from_cluster(source, access or Access(), with_runs))


def is_path(source: str) -> bool:
    """Whether a source is meant as a file: object names hold no slash and do not end so, and files that exist win."""
    parts = source.split(",")
    return len(parts) > 1 or "/" in source or source.endswith((".json", ".json.gz")) or Path(source).exists()


def load_paths(paths: Sequence[Path], baseline: str | None = None, *, as_they_stand: bool = False) -> Study:
    """The study of several exports, or of one file or folder of results.

    Args:
        paths: of the exports.
        baseline: variant that others are compared with, for results that do not say.
        as_they_stand: whether studies that have not ended are to be taken as if no run followed.

    Raises:
        ExportError: one cannot be read, or they do not fit together.
    """
    return merged([read_path(path, baseline) for path in paths], as_they_stand=as_they_stand)


def read_path(path: Path, baseline: str | None = None, *, with_runs: bool = True) -> Study:
    """The study of an export, or of a file or folder of ``vllm bench`` results.

    Raises:
        ExportError: it cannot be read.
    """
    if path.is_dir():
        found = (file for form in ("*.json", "*.json.gz") for file in path.rglob(form))
        files = sorted(file for file in found if file.is_file())[: MOST_FILES + 1]
        if len(files) > MOST_FILES:
            raise ExportError(f"{path}: more than {MOST_FILES} files")
        documents = [(str(file.relative_to(path)), _json(file)) for file in files]
        results = [(name, document) for name, document in documents if is_result(document)]
        if not results:
            raise ExportError(f"{path}: no results of vllm bench serve among {len(files)} JSON files")
        return study_of_results(path.resolve().name, results, baseline)
    document = _json(path)
    try:
        if is_result(document):
            return study_of_results(path.stem, [(path.name, document)], baseline)
        return from_document(document, with_runs=with_runs)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if content[:2] == b"\x1f\x8b":
            content = gzip.GzipFile(fileobj=BytesIO(content)).read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ExportError(f"{path}: larger than {MOST_BYTES >> 20} MiB")
        return json.loads(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ExportError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: not JSON: {error}") from error


async def _from_cluster(name: str, access: Access, with_runs: bool) -> Study:
    async with connected(access) as (kube, namespace):
        return await study(kube, namespace, name, with_runs=with_runs)


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[tuple[Kube, str]]:
    """The cluster that the flags, $KUBECONFIG or ~/.kube/config name, and the namespace."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the client, about a missing file: the error says it better
            kube = await Kube.connect(kubeconfig=access.kubeconfig, context=access.context)
    except ConfigException as error:
        raise ApiError(0, "NoConfiguration", f"{error}: set KUBECONFIG or give --kubeconfig") from error
    try:
        yield kube, access.namespace or _namespace(access)
    finally:
        await kube.close()


def _namespace(access: Access) -> str:
    """The namespace of the context, as kubectl takes it."""
    try:
        contexts, active = list_kube_config_contexts(access.kubeconfig)
    except ConfigException:
        # In a pod, without a kubeconfig: its own, as kubectl does it.
        return SERVICE_ACCOUNT_NAMESPACE.read_text() if SERVICE_ACCOUNT_NAMESPACE.exists() else "default"
    chosen = next((one for one in contexts if one["name"] == access.context), active)
    return str((chosen.get("context") or {}).get("namespace") or "default")


async def study(kube: Kube, namespace: str, name: str, *, with_runs: bool = True) -> Study:
    """Read a benchmark and, if they are needed, its runs.

    Raises:
        NotFound: there is no such benchmark.
        ApiError: the API server did not answer.
        ExportError: the benchmark does not fit the models: it was written by another version.
    """
    raw = await kube.get("QuantBenchmark", namespace, name)
    if raw is None:
        raise NotFound(f"no QuantBenchmark {name!r} in namespace {namespace!r}")
    selector = f"{labels.BENCHMARK}={labels.short(name)}"
    found = await kube.list("QuantBenchmarkRun", namespace, selector) if with_runs else []
    runs, unreadable = read_runs(found, raw["metadata"]["uid"])
    try:
        benchmark = read_benchmark(raw)
    except ValidationError as error:
        raise ExportError(f"QuantBenchmark {name}: {field_errors(error)}") from error
    return Study(benchmark, in_order(runs), tuple(unreadable))


async def names(access: Access, seconds: float) -> list[str]:
    """Names of the benchmarks in the namespace; none where the cluster does not answer in time."""
    try:
        async with asyncio.timeout(seconds), connected(access) as (kube, namespace):
            return sorted(str(item["metadata"]["name"]) for item in await kube.list("QuantBenchmark", namespace))
    except (ApiError, TimeoutError):
        return []
