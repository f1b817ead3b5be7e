"""The wrapped globals of vLLM's benchmark: drawn once, parsed once, nothing lost of the random state."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.loadrunner.dataset import load_conversations
from benchmarks.loadrunner.engine import EngineBenchmark, Window, describe
from benchmarks.loadrunner.errors import DATASET_INVALID, ENGINE_BENCHMARK_FAILED, RunnerError
from loadrunner_support.harness import conversations

DRAWS: list[tuple[int, object]] = []


@dataclasses.dataclass
class Sample:
    prompt: str
    expected_output_len: int
    request_id: str | None = None


def get_samples(args: Any, tokenizer: Any) -> list[Sample]:
    with open(args.dataset_path, encoding="utf-8") as file:
        data = json.load(file)
    DRAWS.append((args.num_prompts, data))
    entries = [entry["conversations"] for entry in data]
    random.shuffle(entries)
    chosen = [(e[0]["value"], len(e[1]["value"].split())) for e in entries if "bad" not in e[0]["value"]]
    while len(chosen) < args.num_prompts:
        chosen.append(random.choice(chosen))
    return [Sample(p, n, f"{args.request_id_prefix}{i}") for i, (p, n) in enumerate(chosen[: args.num_prompts])]


class Benchmark:
    """The module, and what was seen of it."""

    def __init__(self, *, wrapped: bool = True, version: tuple[int, int, int] = (0, 32, 0)) -> None:
        self.tokenizers = 0
        self.seen: list[tuple[list[Sample], float]] = []
        self.module = SimpleNamespace(
            add_cli_args=self.add_cli_args,
            main=self.main,
            get_samples=get_samples,
            get_tokenizer=self.get_tokenizer,
            benchmark=self.benchmark,
            calculate_metrics=self.calculate_metrics,
            ASYNC_REQUEST_FUNCS={"openai-chat": self.request},
        )
        self.measured_at, self.requests = 0.0, 0
        self.starts_with_a_request = version < (0, 11, 0)
        if wrapped:
            self.engine = EngineBenchmark(self.module, version, "")

    def add_cli_args(self, parser: argparse.ArgumentParser) -> None:
        for name in ("--num-prompts", "--seed"):
            parser.add_argument(name, type=int, default=0)
        for name in ("--dataset-name", "--dataset-path", "--request-id-prefix"):
            parser.add_argument(name, default="")

    def get_tokenizer(self, name: str, **_options: Any) -> object:
        self.tokenizers += 1
        return object()

    async def benchmark(self, *, input_requests: list[Sample]) -> dict[str, Any]:
        self.seen.append((input_requests, random.random()))
        if self.starts_with_a_request:
            for _ in range(2):
                await self.module.ASYNC_REQUEST_FUNCS["openai-chat"]()
        await asyncio.sleep(0.03)
        time.sleep(0.2)  # noqa: ASYNC251  a busy event loop is what is measured
        self.measured_at = time.time()
        self.module.calculate_metrics()
        return {"completed": len(input_requests)}

    async def request(self) -> SimpleNamespace:
        self.requests += 1
        return SimpleNamespace(success=self.requests > 1)

    def calculate_metrics(self) -> None:
        time.sleep(0.3)

    def main(self, args: Any) -> None:
        asyncio.run(self.main_async(args))

    async def main_async(self, args: Any) -> None:
        random.seed(args.seed)
        self.module.get_tokenizer("t", trust_remote_code=False)
        samples = self.module.get_samples(args, object())
        await self.module.benchmark(input_requests=samples)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    DRAWS.clear()
    result = tmp_path / "data.json"
    result.write_text(json.dumps(conversations(20)))
    return result


def arguments(path: Path, prompts: int, prefix: str = "p-") -> list[str]:
    return [f"--dataset-path={path}", f"--num-prompts={prompts}", f"--request-id-prefix={prefix}", "--seed=3"]


def test_prompts_are_drawn_once_and_used_as_if_drawn_each_time(path: Path) -> None:
    plain = Benchmark(wrapped=False)
    plain.main(argparse.Namespace(dataset_name="", dataset_path=path, num_prompts=8, request_id_prefix="p-", seed=3))
    DRAWS.clear()

    ahead = Benchmark()
    data = load_conversations(str(path))
    assert ahead.engine.draw(arguments(path, 8), data) == 8
    assert ahead.engine.draw(arguments(path, 5), data) == 5
    assert ahead.seen == [], "drawing sends nothing"
    for prefix in ("a-", "b-"):
        assert ahead.engine.run(arguments(path, 8, prefix), Window()).exit_code == 0

    assert [count for count, _ in DRAWS] == [8, 5]
    assert all(parsed is data.entries for _, parsed in DRAWS), "the file is parsed by the runner alone"
    assert ahead.tokenizers == 1
    ((expected, jitter),) = plain.seen
    (first, first_jitter), (second, second_jitter) = ahead.seen
    assert [s.prompt for s in first] == [s.prompt for s in second] == [s.prompt for s in expected]
    assert first_jitter == second_jitter == jitter, "arrival times are drawn from the same random state"
    assert [s.request_id for s in first + second] == [f"{p}-{i}" for p in "ab" for i in range(8)]
    assert json.load is load_conversations.__globals__["json"].load, "json is whole again"


def test_prompts_that_repeat_are_counted(path: Path) -> None:
    assert Benchmark().engine.draw(arguments(path, 50), load_conversations(str(path))) == 20


def test_nothing_to_draw(path: Path) -> None:
    path.write_text(json.dumps([{"conversations": [{"value": "bad"}, {"value": "a"}]}]))
    with pytest.raises(RunnerError, match="IndexError") as caught:
        Benchmark().engine.draw(arguments(path, 5), load_conversations(str(path)))
    assert caught.value.reason == DATASET_INVALID


def test_what_a_window_sees(path: Path) -> None:
    window, called = Window(), []
    window.on_start = lambda: called.append(time.time())
    before = time.time()
    benchmark = Benchmark()
    assert benchmark.engine.run(arguments(path, 8), window).error is None
    assert len(called) == 1
    assert before <= called[0] <= window.started_at < window.finished_at
    assert window.finished_at - benchmark.measured_at < 0.25, "working out the figures is not part of the pass"
    assert window.expected_output_lens is not None
    assert len(window.expected_output_lens) == 8
    assert window.result == {"completed": 8}
    assert window.max_lag is not None
    assert 0.15 < window.max_lag < 10
    assert window.mean_lag is not None
    assert 0 < window.mean_lag <= window.max_lag
    assert window.mean_lag == window.total_lag / window.beats
    assert 0 < window.cpu_finished - window.cpu_started < 10


def test_lags_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    window, clock = Window(), iter([10.0, 10.02, 10.07, 10.08, 20.0])
    assert window.mean_lag is None
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    window.start()
    window.beat()
    window.beat()
    window.finish()
    window.beat()  # after the measured time
    assert (window.beats, window.max_lag) == (3, pytest.approx(0.03))
    assert window.mean_lag == pytest.approx(0.01), "early beats are not late ones"


def test_the_first_request_that_succeeds_starts_the_window_of_old_versions(path: Path) -> None:
    window, called = Window(), []
    benchmark = Benchmark(version=(0, 10, 2))
    window.on_start = lambda: called.append(benchmark.requests)
    assert benchmark.engine.run(arguments(path, 8), window).error is None
    assert called == [0, 2]
    assert {"openai-chat": benchmark.request} == benchmark.module.ASYNC_REQUEST_FUNCS


def test_a_parser_that_refuses(path: Path) -> None:
    with pytest.raises(RunnerError, match="unrecognized arguments: --new-flag") as caught:
        Benchmark().engine.run([*arguments(path, 1), "--new-flag=1"], Window())
    assert caught.value.reason == ENGINE_BENCHMARK_FAILED


def test_causes_are_told() -> None:
    error = RuntimeError("Failed to load the tokenizer")
    error.__cause__ = ValueError("Tokenizer class X does not exist")
    assert describe(error) == (
        "RuntimeError: Failed to load the tokenizer; caused by ValueError: Tokenizer class X does not exist"
    )
    assert describe(KeyError()) == "KeyError"
