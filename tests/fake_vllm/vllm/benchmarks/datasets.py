# mypy: ignore-errors
"""Drawing prompts, with the shape and the random state of the original. A word is a token."""

import dataclasses
import json
import math
import os
import random


@dataclasses.dataclass
class SampleRequest:
    prompt: str
    prompt_len: int
    expected_output_len: int
    request_id: str | None = None


def add_dataset_parser(parser):
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-prompts", type=int, default=1000)
    parser.add_argument("--dataset-name", default="random")
    parser.add_argument("--dataset-path", default=None)
    parser.add_argument("--random-input-len", type=int, default=1024)
    parser.add_argument("--random-output-len", type=int, default=128)
    parser.add_argument("--random-range-ratio", type=float, default=0.0)


def get_samples(args, tokenizer):
    assert tokenizer is not None
    note("samples")
    prompts = random_words(args) if args.dataset_name == "random" else share_gpt(args)
    return [
        SampleRequest(prompt, len(prompt.split()), length, f"{args.request_id_prefix}{index}")
        for index, (prompt, length) in enumerate(prompts)
    ]


def random_words(args):
    """Different prompts; each length from ``length * (1 ± ratio)``. The same for the same seed, as the original's."""
    draw = random.Random(args.seed)
    share = args.random_range_ratio

    def length(mean):
        return max(1, draw.randint(math.floor(mean * (1 - share)), math.ceil(mean * (1 + share))))

    prompts = []
    for _ in range(args.num_prompts):
        words = length(args.random_input_len)
        text = " ".join([f"{draw.getrandbits(32):08x}", *["word"] * (words - 1)])
        prompts.append((text, length(args.random_output_len)))
    return prompts


def share_gpt(args):
    with open(args.dataset_path, encoding="utf-8") as file:
        note("parsed")
        data = json.load(file)
    data = [entry for entry in data if len(entry.get("conversations", [])) >= 2]
    random.seed(args.seed)
    random.shuffle(data)
    turns = [(entry["conversations"][0]["value"], entry["conversations"][1]["value"]) for entry in data]
    usable = [(prompt, len(answer.split())) for prompt, answer in turns if len(answer.split()) >= 2][: args.num_prompts]
    while len(usable) < args.num_prompts:
        usable.append(random.choice(usable))
    return usable


def note(what):
    """Leave a trace for the test, if it asked for one."""
    if path := os.environ.get("FAKE_TRACE"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{what}\n")
