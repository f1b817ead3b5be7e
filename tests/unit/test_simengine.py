"""The simulated engine is what its docstring says: what the trap tests find is planted, not an accident of the stand-in."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.loadrunner.server import Scrape, parse_metrics

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from simengine.config import LogLines, parse_config  # noqa: E402
from simengine.logs import read_log  # noqa: E402
from simengine.scheduler import log_normal  # noqa: E402

LOG = "cpu-0.32-bf16.log"
STEP, PER_REQUEST, PREFILL = 0.030, 0.005, 0.001


class Engine:
    """A simulated engine as a process."""

    def __init__(self, session: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
        self.session, self.process = session, process

    async def chat(self, prompt: str, tokens: int, name: str = "", **more: Any) -> list[tuple[float, Any]]:
        """Every event of one streamed answer with the time of its coming; the last one is ``[DONE]``."""
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": prompt}],
            "max_completion_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        events = []
        headers = {"x-request-id": name} if name else {}
        async with self.session.post("/v1/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 200
            async for line in answer.content:
                if line.strip():
                    text = line.decode().removeprefix("data: ").strip()
                    events.append((time.monotonic(), text if text == "[DONE]" else json.loads(text)))
        return events

    async def ended(self) -> str:
        """Wait for its end; what it has written."""
        assert self.process.stdout is not None
        said = await asyncio.wait_for(self.process.stdout.read(), 10)
        await self.process.wait()
        return said.decode()

    async def scrape(self) -> Scrape:
        async with self.session.get("/metrics") as answer:
            return parse_metrics(await answer.text())


@asynccontextmanager
async def running(**config: Any) -> AsyncIterator[Engine]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = {"log": {"file": LOG}, "step_seconds": STEP, "step_seconds_per_request": PER_REQUEST}
    text = json.dumps({**settings, "prefill_seconds_per_token": PREFILL, **config})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simengine", "--port", str(port), "--config", text),
        env={"PYTHONPATH": str(TESTS)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield Engine(session, await healthy(session, process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def healthy(session: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    for _ in range(400):
        assert process.returncode is None, "the engine has ended"
        try:
            async with session.get("/health") as answer:
                assert answer.status == 200
                return process
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
    raise AssertionError("the engine does not listen")


def tokens_of(events: list[tuple[float, Any]]) -> list[float]:
    """When each token came."""
    chunks = [(at, event["choices"][0]) for at, event in events if event != "[DONE]" and event.get("choices")]
    return [at for at, choice in chunks if choice["delta"]["content"]]


async def test_a_stream_is_that_of_vllm() -> None:
    async with running() as engine:
        events = [event for _, event in await engine.chat("one two three", 4)]
        async with engine.session.get("/v1/models") as answer:
            assert (await answer.json())["data"][0]["id"] == "m"
        body = {"model": "m", "prompt": "one two", "max_tokens": 3, "ignore_eos": True}
        async with engine.session.post("/v1/completions", json=body) as answer:
            whole = await answer.json()
        async with engine.session.post("/v1/completions", json={**body, "model": "other"}) as answer:
            assert answer.status == 404
    role, *tokens, usage, done = events
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in tokens] == [None, None, None, "length"]
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert usage["choices"] == []
    assert done == "[DONE]"
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 3


async def test_times_follow_the_model_and_the_histograms_tell_them() -> None:
    """Two sequences run, the other two wait until those are done."""
    async with running(max_num_seqs=2) as engine:
        began = time.monotonic()
        answers = await asyncio.gather(*(engine.chat("a b c d e", 6) for _ in range(4)))
        scrape = await engine.scrape()
    times = sorted((tokens_of(events) for events in answers), key=lambda times: times[0])
    # Only lower ends are certain on a busy machine. The first request may have its first step alone.
    step = STEP + PER_REQUEST
    for first, *_ in times[:2]:
        assert first - began > 5 * PREFILL + step - 0.005
    for first, *_ in times[2:]:
        assert first - began > 10 * PREFILL + 7 * step - 0.005
    assert scrape.sums["vllm:generation_tokens_total"] == 24
    assert scrape.sums["vllm:prompt_tokens_total"] == 20
    assert scrape.finished == {"stop": 0, "length": 4, "abort": 0, "error": 0}
    assert scrape.sums["vllm:request_time_per_output_token_seconds_count"] == 4
    assert scrape.sums["vllm:inter_token_latency_seconds_count"] == 20
    assert scrape.sums["vllm:request_queue_time_seconds_sum"] > 2 * 5 * step
    assert scrape.sums["vllm:num_requests_running"] == scrape.sums["vllm:num_requests_waiting"] == 0
    assert 16 * step < scrape.sums["vllm:time_to_first_token_seconds_sum"] < sum(first - began for first, *_ in times)


async def test_time_is_compressed() -> None:
    async with running(step_seconds=3.0, speedup=100) as engine:
        times = tokens_of(await engine.chat("a", 4))
    assert 0.08 < times[-1] - times[0] < 2


async def test_the_engine_dies_in_the_middle_of_its_answers() -> None:
    async with running(traps={"dies_at_request": 1}) as engine:
        events = await engine.chat("a", 50)
        assert 0 < len(tokens_of(events)) < 50
        assert "error" in events[-2][1]
        async with engine.session.get("/health") as answer:
            assert answer.status == 503
        said = await engine.ended()
        assert engine.process.returncode == 0
    assert said.index("Application startup complete") < said.index("EngineDeadError")


async def test_it_ends_with_sigterm_and_with_its_parent() -> None:
    async with running() as engine:
        engine.process.send_signal(signal.SIGTERM)
        said = await engine.ended()
        assert engine.process.returncode == 0
        assert "shutdown triggered" in said
    async with running() as engine:
        assert engine.process.stdin is not None
        engine.process.stdin.close()
        await engine.ended()
        assert engine.process.returncode == 0


async def test_old_versions_have_old_names() -> None:
    async with running(version="0.9.2") as engine:
        await engine.chat("a", 3)
        sums = (await engine.scrape()).sums
    assert sums["vllm:time_per_output_token_seconds_count"] == 2
    assert "vllm:inter_token_latency_seconds_count" not in sums
    assert "vllm:request_time_per_output_token_seconds_count" not in sums


def test_effects_are_log_normal_and_belong_to_their_key() -> None:
    logs = [math.log(log_normal(str(key), 0.03)) for key in range(4000)]
    assert statistics.fmean(logs) == pytest.approx(0, abs=0.002)
    assert statistics.pstdev(logs) == pytest.approx(0.03, rel=0.05)
    assert log_normal("1", 0.03) == log_normal("1", 0.03) != log_normal("2", 0.03)
    assert log_normal("1", 0.0) == 1.0


def test_a_log_says_what_a_test_wants() -> None:
    start = read_log(LogLines("cpu-0.32-awq.log", without=("for mixed-precision",), structure="AutoAWQ")).start
    assert "for mixed-precision" not in start
    assert start.count("quant=AutoAWQ") == 4
    assert start.endswith("Application startup complete.\n")
    with pytest.raises(ValueError, match="does not say 'nonsense'"):
        read_log(LogLines(LOG, replace=(("nonsense", ""),)))


def test_a_misspelt_switch_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"unknown: traps\.prefix_cach"):
        parse_config('{"log": {"file": "x"}, "traps": {"prefix_cach": true}}')
