"""vLLM's own benchmark (`vllm.benchmarks.serve`), imported once and called once per pass.

`main(args)` of that module does the measuring, unchanged. Five of its module globals, present under these names and
called in the same way in every version from 0.9.2 to 0.33, are wrapped:

- `get_tokenizer`: loaded once for all passes.
- `get_samples`: the prompts of each size are drawn once, before the server is ready, from one parse of the file;
  later passes get copies with their own request ids, and the random state that drawing them would have left, so
  arrival times are those of an unwrapped run too.
- `benchmark`: tells which requests are sent and what came back for each, and runs a heartbeat in the event loop.
- `calculate_metrics`: its call is the end of the measured time.
- `ASYNC_REQUEST_FUNCS`: in versions that send one unmeasured request before each pass, tells when that is over.

Where a version lacks one of them, that knowledge is missing from the result (null), not the result.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import importlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

from .dataset import Conversations
from .errors import DATASET_INVALID, ENGINE_BENCHMARK_FAILED, RunnerError
from .flags import BACKEND, OLDEST, sends_initial_request
from .spec import parse_version

MODULE: Final = "vllm.benchmarks.serve"
HEARTBEAT_SECONDS: Final = 0.02
MAX_CAUSES: Final = 4


class _Sampled(Exception):
    """Leaves `main` right after the prompts were drawn."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RunnerError(ENGINE_BENCHMARK_FAILED, f"the argument parser of {MODULE} refuses: {message}")


@dataclasses.dataclass
class Window:
    """What is seen from inside one pass. Times: Unix seconds; CPU: seconds of the whole process."""

    started_at: float = 0.0
    finished_at: float = 0.0
    cpu_started: float = 0.0
    cpu_finished: float = 0.0
    max_lag: float | None = None
    total_lag: float = 0.0
    beats: int = 0
    expected_output_lens: list[int] | None = None
    result: dict[str, Any] | None = None
    on_start: Callable[[], None] | None = None
    open: bool = False
    last_beat: float = 0.0

    def start(self) -> None:
        """The measured time begins (again: an unmeasured request comes first in old versions)."""
        if self.on_start is not None:
            self.on_start()
        self.max_lag, self.total_lag, self.beats = None, 0.0, 0
        self.started_at = time.time()
        self.cpu_started = time.process_time()
        self.last_beat = time.perf_counter()
        self.open = True

    def beat(self) -> None:
        """The heartbeat woke up; what it overslept is the lag of the event loop."""
        now = time.perf_counter()
        if self.open:
            lag = max(0.0, now - self.last_beat - HEARTBEAT_SECONDS)
            self.max_lag = max(self.max_lag or 0.0, lag)
            self.total_lag += lag
            self.beats += 1
        self.last_beat = now

    @property
    def mean_lag(self) -> float | None:
        """How late a beat came in the mean [s]: what the loop added to anything it had to do at a random moment."""
        return self.total_lag / self.beats if self.beats else None

    def finish(self) -> None:
        """The measured time is over; a heartbeat that is overdue at this moment counts."""
        if self.open:
            self.beat()
            self.open = False
            self.finished_at = time.time()
            self.cpu_finished = time.process_time()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one call of `main` ended: exit status as of a process, and the reason if it is not 0."""

    exit_code: int
    error: str | None


@dataclasses.dataclass(frozen=True)
class _Drawn:
    samples: list[Any]
    random_state: object
    numpy_state: object


def import_benchmark(fallback_version: tuple[int, int, int]) -> EngineBenchmark:
    """Import vLLM's benchmark: 10 to 20 s. `fallback_version` is used if vLLM does not know its own (dev builds).

    Raises RunnerError (EngineBenchmarkFailed).
    """
    try:
        module = importlib.import_module(MODULE)
        reported = str(getattr(importlib.import_module("vllm"), "__version__", ""))
    except (Exception, SystemExit) as error:
        raise RunnerError(ENGINE_BENCHMARK_FAILED, f"cannot import {MODULE}: {describe(error)}") from error
    version = parse_version(reported)
    if version is None or version < OLDEST:
        version = fallback_version
    return EngineBenchmark(module, version, reported)


def describe(error: BaseException) -> str:
    """An exception and what it was raised from, in one line."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(texts) < MAX_CAUSES:
        texts.append(f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__)
        cause = cause.__cause__
    return "; caused by ".join(texts)


class EngineBenchmark:
    """The imported benchmark, with its wrapped globals."""

    def __init__(self, module: Any, version: tuple[int, int, int], reported_version: str) -> None:
        self.version = version
        self.reported_version = reported_version
        self._module = module
        self._window: Window | None = None
        self._sampling = False
        self._drawn: dict[tuple[object, ...], _Drawn] = {}
        self._tokenizers: dict[object, Any] = {}
        self._parser = _Parser(prog="vllm bench serve", allow_abbrev=False)
        try:
            module.add_cli_args(self._parser)
            self._main = module.main
        except Exception as error:
            raise RunnerError(ENGINE_BENCHMARK_FAILED, f"{MODULE} is not as expected: {describe(error)}") from error
        for name, wrap in (
            ("get_tokenizer", self._wrap_get_tokenizer),
            ("get_samples", self._wrap_get_samples),
            ("benchmark", self._wrap_benchmark),
            ("calculate_metrics", self._wrap_calculate_metrics),
        ):
            original = getattr(module, name, None)
            if callable(original):
                setattr(module, name, wrap(original))

    def draw(self, arguments: Sequence[str], conversations: Conversations | None) -> int | None:
        """Draw the prompts for such a pass ahead of time: number of different prompts, None if that is not known.

        Raises RunnerError (DatasetInvalid if no request can be made of the data).
        """
        if not callable(getattr(self._module, "get_samples", None)):
            return None
        before = set(self._drawn)
        self._sampling = True
        try:
            with _parsed_once(self._module, conversations):
                outcome = self.run(arguments, Window())
        finally:
            self._sampling = False
        if outcome.exit_code != 0:
            raise RunnerError(ENGINE_BENCHMARK_FAILED, f"drawing the prompts failed: {outcome.error}")
        new = [drawn for key, drawn in self._drawn.items() if key not in before]
        return len({id(getattr(sample, "prompt", sample)) for sample in new[0].samples}) if new else None

    def run(self, arguments: Sequence[str], window: Window) -> Outcome:
        """One pass. Raises RunnerError where the failure is known for what it is, else reports it as an outcome."""
        args = self._parser.parse_args(list(arguments))
        self._window = window
        try:
            self._main(args)
        except _Sampled:
            return Outcome(0, None)
        except SystemExit as error:
            code = error.code
            if code is None or code == 0:
                return Outcome(0, None)
            return Outcome(code if isinstance(code, int) else 1, f"vllm bench serve exited: {code}")
        except RunnerError:
            raise
        except Exception as error:  # noqa: BLE001  any failure of vLLM's benchmark is a result
            return Outcome(1, describe(error))
        finally:
            self._window = None
            window.finish()
        return Outcome(0, None)

    def _wrap_get_tokenizer(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_tokenizer(*args: Any, **kwargs: Any) -> Any:
            key = repr((args, sorted(kwargs.items())))
            if key not in self._tokenizers:
                self._tokenizers[key] = original(*args, **kwargs)
            return self._tokenizers[key]

        return get_tokenizer

    def _wrap_get_samples(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_samples(args: Any, *rest: Any, **kwargs: Any) -> Any:
            key = (args.dataset_name, getattr(args, "dataset_path", None), args.num_prompts, args.seed)
            drawn = self._drawn.get(key)
            if drawn is None:
                drawn = _draw(original, args, *rest, **kwargs)
                if self._sampling:
                    self._drawn[key] = drawn
            if self._sampling:
                raise _Sampled
            _restore_random_state(drawn)
            return _with_request_ids(drawn.samples, getattr(args, "request_id_prefix", ""))

        return get_samples

    def _wrap_benchmark(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def benchmark(*args: Any, **kwargs: Any) -> Any:
            window = self._window
            if window is None or self._sampling:
                raise _Sampled
            with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
                window.expected_output_lens = [int(r.expected_output_len) for r in kwargs["input_requests"]]
            heartbeat = asyncio.get_running_loop().create_task(_heartbeat(window))
            try:
                with self._initial_request_unmeasured(window):
                    window.start()
                    result = await original(*args, **kwargs)
            finally:
                window.finish()
                heartbeat.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await heartbeat
            if isinstance(result, dict):
                # A copy: `main` deletes the details from the original.
                window.result = dict(result)
            return result

        return benchmark

    def _wrap_calculate_metrics(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def calculate_metrics(*args: Any, **kwargs: Any) -> Any:
            if self._window is not None:
                self._window.finish()
            return original(*args, **kwargs)

        return calculate_metrics

    @contextlib.contextmanager
    def _initial_request_unmeasured(self, window: Window) -> Iterator[None]:
        functions = getattr(self._module, "ASYNC_REQUEST_FUNCS", None)
        if not sends_initial_request(self.version) or not isinstance(functions, dict) or BACKEND not in functions:
            yield
            return
        original = functions[BACKEND]
        over = False

        @functools.wraps(original)
        async def request(*args: Any, **kwargs: Any) -> Any:
            nonlocal over
            output = await original(*args, **kwargs)
            if not over and getattr(output, "success", True):
                over = True
                window.start()
            return output

        functions[BACKEND] = request
        try:
            yield
        finally:
            functions[BACKEND] = original


async def _heartbeat(window: Window) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        window.beat()


def _draw(get_samples: Callable[..., Any], args: Any, *rest: Any, **kwargs: Any) -> _Drawn:
    try:
        samples = get_samples(args, *rest, **kwargs)
    except Exception as error:
        # Every version fails with an IndexError of random.choice when it has nothing to repeat.
        hint = " (no conversation fits vLLM's limits of 4 to 1024 prompt tokens and 2048 in all)"
        raise RunnerError(
            DATASET_INVALID,
            f"vLLM cannot draw prompts from {args.dataset_path or args.dataset_name}: {describe(error)}"
            f"{hint if isinstance(error, IndexError) else ''}",
        ) from error
    if not samples:
        raise RunnerError(DATASET_INVALID, f"{args.dataset_path or args.dataset_name}: no usable prompt")
    numpy = sys.modules.get("numpy")
    return _Drawn(list(samples), random.getstate(), numpy.random.get_state() if numpy else None)


def _restore_random_state(drawn: _Drawn) -> None:
    random.setstate(drawn.random_state)  # type: ignore[arg-type]
    numpy = sys.modules.get("numpy")
    if numpy is not None and drawn.numpy_state is not None:
        numpy.random.set_state(drawn.numpy_state)


def _with_request_ids(samples: list[Any], prefix: str) -> list[Any]:
    """Copies of the samples with the ids of this pass (versions before 0.10.2 know no ids)."""
    if not samples or not dataclasses.is_dataclass(samples[0]):
        return samples
    if "request_id" not in {field.name for field in dataclasses.fields(samples[0])}:
        return [dataclasses.replace(sample) for sample in samples]
    return [dataclasses.replace(sample, request_id=f"{prefix}{index}") for index, sample in enumerate(samples)]


class _JsonOfOneFile:
    """The module `json`, except that loading one known file returns what was parsed already."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    def load(self, file: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(file, "name", None) == self._conversations.path:
            return self._conversations.entries
        return json.load(file, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(json, name)


@contextlib.contextmanager
def _parsed_once(module: Any, conversations: Conversations | None) -> Iterator[None]:
    """While this holds, vLLM's dataset module does not parse that file again."""
    samples = getattr(module, "get_samples", None)
    home = sys.modules.get(getattr(samples, "__module__", ""))
    if conversations is None or home is None or getattr(home, "json", None) is not json:
        yield
        return
    home.json = _JsonOfOneFile(conversations)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        home.json = json  # type: ignore[attr-defined]
