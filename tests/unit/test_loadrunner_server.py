"""Health and counters: text of old and new servers, differences, waiting for counters to settle."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from benchmarks.loadrunner.server import Scrape, Server, cache_config, counter_deltas, parse_metrics
from loadrunner_support.harness import FakeServer, serving

NEW = """
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a b"} 100.0
vllm:prompt_tokens_total{engine="1",model_name="a b"} 11.0
vllm:prompt_tokens_created{engine="0",model_name="a b"} 1.7e+09
vllm:prompt_tokens_by_source_total{engine="0",source="local_compute"} 100.0
vllm:generation_tokens_total{engine="0",model_name="odd } \\" name"} 1.5e+03
vllm:num_preemptions_total{engine="0"} 2.0
vllm:prefix_cache_queries_total{engine="0"} 111.0
vllm:prefix_cache_hits_total{engine="0"} 0.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 3.0
vllm:request_success_total{engine="1",finished_reason="stop",model_name="m"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 6.0
vllm:time_to_first_token_seconds_bucket{le="0.001"} 5.0
vllm:time_to_first_token_seconds_sum{engine="0"} 1.25
vllm:time_to_first_token_seconds_count{engine="0"} 10.0
vllm:request_time_per_output_token_seconds_sum{engine="0"} 0.5
vllm:request_time_per_output_token_seconds_count{engine="0"} 10.0
vllm:inter_token_latency_seconds_sum{engine="0"} 15.0
vllm:inter_token_latency_seconds_count{engine="0"} 1490.0
vllm:time_per_output_token_seconds_sum{engine="0"} 99.0
vllm:time_per_output_token_seconds_count{engine="0"} 99.0
vllm:request_queue_time_seconds_sum{engine="0"} NaN
vllm:num_requests_running{engine="0"} 0.0
python_info{implementation="CPython"} 1.0
vllm:broken_line{engine="0"
"""
OLD = """
vllm:prompt_tokens_total{model_name="m"} 7.0
vllm:generation_tokens_total{model_name="m"} 8.0
vllm:gpu_prefix_cache_hits_total{model_name="m"} 4.0
vllm:gpu_prefix_cache_queries_total{model_name="m"} 5.0
vllm:time_per_output_token_seconds_sum{model_name="m"} 0.25
vllm:time_per_output_token_seconds_count{model_name="m"} 7.0
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as running:
        yield running


def test_a_new_server() -> None:
    deltas = counter_deltas(Scrape({}), parse_metrics(NEW))
    assert deltas["promptTokens"] is None, "a counter that was not there before is not known"
    zero = parse_metrics(NEW.replace("100.0", "0").replace("1.5e+03", "500").replace("} 3.0", "} 1.0"))
    deltas = counter_deltas(zero, parse_metrics(NEW))
    assert deltas["promptTokens"] == 100
    assert deltas["generationTokens"] == 1000
    assert deltas["preemptions"] == 0
    assert deltas["requestsSucceeded"] == {"length": 0, "stop": 2}
    assert deltas["itlSeconds"] == {"sum": 0, "count": 0}
    assert deltas["queueSeconds"] is None
    assert deltas["e2eSeconds"] is None
    fewer_gaps = parse_metrics(NEW.replace("1490.0", "1400.0").replace("} 15.0", "} 14.5"))
    assert counter_deltas(fewer_gaps, parse_metrics(NEW))["itlSeconds"] == {"sum": 0.5, "count": 90}, "both names"
    current = parse_metrics(NEW)
    assert current.counter(("vllm:prompt_tokens",)) == 111
    assert current.sums["vllm:inter_token_latency_seconds_sum"] == 15.0
    assert current.finished == {"stop": 4.0, "length": 6.0}
    assert not current.busy()


def test_a_server_of_0_9_2() -> None:
    before, after = parse_metrics(OLD), parse_metrics(OLD.replace(" 7.0", " 9.0").replace(" 4.0", " 5.0"))
    deltas = counter_deltas(before, after)
    assert deltas["promptTokens"] == 2
    assert deltas["prefixCacheHits"] == 1
    assert deltas["itlSeconds"] == {"sum": 0, "count": 2}, "0.9.2 publishes the gaps under the name of TPOT"
    assert deltas["tpotSeconds"] is None
    assert deltas["requestsSucceeded"] is None


def test_no_reading_and_another_process() -> None:
    reading = parse_metrics(NEW)
    assert set(counter_deltas(None, reading).values()) == {None}
    assert set(counter_deltas(reading, None).values()) == {None}
    restarted = parse_metrics(NEW.replace("1.5e+03", "3.0"))
    assert counter_deltas(reading, restarted)["generationTokens"] is None


def test_a_label_that_appears_later_was_zero_before() -> None:
    before = parse_metrics(NEW.replace('finished_reason="length"', 'finished_reason="abort"'))
    finished = counter_deltas(before, parse_metrics(NEW))["requestsSucceeded"]
    assert finished == {"length": 6, "stop": 0}


def test_health(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client = Server(server.url)
    assert client.unhealthy() is None
    assert client.dead() is None
    server.healthy = False
    assert client.unhealthy() == "GET /health answered 503"
    assert client.dead(pause=0.01) == "GET /health answered 503"


def test_a_closed_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    client = Server(f"http://127.0.0.1:{port}")
    assert "refused" in str(client.unhealthy())
    assert client.scrape() is None
    assert client.settled_scrape() is None


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted(Server):
    """A server whose readings and health are given."""

    def __init__(self, readings: list[Scrape | None], health: list[str | None]) -> None:
        self.clock = Clock()
        super().__init__("http://unused", sleep=self.clock.sleep, clock=self.clock)
        self.readings, self.health, self.asked = readings, health, 0

    def scrape(self) -> Scrape | None:
        self.asked += 1
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def unhealthy(self, timeout: float = 0) -> str | None:
        self.asked += 1
        return self.health.pop(0) if len(self.health) > 1 else self.health[0]


def reading(tokens: float, running: float) -> Scrape:
    return Scrape({"vllm:generation_tokens_total": tokens, "vllm:num_requests_running": running})


def test_readiness_is_polled_every_fifth_of_a_second() -> None:
    server = Scripted([None], ["refused", "refused", None])
    assert server.wait_until_healthy(deadline=60) is None
    assert server.clock.now == pytest.approx(0.4)


def test_not_ready_in_time() -> None:
    server = Scripted([None], ["refused"])
    assert server.wait_until_healthy(deadline=10) == "refused"
    assert 9.5 < server.clock.now <= 10
    late = Scripted([None], [None])
    assert late.wait_until_healthy(deadline=-5) is None, "asked once even when the time is over"


def test_a_settled_reading() -> None:
    server = Scripted([reading(90, 3), reading(95, 1), reading(100, 0)], [None])
    settled = server.settled_scrape()
    assert settled == reading(100, 0)
    assert server.asked == 4
    assert server.clock.now < 0.1


def test_gauges_left_behind_by_aborted_requests() -> None:
    server = Scripted([reading(100, 2)], [None])
    assert server.settled_scrape() == reading(100, 2)
    assert 1.0 <= server.clock.now < 1.3


def test_a_server_that_never_settles() -> None:
    server = Scripted([reading(float(tokens), 1) for tokens in range(1000)], [None])
    assert server.settled_scrape() is not None
    assert 5.0 <= server.clock.now < 5.3


def test_what_the_server_says_about_itself(server: FakeServer) -> None:
    config = {"block_size": "16", "cache_dtype": "auto", "enable_prefix_caching": "False"}
    assert Server(server.url).describe() == {"version": "0.32.0", "cacheConfig": config}
    assert Server("http://127.0.0.1:9").describe() == {"version": None, "cacheConfig": None}


@pytest.mark.parametrize("answer", ["", "null", "[]", "{", '{"version":7}', '{"version":"' + "1" * 99 + '"}'])
def test_a_version_that_is_none(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    of = Server("http://127.0.0.1:9")
    monkeypatch.setattr(of, "_get", lambda path: answer)
    assert of.describe() == {"version": None, "cacheConfig": None}


def test_labels_of_the_cache() -> None:
    line = 'vllm:cache_config_info{cache_dtype="fp8_e4m3",calculate_kv_scales="False",odd="a\\"b,c",num_gpu_blocks="7"} 1.0'
    assert cache_config(f"vllm:other 1\n{line}\n") == {"cache_dtype": "fp8_e4m3", "num_gpu_blocks": "7"}
    assert cache_config("vllm:cache_config_information 1\nvllm:cache_config_info{broken") is None
    assert cache_config("vllm:cache_config_info 1.0") == {}
