# mypy: ignore-errors
"""A stand-in for exactly one module, vllm.benchmarks.serve, and for no more of vLLM.

It has the same entry points and the same way through them. It really sends streaming chat requests, at the times that
request rate, burstiness and maximum concurrency ask for, and computes the result by vLLM's definitions
(`calculate_metrics` of 0.24):

- TTFT: from sending to the first chunk with choices; latency: to the last chunk, the one with the usage included.
- TPOT: (latency - TTFT) / (output tokens - 1) of each request with more than one token; then over requests.
- ITL: the gaps between chunks, pooled over all requests.
- Output tokens: what the server's usage says, or the chunks counted where it says nothing.
- A stream that ends early without an error of the connection counts as completed.

It does not tokenize (a word is a token), ramp up, or know any backend but openai-chat.

FAKE_BEHAVIOUR makes it misbehave: exit-3, raise, nan, no-result, refuse-import, no-hooks, block-loop, save-error.
FAKE_VLLM_VERSION below 0.11 makes it send one unmeasured request before each pass.
"""

import asyncio
import importlib.util
import json
import math
import os
import random
import statistics
import sys
import time
import traceback

import aiohttp

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
    """What came back for one request; seconds."""

    def __init__(self):
        self.success = False
        self.error = ""
        self.prompt_tokens = self.tokens = 0
        self.ttft = self.latency = 0.0
        self.itl = []


async def chat(session, url, model, sample, args):
    output = Output()
    payload = {
        "model": model,
        "messages": [{"role": "user", "content": sample.prompt}],
        "max_completion_tokens": sample.expected_output_len,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": args.temperature,
        "ignore_eos": args.ignore_eos,
    }
    output.prompt_tokens = sample.prompt_len
    sent = time.perf_counter()
    try:
        async with session.post(url, json=payload, headers={"x-request-id": sample.request_id}) as response:
            if response.status == 200:
                await read_stream(response, output, sent)
                output.success = True
            else:
                output.error = response.reason or ""
    except (aiohttp.ClientError, OSError):
        output.error = traceback.format_exc()
    return output


async def read_stream(response, output, sent):
    last = sent
    async for line in response.content:
        event = line.strip().removeprefix(b"data: ")
        if not event or event == b"[DONE]":
            continue
        now, document = time.perf_counter(), json.loads(event)
        if document.get("choices"):
            if output.ttft:
                output.itl.append(now - last)
            else:
                output.ttft = now - sent
            output.tokens += bool(document["choices"][0]["delta"].get("content"))
        elif usage := document.get("usage"):
            output.tokens, output.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
        last = now
    output.latency = last - sent


ASYNC_REQUEST_FUNCS = {"openai-chat": chat}


def calculate_metrics(outputs, duration, metrics, percentiles):
    print("============ Serving Benchmark Result ============")
    good = [output for output in outputs if output.success]
    tokens_in, tokens_out = (sum(getattr(o, name) for o in good) for name in ("prompt_tokens", "tokens"))
    result = {
        "completed": len(good),
        "total_input_tokens": tokens_in,
        "total_output_tokens": tokens_out,
        "request_throughput": len(good) / duration,
        "output_throughput": tokens_out / duration,
        "total_token_throughput": (tokens_in + tokens_out) / duration,
    }
    seconds = {
        "ttft": [o.ttft for o in good],
        "tpot": [(o.latency - o.ttft) / (o.tokens - 1) for o in good if o.tokens > 1],
        "itl": [gap for o in good for gap in o.itl],
        "e2el": [o.latency for o in good],
    }
    for metric in metrics:
        values = sorted(1000 * value for value in seconds[metric]) or [0.0]
        figures = {"mean": statistics.fmean(values), "median": statistics.median(values)}
        figures |= {"std": statistics.pstdev(values)} | {f"p{p}": percentile(values, float(p)) for p in percentiles}
        result |= {f"{name}_{metric}_ms": math.nan if BEHAVIOUR == "nan" else v for name, v in figures.items()}
    return result


def percentile(values, share):
    """With linear interpolation, as numpy.percentile."""
    place = (len(values) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


async def send_all(session, url, samples, args):
    request = ASYNC_REQUEST_FUNCS[args.backend]
    limit = asyncio.Semaphore(args.max_concurrency or len(samples))

    async def limited(sample):
        async with limit:
            return await request(session, url, args.model, sample, args)

    rate, due, tasks = args.request_rate or math.inf, time.perf_counter(), []
    for sample in samples:
        if math.isfinite(rate):
            # Gaps of mean 1/rate; burstiness 1 is a Poisson process.
            due += random.gammavariate(args.burstiness, 1 / (rate * args.burstiness))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(limited(sample)))
    if BEHAVIOUR == "block-loop":
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251  a busy event loop
    return await asyncio.gather(*tasks)


async def benchmark(*, endpoint_type, input_requests, args):
    url = f"{args.base_url}{args.endpoint}"
    connector = aiohttp.TCPConnector(limit=args.max_concurrency or 0)
    timeout = aiohttp.ClientTimeout(total=6 * 3600)
    # vLLM's client honours the proxies of the environment.
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session:
        if OLD:
            first = await ASYNC_REQUEST_FUNCS[endpoint_type](session, url, args.model, input_requests[0], args)
            if not first.success:
                raise ValueError(f"Initial test run failed. Error: {first.error}")
        started = time.perf_counter()
        outputs = await send_all(session, url, input_requests, args)
        duration = time.perf_counter() - started
    metrics = calculate_metrics(
        outputs, duration, args.percentile_metrics.split(","), args.metric_percentiles.split(",")
    )
    result = {"duration": duration, **metrics}
    if not OLD:
        result["failed"] = len(outputs) - result["completed"]
    return {
        **result,
        "output_lens": [output.tokens for output in outputs],
        "ttfts": [output.ttft for output in outputs],
        "itls": [output.itl for output in outputs],
        "errors": [output.error for output in outputs],
        "order": [sample.prompt for sample in input_requests],
        "jitter": random.random(),  # as arrival times are: drawn after the prompts
    }


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
        for field in ("output_lens", "ttfts", "itls", "errors"):
            del saved[field], result[field]
    if BEHAVIOUR == "save-error":
        raise OSError(28, "No space left on device")
    if BEHAVIOUR != "no-result":
        save(args, saved)
    return saved


if BEHAVIOUR == "no-hooks":
    _measure = benchmark
    _prompts = get_samples
    _figures = calculate_metrics
    del benchmark, get_samples, calculate_metrics, get_tokenizer

    async def main_async(args):
        random.seed(args.seed)
        samples = _prompts(args, "tokenizer")
        globals()["calculate_metrics"] = _figures
        result = await _measure(endpoint_type=args.backend, input_requests=samples, args=args)
        save(args, {key: value for key, value in result.items() if key not in {"itls", "output_lens"}})
