"""From a load to the command line of `vllm bench serve`, for vLLM 0.9.2 to 0.33.

Every option and the version from which it holds was read in `add_cli_args` and `add_dataset_parser` of the released
wheels; `tests/unit/loadrunner_support/bench_serve_options.json` keeps the options of each version as data.

What changed, and matters here:

- ``--endpoint-type`` chose the request function up to 0.10.2; 0.11.0 reads ``--backend`` and merely accepts the old
  name with a warning; 0.11.1 removed it.
- Up to 0.10.2 one request is sent, and waited for, before every pass. 0.10.1 and 0.10.2 retry it for
  ``--ready-check-timeout-sec`` seconds and fail at once for 0; from 0.11.0 on, 0 means no such request.
- ``--request-id-prefix`` came in 0.10.2; before that the client sends no request id at all.
- Requests carried temperature 0 by default up to 0.14 and carry none from 0.15 on; sent explicitly it is the same
  everywhere.
"""

from __future__ import annotations

import math
from typing import Final

from .spec import Load, LoadSpec, ShareGPT

OLDEST: Final = (0, 9, 2)
BACKEND: Final = "openai-chat"
ENDPOINT: Final = "/v1/chat/completions"
LATENCIES: Final = ("ttft", "tpot", "itl", "e2el")

# Long enough for one request of an idle, healthy server (0.10.1 and 0.10.2 only).
INITIAL_REQUEST_TIMEOUT: Final = 60


def sends_initial_request(version: tuple[int, int, int]) -> bool:
    """True if this version sends one unmeasured request at the start of each pass, whatever its flags say."""
    return version < (0, 11, 0)


def counts_prompts_by_usage(version: tuple[int, int, int]) -> bool:
    """True if this version is known to take prompt tokens from the server's ``usage``.

    0.9.2 counts the raw prompt itself, without the chat template; the versions in between were not looked at.
    """
    return version >= (0, 20, 0)


def percentile_text(percentile: float) -> str:
    """How vLLM spells a percentile in its flags and JSON keys: 99.0 is ``99``, 99.9 is ``99.9``."""
    return str(int(percentile)) if percentile == int(percentile) else str(percentile)


def bench_serve_arguments(
    spec: LoadSpec,
    load: Load,
    num_prompts: int,
    version: tuple[int, int, int],
    *,
    server: str,
    result_dir: str,
    result_filename: str,
    request_id_prefix: str,
    detailed: bool,
) -> list[str]:
    """Arguments of one pass of `num_prompts` requests, each ``--name=value`` so that no value can pass for a flag."""
    backend = "--endpoint-type" if version < (0, 11, 0) else "--backend"
    arguments = [
        f"{backend}={BACKEND}",
        f"--base-url={server}",
        f"--endpoint={ENDPOINT}",
        f"--model={spec.model}",
        f"--tokenizer={spec.tokenizer}",
        f"--num-prompts={num_prompts}",
        f"--seed={spec.seed}",
        f"--temperature={spec.temperature!r}",
        f"--request-rate={'inf' if math.isinf(load.request_rate) else repr(load.request_rate)}",
        f"--burstiness={load.burstiness!r}",
        f"--percentile-metrics={','.join(LATENCIES)}",
        f"--metric-percentiles={','.join(percentile_text(p) for p in spec.percentiles)}",
        "--disable-tqdm",
        "--save-result",
        f"--result-dir={result_dir}",
        f"--result-filename={result_filename}",
    ]
    if load.max_concurrency is not None:
        arguments.append(f"--max-concurrency={load.max_concurrency}")
    if spec.ignore_eos:
        arguments.append("--ignore-eos")
    if detailed:
        arguments.append("--save-detailed")
    if version >= (0, 10, 2):
        arguments.append(f"--request-id-prefix={request_id_prefix}")
    if version >= (0, 10, 1):
        timeout = INITIAL_REQUEST_TIMEOUT if sends_initial_request(version) else 0
        arguments.append(f"--ready-check-timeout-sec={timeout}")
    return arguments + _dataset_arguments(spec)


def _dataset_arguments(spec: LoadSpec) -> list[str]:
    dataset = spec.dataset
    if isinstance(dataset, ShareGPT):
        return ["--dataset-name=sharegpt", f"--dataset-path={dataset.path}"]
    return [
        "--dataset-name=random",
        f"--random-input-len={dataset.input_len}",
        f"--random-output-len={dataset.output_len}",
        f"--random-range-ratio={dataset.range_ratio!r}",
    ]
