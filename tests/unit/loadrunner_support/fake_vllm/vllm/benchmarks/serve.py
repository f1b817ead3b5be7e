# mypy: ignore-errors
"""A stand-in for vllm.benchmarks.serve: same entry points, same way through them, real HTTP requests.

FAKE_BEHAVIOUR makes it misbehave: exit-3, raise, nan, no-result, refuse-import, no-hooks, block-loop, save-error.
FAKE_VLLM_VERSION below 0.11 makes it send one unmeasured request before each pass.
"""

import asyncio
import importlib.util
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request

import vllm
from vllm.benchmarks.datasets import add_dataset_parser, get_samples, note

BEHAVIOUR = os.environ.get("FAKE_BEHAVIOUR", "")
OLD = tuple(int(part) for part in vllm.__version__.split(".")[:2]) < (0, 11)

# A module of the load runner under its plain name would shadow a third-party one during vLLM's imports.
assert importlib.util.find_spec("flags") is None

if BEHAVIOUR == "refuse-import":
    raise ImportError("libsomething.so.1: cannot open shared object file")

print("fake vllm: imported")  # as vLLM's logging does, on standard output


def get_tokenizer(name, **_kwargs):
    note("tokenizer")
    return name


class Output:
    success = False
    tokens = 0
    error = ""
    latency = 0.0
    prompt_tokens = 0


def post(url, payload, headers):
    output, started = Output(), time.perf_counter()
    request = urllib.request.Request(url, json.dumps(payload).encode(), headers)
    try:
        with urllib.request.urlopen(request) as response:
            usage = json.load(response)["usage"]
        output.success, output.tokens = True, usage["completion_tokens"]
        output.prompt_tokens = usage["prompt_tokens"]
    except urllib.error.HTTPError as error:
        output.error = error.reason
        error.close()
    except OSError as error:
        output.error = f"Traceback (most recent call last):\n{error}"
    output.latency = time.perf_counter() - started
    return output


async def chat(url, model, sample, args):
    payload = {
        "model": model,
        "prompt": sample.prompt,
        "max_completion_tokens": sample.expected_output_len,
        "temperature": args.temperature,
        "ignore_eos": args.ignore_eos,
    }
    headers = {"content-type": "application/json", "x-request-id": sample.request_id}
    return await asyncio.to_thread(post, url, payload, headers)


ASYNC_REQUEST_FUNCS = {"openai-chat": chat}


def calculate_metrics(outputs, duration):
    latencies = [output.latency * 1000 for output in outputs if output.success] or [0.0]
    print("============ Serving Benchmark Result ============")
    return latencies, sum(output.tokens for output in outputs) / duration


async def benchmark(*, endpoint_type, input_requests, args):
    request = ASYNC_REQUEST_FUNCS[endpoint_type]
    url = f"{args.base_url}{args.endpoint}"
    if OLD:
        first = await request(url, args.model, input_requests[0], args)
        if not first.success:
            raise ValueError(f"Initial test run failed. Error: {first.error}")
    started = time.perf_counter()
    limit = asyncio.Semaphore(args.max_concurrency or len(input_requests))

    async def limited(sample):
        async with limit:
            return await request(url, args.model, sample, args)

    gathered = asyncio.gather(*(limited(sample) for sample in input_requests))
    if BEHAVIOUR == "block-loop":
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251  a busy event loop
    outputs = await gathered
    duration = time.perf_counter() - started
    latencies, throughput = calculate_metrics(outputs, duration)
    good = [output for output in outputs if output.success]
    result = {
        "duration": duration,
        "completed": len(good),
        "total_input_tokens": sum(output.prompt_tokens for output in good),
        "total_output_tokens": sum(output.tokens for output in good),
        "request_throughput": len(good) / duration,
        "output_throughput": throughput,
        "total_token_throughput": throughput,
        "output_lens": [output.tokens for output in outputs],
        "itls": [[0.001] * max(0, output.tokens - 1) for output in outputs],
        "errors": [output.error for output in outputs],
        "order": [sample.prompt for sample in input_requests],
        "jitter": random.random(),  # as arrival times are: drawn after the prompts
    }
    if not OLD:
        result["failed"] = len(outputs) - len(good)
    mean = sum(latencies) / len(latencies)
    for metric in args.percentile_metrics.split(","):
        for statistic in ("mean", "median", "std", *(f"p{p}" for p in args.metric_percentiles.split(","))):
            result[f"{statistic}_{metric}_ms"] = float("nan") if BEHAVIOUR == "nan" else mean
    return result


def add_cli_args(parser):
    add_dataset_parser(parser)
    for name in ("--base-url", "--endpoint", "--model", "--tokenizer", "--result-dir", "--result-filename"):
        parser.add_argument(name)
    parser.add_argument("--endpoint-type" if OLD else "--backend", choices=list(ASYNC_REQUEST_FUNCS), dest="backend")
    for name in ("--percentile-metrics", "--metric-percentiles"):
        parser.add_argument(name)
    parser.add_argument("--request-id-prefix", default="")
    parser.add_argument("--max-concurrency", type=int)
    parser.add_argument("--request-rate", type=float)
    parser.add_argument("--burstiness", type=float)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--ready-check-timeout-sec", type=int, default=0)
    for name in ("--disable-tqdm", "--ignore-eos", "--save-result", "--save-detailed"):
        parser.add_argument(name, action="store_true")


def save(args, result):
    with open(os.path.join(args.result_dir, args.result_filename), "w", encoding="utf-8") as file:
        json.dump(result, file)


def main(args):
    return asyncio.run(main_async(args))


async def main_async(args):
    print(args)
    os.write(1, b"from a C library\n")
    random.seed(args.seed)
    tokenizer = get_tokenizer(args.tokenizer, trust_remote_code=False)
    samples = get_samples(args, tokenizer)
    if BEHAVIOUR == "exit-3":
        sys.exit(3)
    if BEHAVIOUR == "raise":
        raise ValueError("Unknown backend") from KeyError("openai-chat")
    result = await benchmark(endpoint_type=args.backend, input_requests=samples, args=args)
    saved = {"num_prompts": args.num_prompts, **result}
    if not args.save_detailed:
        for field in ("output_lens", "itls", "errors"):
            del saved[field], result[field]
    if BEHAVIOUR == "save-error":
        raise OSError(28, "No space left on device")
    if BEHAVIOUR != "no-result":
        save(args, saved)
    return saved


if BEHAVIOUR == "no-hooks":
    _measure = benchmark
    _prompts = get_samples
    del benchmark, get_samples, calculate_metrics, get_tokenizer

    async def main_async(args):
        random.seed(args.seed)
        samples = _prompts(args, "tokenizer")
        globals()["calculate_metrics"] = lambda outputs, duration: ([1.0], 1.0)
        result = await _measure(endpoint_type=args.backend, input_requests=samples, args=args)
        save(args, {key: value for key, value in result.items() if key not in {"itls", "output_lens"}})
