"""Whole checkpoints of a very small shape: files, determinism, interruption, and what transformers makes of them.

Needs torch, safetensors, tokenizers and transformers: runs in an engine environment, skips elsewhere.
"""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

NEEDS_ENGINE = "needs torch, safetensors, tokenizers and transformers: run in a vLLM environment"
torch: Any = pytest.importorskip("torch", reason=NEEDS_ENGINE)
transformers: Any = pytest.importorskip("transformers", reason=NEEDS_ENGINE)
safetensors: Any = pytest.importorskip("safetensors", reason=NEEDS_ENGINE)

from benchmarks.checkpoints import cli, maker, marker, quantize, tokenizer, weights, writer  # noqa: E402 - they need torch
from benchmarks.checkpoints.calibrate import Calibration  # noqa: E402
from benchmarks.checkpoints.recipe import Recipe  # noqa: E402
from benchmarks.checkpoints.schemes import SCHEMES  # noqa: E402
from benchmarks.checkpoints.shapes import SHAPES, Shape, TensorSpec  # noqa: E402

MICRO = Shape(
    name="micro",
    vocabulary=640,
    hidden=256,
    intermediate=384,
    layers=2,
    heads=4,
    key_value_heads=2,
    head_dimension=64,
    max_position=512,
    tied_embeddings=False,
    rope_theta=10_000.0,
    bpe_vocabulary=512,
)
TEXTS = ["def function(argument):\n    return argument + 1\n" * 20, "Grüße und Küsse. " * 20]
RECIPE = Recipe(MICRO, 7, tokenizer.digest(TEXTS))


def make(folder: Path, *names: str, workers: int = 2) -> list[str]:
    lines: list[str] = []
    maker.make(RECIPE, [SCHEMES[name] for name in names], TEXTS, folder, workers, lines.append)
    return lines


def tensors(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is not a dict
                assert name not in found
                found[name] = file.get_tensor(name)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    make(folder, *SCHEMES)
    return folder


@pytest.mark.parametrize("name", SCHEMES)
def test_folder_is_whole_and_readable_by_all(made: Path, name: str) -> None:
    folder = made / name
    assert marker.is_complete(folder, RECIPE.parameters(SCHEMES[name]))
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "quantbench-checkpoint.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    # The server runs as another user than the maker.
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in folder.iterdir())
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", SCHEMES)
def test_only_linear_layers_are_quantized(made: Path, name: str) -> None:
    found = tensors(made / name)
    plain = getattr(torch, SCHEMES[name].dtype)
    for group in MICRO.groups():
        for spec in group:
            if spec.kind == "linear" and SCHEMES[name].quantizer:
                prefix = spec.name.removesuffix("weight")
                stored = [found.pop(key).dtype for key in list(found) if key.startswith(prefix)]
                assert {torch.int8, torch.int32, torch.float8_e4m3fn}.intersection(stored), spec.name
            else:
                tensor = found.pop(spec.name)
                assert (tuple(tensor.shape), tensor.dtype) == (spec.shape, plain)
    assert found == {}


def test_bytes_depend_on_seed_and_scheme_only(made: Path, tmp_path: Path) -> None:
    """Not on the other schemes made at the same time, nor on the number of workers."""
    make(tmp_path / "alone", "awq", workers=1)
    assert contents(tmp_path / "alone" / "awq") == contents(made / "awq")
    other = Recipe(MICRO, 8, RECIPE.text_digest)
    maker.make(other, [SCHEMES["awq"]], TEXTS, tmp_path / "other", 2, lambda _: None)
    assert contents(tmp_path / "other" / "awq")["model.safetensors"] != contents(made / "awq")["model.safetensors"]


def test_weights_are_gaussian_and_independent() -> None:
    specs = [TensorSpec("a.weight", (512, 256), "linear"), TensorSpec("b.weight", (512, 256), "linear")]
    with ThreadPoolExecutor(2) as pool:
        one, other = (tensor.float().flatten() for tensor in weights.make(specs, 0, pool).values())
    assert abs(float(one.mean())) < 0.0005
    assert float(one.std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.02


def test_rows_of_all_chunks_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "CHUNK_ELEMENTS", 1000)
    with ThreadPoolExecutor(2) as pool:
        filled = weights.make([TensorSpec("a.weight", (101, 256), "linear")], 0, pool)["a.weight"].float()
    deviations = filled.std(dim=1)
    assert float(deviations.min()) > 0.015
    assert float(deviations.max()) < 0.025
    assert len({tuple(row) for row in filled.tolist()}) == 101


def test_transformers_loads_the_model_and_reads_the_config(made: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(made / "bf16", dtype=torch.bfloat16)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert sum(parameter.numel() for parameter in model.parameters()) == MICRO.parameters
    assert torch.equal(model.lm_head.weight, tensors(made / "bf16")["lm_head.weight"])
    for name, scheme in SCHEMES.items():
        config = transformers.AutoConfig.from_pretrained(made / name)
        assert str(config.dtype) == f"torch.{scheme.dtype}"
        assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (256, 2, 640)
        assert hasattr(config, "quantization_config") == (scheme.quantization_config is not None)


@pytest.mark.parametrize("device", ["cuda:97", "gpu", "meta"])
def test_a_device_that_cannot_compute_is_told(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--shape", "tiny", "--layers", "1", "--scheme", "bf16", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--device", device]) == 1
    assert f"checkpoints: error: --device: '{device}' cannot be used: " in capsys.readouterr().err
    assert not (tmp_path / "bf16").exists()


def test_a_device_with_too_little_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.32 GiB.\nand more")

    monkeypatch.setattr(quantize, "in_slices", full)
    monkeypatch.setitem(SHAPES, "tiny", MICRO)
    monkeypatch.setattr(tokenizer, "LIBRARY_CHARACTERS", 20_000)
    assert cli.main(["--shape", "tiny", "--layers", "1", "--scheme", "w4a16", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.endswith("--device cpu: CUDA out of memory. Tried to allocate 2.32 GiB.; fewer --workers need less\n")
    assert not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_writes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    # Without activation scales: they come from matrix products, whose last bits differ.
    names = [name for name, scheme in SCHEMES.items() if not scheme.activation_levels]
    maker.make(RECIPE, [SCHEMES[name] for name in names], TEXTS, tmp_path, 2, lambda _: None, "cuda")
    for name in names:
        assert contents(tmp_path / name) == contents(made / name)


def test_calibration_is_a_forward_pass_of_qwen3(made: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(made / "bf16", dtype=torch.float32)
    inputs: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            module.register_forward_hook(
                lambda _, arguments, __, name=f"{name}.weight": inputs.update({name: float(arguments[0].abs().max())})
            )
    found = tensors(made / "bf16")
    calibration = Calibration(MICRO, found["model.embed_tokens.weight"], RECIPE.seed)
    seen: dict[str, float] = {}
    for index in range(MICRO.layers):
        prefix = f"model.layers.{index}."
        seen |= calibration.layer(index, {key: found[key] for key in found if key.startswith(prefix)})
    with torch.no_grad():
        model(calibration.tokens[None])
    assert seen.keys() == inputs.keys()
    assert seen == pytest.approx(inputs, rel=1e-4)
    # And these are the scales that were stored.
    static = tensors(made / "fp8-static")
    for name, largest in seen.items():
        scale = float(static[name.replace("weight", "input_scale")])
        assert scale == pytest.approx(largest / 448, rel=2**-8)


def test_tokenizer_round_trip_and_every_id_has_a_text(made: Path) -> None:
    loaded = transformers.AutoTokenizer.from_pretrained(made / "bf16")
    text = "Grüße 你好 🙂\n\tdef f(x):  return 'x'"
    assert loaded.decode(loaded.encode(text)) == text
    assert len(loaded) == loaded.vocab_size == MICRO.vocabulary
    assert all(loaded.decode([number]) for number in range(MICRO.vocabulary))
    # Entries that only fill up are never produced by encoding, not even from their own text.
    filler = loaded.decode([MICRO.vocabulary - 1])
    assert filler == f"<|unused_{MICRO.vocabulary - 1}|>"
    assert MICRO.vocabulary - 1 not in loaded.encode(filler)
    ids = tokenizer.special_token_ids()
    assert (loaded.eos_token_id, loaded.pad_token_id) == (ids["eos"], ids["pad"])


def test_chat_template(made: Path) -> None:
    loaded = transformers.AutoTokenizer.from_pretrained(made / "bf16")
    messages = [{"role": "user", "content": "hello"}]
    text = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert loaded.encode(text)[0] == tokenizer.SPECIAL_TOKENS.index("<|im_start|>")


def test_training_is_deterministic() -> None:
    assert tokenizer.train(TEXTS, 512, 640) == tokenizer.train(TEXTS, 512, 640)


class TestWriter:
    def test_shards(self, tmp_path: Path) -> None:
        sharded = writer.CheckpointWriter(tmp_path / "model", shard_bytes=1000)
        for number in range(5):
            sharded.add(f"t{number}", torch.full((100,), number, dtype=torch.float32))
        sharded.finish({"config.json": "{}"}, {"a": 1})
        folder = tmp_path / "model"
        # 400 bytes a tensor: two to a shard of at most 1000.
        assert sorted(path.name for path in folder.glob("*.safetensors")) == [
            f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
        ]
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        assert index["metadata"] == {"total_size": 2000}
        assert index["weight_map"]["t4"] == "model-00003-of-00003.safetensors"
        for name, shard in index["weight_map"].items():
            with safetensors.safe_open(folder / shard, framework="pt") as file:
                assert float(file.get_tensor(name)[0]) == float(name[1:])
                assert file.metadata() == {"format": "pt"}

    def test_one_tensor_larger_than_a_shard(self, tmp_path: Path) -> None:
        sharded = writer.CheckpointWriter(tmp_path / "model", shard_bytes=10)
        sharded.add("large", torch.zeros(100))
        sharded.finish({}, {})
        assert (tmp_path / "model" / "model.safetensors").exists()

    def test_the_same_name_twice(self, tmp_path: Path) -> None:
        sharded = writer.CheckpointWriter(tmp_path / "model", shard_bytes=10)
        sharded.add("a", torch.zeros(100))
        sharded.add("b", torch.zeros(100))
        for name in ("a", "b"):
            with pytest.raises(ValueError, match="added twice"):
                sharded.add(name, torch.zeros(1))

    def test_an_old_checkpoint_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "left-over.safetensors").write_text("old")
        # What a killed run left.
        (tmp_path / ".model.partial").mkdir()
        (tmp_path / ".model.partial" / "shard-1").write_text("partial")
        fresh = writer.CheckpointWriter(folder)
        fresh.add("a", torch.zeros(1))
        assert (folder / "left-over.safetensors").exists()
        fresh.finish({}, {})
        assert {path.name for path in folder.iterdir()} == {"model.safetensors", marker.NAME}
        assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_failure_in_the_middle_leaves_nothing_and_keeps_what_was_there(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "bf16")
    before = contents(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path, "bf16", "w4a16")
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bf16"]


def test_command_line_makes_and_then_leaves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SHAPES, "tiny", MICRO)
    monkeypatch.setattr(tokenizer, "LIBRARY_CHARACTERS", 20_000)
    arguments = ["--shape", "tiny", "--scheme", "bf16", "--scheme", "w4a16", "--layers", "1", "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    assert "layer 1 of 1" in capsys.readouterr().out
    before = contents(tmp_path)
    # What was damaged since is made again, the rest is left.
    (tmp_path / "w4a16" / "tokenizer.json").unlink()
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "bf16: already there" in printed
    assert "w4a16: already there" not in printed
    assert contents(tmp_path) == before
