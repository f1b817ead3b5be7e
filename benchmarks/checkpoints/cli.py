"""Command line of the checkpoint maker."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.checkpoints import marker, tokenizer
from benchmarks.checkpoints.recipe import Recipe
from benchmarks.checkpoints.schemes import SCHEMES, Scheme
from benchmarks.checkpoints.shapes import SHAPES, Shape
from benchmarks.datasets.sharegpt import DatasetError

DESCRIPTION = """Make Qwen3-shaped checkpoints with gaussian random weights, really quantized, in the formats
vLLM loads. Speed, memory and start-up are those of a real model of this shape; the answers mean nothing.
Run it where torch, safetensors, tokenizers and compressed-tensors are installed: any vLLM environment.
A checkpoint that is already there, whole and made from the same parameters, is left as it is."""

MODULES_NEEDED = ("torch", "safetensors", "tokenizers", "compressed_tensors")

# Tokenizer and the small files of one checkpoint.
OVERHEAD_BYTES = 20_000_000


class MakerError(Exception):
    """The checkpoints cannot be made; the message says why."""


def estimated_bytes(shape: Shape, scheme: Scheme) -> int:
    """Disk space of one checkpoint."""
    total = float(OVERHEAD_BYTES)
    for group in shape.groups():
        for tensor in group:
            bits = scheme.bits_per_weight if tensor.kind == "linear" else 16
            total += tensor.elements * bits / 8
    return int(total)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 when the checkpoints cannot be made, 2 for wrong options."""
    options = _parser().parse_args(arguments)
    shape = SHAPES[options.shape]
    if options.layers is not None:
        shape = shape.with_layers(options.layers)
    names = list(SCHEMES) if "all" in options.scheme else list(dict.fromkeys(options.scheme))
    try:
        with _locked(options.out):
            _run(shape, [SCHEMES[name] for name in names], options)
    except MakerError as error:
        print(f"checkpoints: error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(shape: Shape, schemes: Sequence[Scheme], options: argparse.Namespace) -> None:
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"checkpoints: {time.monotonic() - started:6.1f} s  {line}", flush=True)

    report(f"shape {shape.name}, {shape.layers} layers, {shape.parameters / 1e6:,.1f} M parameters")
    try:
        texts = tokenizer.corpus(options.text)
    except (OSError, DatasetError) as error:
        raise MakerError(f"text for the tokenizer: {error}") from None
    recipe = Recipe(shape, options.seed, tokenizer.digest(texts))
    missing = []
    for scheme in schemes:
        if not options.force and marker.is_complete(options.out / scheme.name, recipe.parameters(scheme)):
            report(f"{scheme.name}: already there")
        else:
            missing.append(scheme)
    if not missing:
        return
    _check_space(shape, missing, options.out)
    try:
        from benchmarks.checkpoints import maker
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in MODULES_NEEDED:
            raise
        raise MakerError(
            f"the Python module {error.name} is missing: run this with the Python of a vLLM environment"
        ) from None
    try:
        maker.check_device(options.device)
    except ValueError as error:
        raise MakerError(f"--device: {error}") from None
    workers = options.workers or maker.default_workers()
    try:
        maker.make(recipe, missing, texts, options.out, workers, report, options.device)
    except OSError as error:
        raise MakerError(f"{options.out}: {error}") from None
    except MemoryError as error:
        raise MakerError(f"--device {options.device}: {error}; fewer --workers need less") from None


def _check_space(shape: Shape, schemes: Sequence[Scheme], folder: Path) -> None:
    needed = sum(estimated_bytes(shape, scheme) for scheme in schemes)
    free = shutil.disk_usage(folder).free
    if needed > free:
        names = ", ".join(scheme.name for scheme in schemes)
        raise MakerError(f"{folder}: {names} need about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second maker out of the same folder; it waits for the first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise MakerError(f"{folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"checkpoints: waiting for another run in {folder}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"not a whole number: {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="checkpoints", description=DESCRIPTION)
    parser.add_argument("--shape", choices=sorted(SHAPES), required=True)
    parser.add_argument(
        "--scheme", action="append", choices=[*SCHEMES, "all"], required=True, help="repeat for several"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder that gets one folder a scheme")
    parser.add_argument("--seed", type=_at_least(0), default=0)
    parser.add_argument("--layers", type=_at_least(1), help="another number of layers than the shape's own")
    parser.add_argument(
        "--text",
        type=Path,
        action="append",
        default=[],
        help="text the tokenizer learns from, beside the Python library's sources; .json is read as ShareGPT",
    )
    parser.add_argument("--workers", type=_at_least(1), help="tasks at once (default: the cores)")
    parser.add_argument("--device", default="cpu", help="where to quantize: cpu, cuda, cuda:1 … (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="make anew what is already there")
    return parser
