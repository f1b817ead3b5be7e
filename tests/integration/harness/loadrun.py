"""A load pod's output, written by the load runner's own code, so that a drift of the format fails here."""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from loadrunner.engine import Outcome, Window  # noqa: E402  (benchmarks/ is no installed package)
from loadrunner.output import Output  # noqa: E402
from loadrunner.passes import Passed, pass_record  # noqa: E402
from loadrunner.server import cache_config, counter_deltas, parse_metrics  # noqa: E402
from loadrunner.spec import Load, LoadSpec, parse_server, parse_spec  # noqa: E402

from harness.kubelet import PodLife  # noqa: E402

__all__ = ["Load", "LoadRun", "LoadSpec"]

INPUT_TOKENS, OUTPUT_TOKENS = 200, 100
"""Of each request."""


def speed(variant: str, load: str, repeat: int) -> float:
    """Requests per second of a made-up server: the same for the same arguments, different for different ones."""
    return 10.0 + sum(variant.encode()) % 37 + len(load) + repeat / 8


class LoadRun:
    """One load container: its spec is read as the real runner reads it, its lines are written as the real one does."""

    def __init__(self, life: PodLife) -> None:
        self.life = life
        self.spec: LoadSpec = parse_spec(life.env["QUANTBENCH_LOAD"])
        host = urlsplit(parse_server(life.env["QUANTBENCH_SERVER"])).hostname
        self.server = life.kubelet.at(str(host))
        self.passes = 0
        self._results, path = tempfile.mkstemp()
        os.unlink(path)
        seal, self._seal_path = tempfile.mkstemp()
        os.close(seal)
        self.output = Output(self._results, self._seal_path)
        self._copied = 0

    def close(self) -> None:
        self.copy()
        os.close(self._results)
        os.unlink(self._seal_path)

    def copy(self) -> None:
        """Hand on to the pod's log what was written, with the engine's chatter around it as Kubernetes mixes it in."""
        fresh = os.pread(self._results, 64 * 2**20, self._copied)
        self._copied += len(fresh)
        if fresh:
            self.life.write(b"INFO 11-24 07:00:00 [serve.py:1] chatter of the engine\n" + fresh)
        self.life.termination_message = Path(self._seal_path).read_text()

    def event(self, name: str, **fields: Any) -> None:
        self.output.event(name, time.time(), **fields)
        self.copy()

    def ready(self) -> None:
        """The server answers, and says what it is."""
        self.event("ready", seconds=0.01)
        self.event("server", version="0.32.0", cacheConfig=cache_config(_cache_config(self.life.run_spec)))

    def error(self, reason: str, message: str) -> None:
        self.output.error(reason, message)
        self.copy()

    def end(self, *, complete: bool) -> None:
        self.output.end(complete=complete, passes=self.passes)
        self.copy()

    def measure(self, load: Load, repeat: int, changes: Mapping[str, Any]) -> None:
        """One pass with its line; ``changes`` replace what vLLM's benchmark reports, or ``client_cpu_seconds``."""
        passed = self._passed(load, repeat, changes)
        self.output.emit(pass_record(load, repeat, self.spec.percentiles, passed))
        self.passes += 1
        self.server.passes += 1
        self.server.pass_done.set()
        self.copy()

    def _passed(self, load: Load, repeat: int, changes: Mapping[str, Any]) -> Passed:
        asked, rate = load.num_prompts, speed(self.life.variant, load.name, repeat)
        started = time.time()
        result: dict[str, Any] = {
            "duration": asked / rate,
            "completed": asked,
            "failed": 0,
            "total_input_tokens": asked * INPUT_TOKENS,
            "total_output_tokens": asked * OUTPUT_TOKENS,
            "request_throughput": rate,
            "output_throughput": rate * OUTPUT_TOKENS,
            "total_token_throughput": rate * (INPUT_TOKENS + OUTPUT_TOKENS),
        }
        for place, name in enumerate(("ttft", "tpot", "itl", "e2el"), 1):
            for statistic in ("mean", "median", "std", "p50", "p90", "p99"):
                result[f"{statistic}_{name}_ms"] = place * 1000.0 / rate
        result |= changes
        cpu = result.pop("client_cpu_seconds", 0.0)
        return Passed(
            asked=asked,
            outcome=Outcome(0, None),
            window=Window(
                started_at=started,
                finished_at=time.time(),
                cpu_finished=cpu,
                expected_output_lens=[OUTPUT_TOKENS] * asked,
            ),
            result=result,
            server=counter_deltas(parse_metrics(_metrics(0, {})), parse_metrics(_metrics(asked, result))),
            error=None,
            prompts_by_usage=True,
        )


def _cache_config(run: Mapping[str, Any]) -> str:
    """What the server's /metrics says of its KV cache."""
    dtype = run["variant"]["kvCacheDType"]
    return f'vllm:cache_config_info{{block_size="128",cache_dtype="{dtype}",enable_prefix_caching="False"}} 1.0'


def _metrics(prompts: int, result: Mapping[str, Any]) -> str:
    """What the server's /metrics says after a pass of which the client says this; nothing before the first one."""
    label, finished = '{engine="0",model_name="m"}', result.get("completed", 0)
    lines = [
        f"vllm:prompt_tokens_total{label} {prompts * INPUT_TOKENS}",
        f"vllm:generation_tokens_total{label} {finished * OUTPUT_TOKENS}",
        f"vllm:num_preemptions_total{label} 0",
        f"vllm:prefix_cache_hits_total{label} 0",
        f"vllm:prefix_cache_queries_total{label} {prompts * INPUT_TOKENS}",
        f'vllm:request_success_total{{engine="0",finished_reason="length"}} {finished}',
    ]
    for name, figure in (
        ("time_to_first_token_seconds", "mean_ttft_ms"),
        ("request_time_per_output_token_seconds", "mean_tpot_ms"),
    ):
        seconds = finished * result.get(figure, 0.0) / 1000
        lines += [f"vllm:{name}_sum{label} {seconds}", f"vllm:{name}_count{label} {finished}"]
    return "\n".join(lines)
