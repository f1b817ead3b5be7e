"""How closely a served checkpoint agrees with another one on the same prompts: is the packing right?

A wrongly packed layer still answers, only differently. This asks two servers, one after the other, for the log
probability of every token of the same random prompts and compares them token by token. For checkpoints made
from the same weights the correlation stays close to 1, less so the fewer bits there are; scrambled weights give
about 0. Standard library only.

vLLM computes log probabilities with a function that torch compiles on first use: where the server has no C++
compiler, as in a small image, its engine dies of the first request unless it was started with
``TORCHDYNAMO_DISABLE=1``, which changes no figure (vLLM 0.32 on a CPU).

    python3 benchmarks/checkpoints/agreement.py record --server http://127.0.0.1:8000 --output bf16.json
    python3 benchmarks/checkpoints/agreement.py compare bf16.json w4a16.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# The first ids are the tokenizer's special tokens, and every shape of ours has more ids than this.
TOKEN_IDS = range(3, 8192)


class AgreementError(Exception):
    """A server did not answer or two records cannot be compared; the message says why."""


@dataclass(frozen=True)
class Record:
    """Log probabilities (natural logarithm) of prompt tokens, and the likeliest token at each place."""

    model: str
    prompts: list[list[int]]
    logprobs: list[float]
    likeliest: list[int]


@dataclass(frozen=True)
class Agreement:
    """Two records compared token by token."""

    tokens: int
    correlation: float
    """Pearson's, of the log probabilities."""
    root_mean_square: float
    """Of the differences, in nats."""
    same_likeliest: float
    """Share of places where both give the highest probability to the same token."""


def prompts(count: int, length: int, seed: int) -> list[list[int]]:
    """``count`` prompts of ``length`` random token ids."""
    generator = random.Random(seed)
    return [[generator.choice(TOKEN_IDS) for _ in range(length)] for _ in range(count)]


def compare(one: Record, other: Record) -> Agreement:
    """Raises AgreementError when the records are not of the same prompts, or hold too little to compare."""
    if one.prompts != other.prompts or len(one.logprobs) != len(other.logprobs):
        raise AgreementError("the records are of different prompts")
    count = len(one.logprobs)
    if count < 2:
        raise AgreementError(f"{count} tokens are too few to compare")
    mean_one, mean_other = sum(one.logprobs) / count, sum(other.logprobs) / count
    pairs = list(zip(one.logprobs, other.logprobs, strict=True))
    covariance = sum((a - mean_one) * (b - mean_other) for a, b in pairs)
    spread = math.sqrt(
        sum((a - mean_one) ** 2 for a in one.logprobs) * sum((b - mean_other) ** 2 for b in other.logprobs)
    )
    if spread == 0:
        raise AgreementError("one record gives every token the same probability")
    same = sum(a == b for a, b in zip(one.likeliest, other.likeliest, strict=True))
    return Agreement(
        tokens=count,
        correlation=covariance / spread,
        root_mean_square=math.sqrt(sum((a - b) ** 2 for a, b in pairs) / count),
        same_likeliest=same / count,
    )


def parse_prompt_logprobs(tokens: Sequence[int], answer: object) -> tuple[list[float], list[int]]:
    """Log probability of each prompt token but the first, and the likeliest one there.

    ``answer`` is ``prompt_logprobs`` of vLLM's completion: null for the first token, then one object a token
    that maps token ids to ``{"logprob", "rank"}`` and holds at least the token itself and that of rank 1.
    Raises AgreementError when it is something else.
    """
    logprobs: list[float] = []
    likeliest: list[int] = []
    try:
        if not isinstance(answer, list) or len(answer) != len(tokens):
            raise ValueError("prompt_logprobs does not match the prompt")
        for token, place in zip(tokens[1:], answer[1:], strict=True):
            logprobs.append(float(place[str(token)]["logprob"]))
            likeliest.append(next(int(key) for key, value in place.items() if value["rank"] == 1))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise AgreementError(f"unexpected answer of the server: {error!r}") from None
    return logprobs, likeliest


def record(server: str, asked: list[list[int]], timeout: float = 300.0) -> Record:
    """Ask the first model that ``server`` (base URL) lists. Raises AgreementError when it does not answer."""
    listing = _call(f"{server}/v1/models", None, timeout)
    try:
        model = str(listing["data"][0]["id"])
    except (KeyError, IndexError, TypeError):
        raise AgreementError(f"{server}: no model listed") from None
    result = Record(model, asked, [], [])
    for tokens in asked:
        body = {"model": model, "prompt": tokens, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1}
        answer = _call(f"{server}/v1/completions", body, timeout)
        try:
            places = answer["choices"][0]["prompt_logprobs"]
        except (KeyError, IndexError, TypeError):
            raise AgreementError(f"{server}: no prompt_logprobs in the answer") from None
        logprobs, likeliest = parse_prompt_logprobs(tokens, places)
        result.logprobs.extend(logprobs)
        result.likeliest.extend(likeliest)
    return result


def load(path: Path) -> Record:
    """Read a record. Raises AgreementError when it is none."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise AgreementError(f"{path}: not a record: {error}") from None


def _call(url: str, body: dict[str, object] | None, timeout: float) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise AgreementError(f"{url}: HTTP {error.code}: {error.read(500).decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise AgreementError(f"{url}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 when something cannot be asked or compared, 2 for wrong options."""
    parser = argparse.ArgumentParser(
        prog="agreement", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="ask a running server")
    recording.add_argument("--server", required=True, help="base URL")
    recording.add_argument("--output", type=Path, required=True)
    recording.add_argument("--prompts", type=int, default=8)
    recording.add_argument("--length", type=int, default=128, help="tokens of a prompt")
    recording.add_argument("--seed", type=int, default=0)
    comparing = commands.add_parser("compare", help="compare two records")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "record":
            asked = prompts(options.prompts, options.length, options.seed)
            text = json.dumps(asdict(record(options.server.rstrip("/"), asked)))
            options.output.write_text(text + "\n", encoding="utf-8")
        else:
            print(json.dumps(asdict(compare(load(options.one), load(options.other)))))
    except (AgreementError, OSError) as error:
        print(f"agreement: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
