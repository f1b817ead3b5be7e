"""The flags that every server gets, and those that belong to the operator.

Sources: ``engine/arg_utils.py`` and the online server's ``cli_args.py`` (``entrypoints/openai/`` until 0.28) of
every minor version from 0.9.2 to 0.33.0; ``FlexibleArgumentParser`` for how arguments are spelled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantbench.api.names import Method
from quantbench.engine.methods import EngineSettings
from quantbench.engine.rows import Row
from quantbench.engine.version import EngineVersion

COMMON: tuple[Row, ...] = (
    Row("0.9.2", "", "0.9.2 engine/arg_utils.py: BooleanOptionalAction, on by default in the V1 engine",
        ("--no-enable-prefix-caching",),
        notes=("a repeat of the same prompts would find them in the cache: +27 % measured",)),
    Row("0.9.2", "", "0.9.2 config.py generation_config: 'auto' reads the checkpoint's generation_config.json",
        ("--generation-config=vllm",),
        notes=("checkpoints bring different defaults, and some count at temperature 0 too: repetition_penalty costs "
               "time and max_new_tokens cuts outputs short",)),
    Row("0.9.2", "", "0.9.2 entrypoints/openai/cli_args.py", ("--disable-uvicorn-access-log",),
        notes=("a line per request would push the start-up lines, which attest the configuration, out of the log",)),
    Row("0.9.2", "0.10.1", "0.10.0 engine/arg_utils.py: requests are logged by default; opt-in since 0.10.1, flag "
        "gone in 0.17", ("--disable-log-requests",), notes=("a line per request costs time",)),
    Row("0.9.2", "", "0.9.2 envs.py", env=(("VLLM_NO_USAGE_STATS", "1"),), notes=("nothing is reported to anyone",)),
    Row("0.14", "", "0.14 envs.py: prints every layer with its quantization class once",
        env=(("VLLM_LOG_MODEL_INSPECTION", "1"),), notes=("evidence of what really runs",)),
)  # fmt: skip
"""What every server gets, whatever its variant; the notes say why."""


def common_flags(version: EngineVersion) -> tuple[str, ...]:
    """Flags of every server of this version."""
    return tuple(arg for row in COMMON if row.holds(version) for arg in row.args)


def common_env(version: EngineVersion) -> tuple[tuple[str, str], ...]:
    """Environment of every server of this version."""
    return tuple(pair for row in COMMON if row.holds(version) for pair in row.env)


_FIXED = "the operator sets it: it reaches the server itself"
_PLAIN = "the operator speaks plain HTTP to the pod's own address"
_ONE_POD = "a server is one pod"
_LOGS = "the operator reads the server's configuration from its log"
_PREFIX = "prefix caching stays off, because a repeat of the same prompts would be answered from the cache"
_SAMPLING = "set workload.temperature; all other sampling defaults are vLLM's own, the same for every variant"

IPV6_HOST = "--host=::"
"""For servers whose pods have IPv6 addresses: vLLM then listens on those, and on IPv4 as well."""

OWNED_FLAGS: Mapping[str, str] = {
    "--model": "set spec.model, or model of the variant",
    "--tokenizer": "set tokenizer of the variant",
    "--served-model-name": _FIXED,
    "--quantization": "set method of the variant (method Custom takes this flag)",
    "--quantization-config": "set method of the variant (method Custom takes this flag)",
    "--linear-backend": "set kernel of the variant (method Custom takes this flag)",
    "--kernel-config": "set kernel of the variant (method Custom takes this flag)",
    "--kv-cache-dtype": "set kvCacheDType of the variant (method Custom takes this flag)",
    "--max-num-seqs": "set engine.maxNumSeqs",
    "--max-num-batched-tokens": "set engine.maxNumBatchedTokens",
    "--tensor-parallel-size": "set gpus of the target",
    "--enable-prefix-caching": _PREFIX,
    "--no-enable-prefix-caching": _PREFIX,
    "--generation-config": _SAMPLING,
    "--override-generation-config": _SAMPLING,
    "--host": f"{_FIXED}; where pods have IPv6 addresses, {IPV6_HOST} may be added",
    "--port": _FIXED,
    "--uds": _FIXED,
    "--grpc": _PLAIN,
    "--root-path": _FIXED,
    "--api-key": "the load sends no key; keep others out with a NetworkPolicy",
    "--ssl-keyfile": _PLAIN,
    "--ssl-certfile": _PLAIN,
    "--ssl-ca-certs": _PLAIN,
    "--ssl-cert-reqs": _PLAIN,
    "--headless": _ONE_POD,
    "--nnodes": _ONE_POD,
    "--node-rank": _ONE_POD,
    "--master-addr": _ONE_POD,
    "--master-port": _ONE_POD,
    "--disable-log-stats": "the server's counters check the load generator's figures",
    "--no-disable-log-stats": "it is vLLM's default already",
    "--enable-log-requests": "a log line per request costs time",
    "--no-enable-log-requests": "the operator sets it where vLLM needs it",
    "--disable-log-requests": "the operator sets it where vLLM needs it",
    "--no-disable-log-requests": "a log line per request costs time",
    "--disable-uvicorn-access-log": "the operator sets it",
    "--no-disable-uvicorn-access-log": _LOGS,
    "--uvicorn-log-level": _LOGS,
    "--log-config-file": _LOGS,
    "--log-level": _LOGS,
    "--logging-config": _LOGS,
    "--config": "write its contents as args: the operator cannot look into a file in the pod",
}
"""Flags that ``args`` must not hold, with what to use instead."""

CUSTOM_FLAGS = frozenset(
    {"--quantization", "--quantization-config", "--linear-backend", "--kernel-config", "--kv-cache-dtype"}
)
"""Owned flags that method Custom may use: there the quantization is the user's own."""

OWNED_ENV: Mapping[str, str] = {
    "VLLM_DISABLED_KERNELS": "set kernel of the variant",
    "VLLM_TEST_FORCE_FP8_MARLIN": "set kernel of the variant",
    "VLLM_CPU_INT4_W4A8": "the operator sets it for 4-bit methods",
    "VLLM_LOG_MODEL_INSPECTION": "the operator sets it",
    "VLLM_LOGGING_LEVEL": _LOGS,
    "VLLM_CONFIGURE_LOGGING": _LOGS,
    "VLLM_LOGGING_CONFIG_PATH": _LOGS,
    "VLLM_LOGGING_PREFIX": _LOGS,
    "VLLM_API_KEY": OWNED_FLAGS["--api-key"],
    "VLLM_PORT": "leave it out: vLLM takes its own internal ports",
}
"""Environment variables that would undo what the operator relies on, with what to use instead."""

_SHORT = {"-q": "--quantization", "-tp": "--tensor-parallel-size", "-n": "--nnodes", "-r": "--node-rank"}
_ONE_LETTER = ("-q", "-n", "-r")
"""Of these argparse also takes the value in the same word (``-qfp8``)."""


def owned_flag(arg: str) -> str | None:
    """The owned flag that one word of a command line stands for, or None.

    As vLLM's parser does, this takes ``--flag``, ``--flag=value``, ``--flag.key=value``, underscores for dashes,
    short forms, and abbreviations. An abbreviation that fits several flags is refused by vLLM itself, so
    naming the first owned one costs nobody a working command line.
    """
    word = arg.strip()
    if not word.startswith("-") or word in ("-", "--"):
        return None
    if not word.startswith("--"):
        name = word.split("=", 1)[0]
        if name == "-t":
            return _SHORT["-tp"]
        return _SHORT.get(name) or next((_SHORT[short] for short in _ONE_LETTER if word.startswith(short)), None)
    name = word.split("=", 1)[0].split(".", 1)[0].replace("_", "-")
    if name in OWNED_FLAGS:
        return name
    return next((flag for flag in OWNED_FLAGS if flag.startswith(name)), None)


@dataclass(frozen=True)
class RefusedArgument:
    """One argument of a user that must not be passed on."""

    index: int
    """Its place in the list of arguments, from 0: makes the path of the field."""
    flag: str
    advice: str
    """What to do instead."""


def refused_arguments(args: Sequence[str], settings: EngineSettings, method: Method) -> tuple[RefusedArgument, ...]:
    """The arguments of ``args`` that belong to the operator, or that would override the variant's settings.

    A word that is the value of the word before it is not looked at unless it starts with a dash.
    """
    set_here = {arg.split("=", 1)[0] for arg in settings.args}
    refused = []
    for index, arg in enumerate(args):
        flag = owned_flag(arg)
        if arg == IPV6_HOST:
            continue
        if flag is not None and not (method is Method.CUSTOM and flag in CUSTOM_FLAGS):
            refused.append(RefusedArgument(index, flag, OWNED_FLAGS[flag]))
            continue
        name = arg.split("=", 1)[0].replace("_", "-")
        if flag is None and name in set_here:
            advice = f"method {method.value} sets {name} itself; method Custom leaves it to args"
            refused.append(RefusedArgument(index, name, advice))
    return tuple(refused)
