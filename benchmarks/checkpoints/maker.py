"""Makes the checkpoints of several schemes from one set of weights, a layer at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import torch  # type: ignore[import-not-found,unused-ignore]

from benchmarks.checkpoints import quantize, tokenizer, weights
from benchmarks.checkpoints.calibrate import Calibration
from benchmarks.checkpoints.recipe import Recipe
from benchmarks.checkpoints.schemes import Scheme
from benchmarks.checkpoints.shapes import Shape, TensorSpec
from benchmarks.checkpoints.writer import CheckpointWriter

Tensors = dict[str, torch.Tensor]
Report = Callable[[str], None]


def make(
    recipe: Recipe,
    schemes: Sequence[Scheme],
    texts: Sequence[str],
    folder: Path,
    workers: int,
    report: Report,
    device: str = "cpu",
) -> None:
    """Write ``folder/<scheme>`` for each scheme, replacing what is there.

    ``report`` is called with a line for every step. ``device`` is torch's name of where the weights are quantized; they
    are drawn on the CPU, so that they are the same everywhere. Raises OSError when the disk is full or not writable,
    MemoryError when the device's memory is too small; no partial checkpoint is left behind then, except after a kill,
    and the next run clears that away.
    """
    report(f"tokenizer: learning {recipe.shape.bpe_vocabulary:,} entries")
    shared = tokenizer.files(recipe.shape, texts)
    writers = {scheme.name: CheckpointWriter(folder / scheme.name) for scheme in schemes}
    # One thread per task: the tasks fill the cores, and threads inside each would only compete.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            _write_tensors(recipe, schemes, writers, pool, report, device)
            for scheme in schemes:
                size = writers[scheme.name].finish(
                    {"config.json": _config(recipe.shape, scheme), **shared}, recipe.parameters(scheme)
                )
                report(f"{scheme.name}: {size / 1e6:,.0f} MB in {folder / scheme.name}")
        except BaseException as error:
            for writer in writers.values():
                writer.discard()
            if isinstance(error, torch.OutOfMemoryError):
                raise MemoryError(str(error).splitlines()[0]) from None
            raise


def check_device(device: str) -> None:
    """Raises ValueError when torch cannot compute on ``device``; the message says why."""
    try:
        torch.ones(1, device=device).cpu()
    except (AssertionError, NotImplementedError, RuntimeError) as error:  # torch has no class of its own for this
        raise ValueError(f"{device!r} cannot be used: {str(error).splitlines()[0]}") from None


def default_workers() -> int:
    """As many tasks at once as this process has cores."""
    return len(os.sched_getaffinity(0))


def _write_tensors(
    recipe: Recipe,
    schemes: Sequence[Scheme],
    writers: dict[str, CheckpointWriter],
    pool: Executor,
    report: Report,
    device: str,
) -> None:
    shape, calibration = recipe.shape, None
    needs_calibration = any(scheme.activation_levels for scheme in schemes)
    for number, group in enumerate(shape.groups()):
        tensors = {name: drawn.to(device) for name, drawn in weights.make(group, recipe.seed, pool).items()}
        absolute_maxima: dict[str, float] = {}
        if number == 0:
            report(f"embeddings of {shape.parameters / 1e6:,.0f} M parameters")
            if needs_calibration:
                calibration = Calibration(shape, tensors["model.embed_tokens.weight"], recipe.seed)
        elif number <= shape.layers:
            report(f"layer {number} of {shape.layers}")
            if calibration is not None:
                absolute_maxima = calibration.layer(number - 1, tensors)
        for name, scheme, stored in _stored(group, tensors, schemes, absolute_maxima, pool):
            writers[scheme.name].add(name, stored)


def _stored(
    group: Sequence[TensorSpec],
    tensors: Tensors,
    schemes: Sequence[Scheme],
    absolute_maxima: dict[str, float],
    pool: Executor,
) -> Iterator[tuple[str, Scheme, torch.Tensor]]:
    """The stored tensors of one group for every scheme; quantizers run in the pool, all at once."""
    tasks: dict[tuple[str, str], Future[Tensors]] = {
        (scheme.name, spec.name): pool.submit(quantize.in_slices, scheme.quantizer, tensors[spec.name])
        for spec in group
        if spec.kind == "linear"
        for scheme in schemes
        if scheme.quantizer
    }
    for scheme in schemes:
        for spec in group:
            task = tasks.pop((scheme.name, spec.name), None)
            if task is None:
                yield spec.name, scheme, tensors[spec.name].to("cpu", getattr(torch, scheme.dtype))
                continue
            stored = task.result()
            if scheme.activation_levels:
                stored |= quantize.static_input_scale(absolute_maxima[spec.name], scheme.activation_levels)
            for suffix, tensor in stored.items():
                yield f"{spec.name.removesuffix('.weight')}.{suffix}", scheme, tensor


def _config(shape: Shape, scheme: Scheme) -> str:
    config = shape.config(scheme.dtype, tokenizer.special_token_ids())
    if scheme.quantization_config is not None:
        config["quantization_config"] = scheme.quantization_config
    return json.dumps(config, indent=2) + "\n"
