"""A byte-level BPE tokenizer learnt from text at hand, in the files vLLM and transformers load.

Text: what is given (plain text, or a ShareGPT file, whose turns are taken) and the Python standard library's
own sources, which are on every machine that can run this. The result depends on the text only; another Python
release brings another library and so another tokenizer, but equal vocabulary size.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.checkpoints.shapes import Shape
from benchmarks.datasets import sharegpt

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = [END_OF_TEXT, TURN_START, TURN_END]

GIVEN_CHARACTERS = 12_000_000
LIBRARY_CHARACTERS = 4_000_000

# Tests and data of the library: Debian leaves some out, and they say little.
_LIBRARY_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def special_token_ids() -> dict[str, int]:
    """Ids for config.json: the trainer numbers special tokens first, from 0."""
    return {"bos": 0, "eos": 2, "pad": 0}


def corpus(given: Sequence[Path]) -> list[str]:
    """Texts to learn from, in a fixed order and bounded in size.

    Raises OSError when a given file cannot be read, `sharegpt.DatasetError` when a given ``.json`` file is
    not a usable ShareGPT file.
    """
    texts = list(_bounded((text for path in given for text in _given_texts(path)), GIVEN_CHARACTERS))
    texts.extend(_bounded(_library_texts(), LIBRARY_CHARACTERS))
    return texts


def digest(texts: Sequence[str]) -> str:
    """SHA-256 of the texts, which the tokenizer depends on."""
    state = hashlib.sha256()
    for text in texts:
        state.update(text.encode("utf-8", errors="replace"))
        state.update(b"\0")
    return state.hexdigest()


def files(shape: Shape, texts: Sequence[str]) -> dict[str, str]:
    """Contents of tokenizer.json, tokenizer_config.json and generation_config.json by file name."""
    ids = special_token_ids()
    configuration = {
        "add_prefix_space": False,
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "model_max_length": shape.max_position,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    # Qwen3-8B's sampling defaults: a request that does not ask for temperature 0 gets these, as in real life.
    generation = {
        "bos_token_id": ids["bos"],
        "do_sample": True,
        "eos_token_id": [ids["eos"], ids["pad"]],
        "pad_token_id": ids["pad"],
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
    }
    return {
        "tokenizer.json": train(texts, shape.bpe_vocabulary, shape.vocabulary),
        "tokenizer_config.json": json.dumps(configuration, indent=2) + "\n",
        "generation_config.json": json.dumps(generation, indent=2) + "\n",
    }


def train(texts: Sequence[str], learnt: int, total: int) -> str:
    """tokenizer.json with at most ``learnt`` entries from the texts, filled up with unused ones to ``total``.

    Random weights emit every id of the model's vocabulary, so each id must have a text. The unused entries
    cannot come out of encoding, for no merge leads to them.
    """
    from tokenizers import (  # type: ignore[import-not-found,unused-ignore]
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=learnt,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    for number in range(len(vocabulary), total):
        vocabulary[f"<|unused_{number}|>"] = number
    return json.dumps(state, ensure_ascii=False, indent=1) + "\n"


def _given_texts(path: Path) -> Iterator[str]:
    if path.suffix == ".json":
        for conversation in sharegpt.read(path).conversations:
            yield conversation.prompt
            yield conversation.answer
    else:
        yield path.read_text(encoding="utf-8", errors="replace")


def _library_texts() -> Iterator[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())
    for path in paths:
        if not _LIBRARY_SKIPPED.intersection(path.relative_to(root).parts):
            yield path.read_text(encoding="utf-8", errors="replace")


def _bounded(texts: Iterator[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        yield text[:characters]
        characters -= len(text)
