"""Every argument that a version gets is one that its parser knows (options as recorded from the wheels)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any, NoReturn

import pytest

from benchmarks.loadrunner.flags import bench_serve_arguments, percentile_text, sends_initial_request
from benchmarks.loadrunner.spec import Load, LoadSpec, Random, ShareGPT

RECORDED = json.loads((Path(__file__).parent / "loadrunner_support" / "bench_serve_options.json").read_text())

LOAD = Load("c16", 2.5, 16, 0.7, 160, 16, 1)
SPEC = LoadSpec(
    engine_version=(0, 32, 0),
    model="-odd",
    tokenizer="/models/qwen3-8b",
    dataset=ShareGPT("/data/share gpt.json"),
    ignore_eos=True,
    temperature=0.0,
    seed=7,
    percentiles=(50.0, 99.9),
    server_ready_timeout=60,
    loads=(LOAD,),
)


def options_by_version() -> dict[str, dict[str, str]]:
    result: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for version, change in RECORDED["versions"].items():
        current = {name: kind for name, kind in current.items() if name not in change["removed"]} | change["added"]
        result[version] = current
    return result


OPTIONS = options_by_version()


class Strict(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise AssertionError(message)


def parser(version: str) -> argparse.ArgumentParser:
    result = Strict(allow_abbrev=False)
    for name, kind in OPTIONS[version].items():
        if kind.startswith("flag"):
            result.add_argument(name, action="store_true")
        else:
            result.add_argument(name, required=kind.endswith("required"))
    return result


def release(version: str) -> tuple[int, int, int]:
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def arguments(version: str, spec: LoadSpec = SPEC, load: Load = LOAD, *, detailed: bool = False) -> list[str]:
    return bench_serve_arguments(
        spec,
        load,
        load.num_prompts,
        release(version),
        server="http://198.18.128.7:8000",
        result_dir="/tmp/x",
        result_filename="result.json",
        request_id_prefix="qb-1-",
        detailed=detailed,
    )


def parsed(version: str, **changes: Any) -> argparse.Namespace:
    return parser(version).parse_args(arguments(version, **changes))


def test_the_record_covers_the_supported_range() -> None:
    assert next(iter(OPTIONS)) == "0.9.2"
    assert list(OPTIONS)[-1] == "0.33.0"
    assert len(OPTIONS) >= 25


@pytest.mark.parametrize("version", OPTIONS)
def test_every_version_takes_its_arguments(version: str) -> None:
    args = parsed(version)
    chosen = args.endpoint_type if release(version) < (0, 11, 0) else args.backend
    assert chosen == "openai-chat"
    assert (args.endpoint, args.model, args.dataset_path) == (
        "/v1/chat/completions",
        "-odd",
        "/data/share gpt.json",
    )
    assert (args.num_prompts, args.seed, args.temperature) == ("160", "7", "0.0")
    assert (args.request_rate, args.burstiness, args.max_concurrency) == ("2.5", "0.7", "16")
    assert (args.percentile_metrics, args.metric_percentiles) == ("ttft,tpot,itl,e2el", "50,99.9")
    assert args.ignore_eos
    assert args.disable_tqdm
    assert args.save_result
    assert not args.save_detailed


@pytest.mark.parametrize("version", OPTIONS)
def test_random_data_without_a_bound(version: str) -> None:
    spec = dataclasses.replace(SPEC, dataset=Random(512, 128, 0.1), ignore_eos=False)
    load = dataclasses.replace(LOAD, request_rate=math.inf, max_concurrency=None)
    args = parsed(version, spec=spec, load=load, detailed=True)
    assert (args.dataset_name, args.dataset_path) == ("random", None)
    assert (args.random_input_len, args.random_output_len, args.random_range_ratio) == ("512", "128", "0.1")
    assert (args.request_rate, args.max_concurrency) == ("inf", None)
    assert not args.ignore_eos
    assert args.save_detailed


@pytest.mark.parametrize(
    ("version", "timeout", "prefix"),
    [
        ("0.9.2", None, None),
        ("0.10.0", None, None),
        ("0.10.1", "60", None),
        ("0.10.2", "60", "qb-1-"),
        ("0.11.0", "0", "qb-1-"),
        ("0.33.0", "0", "qb-1-"),
    ],
)
def test_ready_check_and_request_ids(version: str, timeout: str | None, prefix: str | None) -> None:
    args = vars(parsed(version))
    assert args.get("ready_check_timeout_sec") == timeout
    assert args.get("request_id_prefix") == prefix
    assert sends_initial_request(release(version)) == (release(version) < (0, 11, 0))


def test_a_later_version_gets_what_the_newest_known_one_gets() -> None:
    assert arguments("1.2.3") == arguments("0.33.0") != arguments("0.10.2")


def test_percentiles_as_vllm_spells_them() -> None:
    assert [percentile_text(p) for p in (50.0, 99.0, 99.9, 0.5)] == ["50", "99", "99.9", "0.5"]
