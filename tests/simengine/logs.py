"""The log of a real vLLM server, cut into its start, its end under load and its shutdown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from simengine.config import LogLines

FOLDER = Path(__file__).resolve().parents[1] / "data" / "engine" / "logs"
KILLED = "cpu-0.32-engine-killed-serving.log"
_READY = re.compile(r"^.*Application startup complete\.\n", re.MULTILINE)
_SHUTDOWN = re.compile(r"^.*\[shutdown\]", re.MULTILINE)
_LOADED = re.compile(r"^(.*)base_loader\.py:\d+\] Initializing model took", re.MULTILINE)


@dataclass(frozen=True)
class Log:
    """What is written when."""

    start: str
    """Until the server listens; all of it where it never does."""
    shutdown: str
    """After SIGTERM."""


def read_log(lines: LogLines) -> Log:
    """The log with its changes.

    Raises:
        ValueError: a text that is to be replaced or left out is not there.
    """
    text = (FOLDER / lines.file).read_text()
    for old in (*lines.without, *(old for old, _ in lines.replace)):
        if old not in text:
            raise ValueError(f"{lines.file} does not say {old!r}")
    for old, new in lines.replace:
        text = text.replace(old, new)
    kept = [line for line in text.splitlines(keepends=True) if not any(out in line for out in lines.without)]
    text = "".join(kept)
    if lines.structure is not None:
        text = _with_structure(text, lines.structure)
    ready = _READY.search(text)
    if ready is None:
        return Log(text, "")
    shutdown = _SHUTDOWN.search(text, ready.end())
    return Log(text[: ready.end()], text[shutdown.start() :] if shutdown else "")


def death() -> str:
    """What a real server wrote after its engine had been killed while serving."""
    text = (FOLDER / KILLED).read_text()
    ready = _READY.search(text)
    assert ready is not None
    return text[ready.end() :]


def _with_structure(text: str, quantization: str) -> str:
    """What VLLM_LOG_MODEL_INSPECTION prints of a dense Qwen3, where vLLM prints it."""
    loaded = _LOADED.search(text)
    if loaded is None:
        raise ValueError("the log does not say when the model was made")
    quant = f"quant={quantization}, " if quantization else ""
    printed = [line.format(quant=quant) for line in STRUCTURE.splitlines()]
    added = "".join(f"{loaded[1]}base_loader.py:125] {line}\n" for line in printed)
    return text[: loaded.start()] + added + text[loaded.start() :]


STRUCTURE = """\
vLLM model structure:
Qwen3ForCausalLM()(
  (model): Qwen3Model()(
    (embed_tokens): VocabParallelEmbedding(num_embeddings=8192, embedding_dim=512, tp_size=1)
    (layers): ModuleList()(
      (0-5): 6 x Qwen3DecoderLayer()(
        (self_attn): Qwen3Attention()(
          (qkv_proj): QKVParallelLinear({quant}in_features=512, output_features=1024, bias=False, tp_size=1)
          (o_proj): RowParallelLinear({quant}in_features=512, output_features=512, bias=False, tp_size=1)
        )
        (mlp): Qwen2MLP()(
          (gate_up_proj): MergedColumnParallelLinear({quant}in_features=512, output_features=3072, bias=False)
          (down_proj): RowParallelLinear({quant}in_features=1536, output_features=512, bias=False, tp_size=1)
          (act_fn): SiluAndMul()
        )
      )
    )
    (norm): RMSNorm(hidden_size=512, eps=1e-06)
  )
  (lm_head): ParallelLMHead(num_embeddings=8192, embedding_dim=512, tp_size=1)
)
"""
"""As a server of vLLM 0.32 prints it, shortened."""
