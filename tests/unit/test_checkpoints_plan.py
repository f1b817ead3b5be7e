"""What needs no torch: shapes, configurations, markers, the command line's refusals, comparing log probabilities."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from benchmarks.checkpoints import agreement, cli, marker, tokenizer
from benchmarks.checkpoints.recipe import Recipe
from benchmarks.checkpoints.schemes import QUANTIZED_MODULES, SCHEMES
from benchmarks.checkpoints.shapes import QWEN3_8B, SHAPES, TINY, Shape

FOLDER = Path(cli.__file__).parent
WITHOUT_TORCH = importlib.util.find_spec("torch") is None


def test_parameter_counts() -> None:
    # Qwen3-8B's model card: 8.2 B parameters, 6.95 B of them not in embeddings.
    assert QWEN3_8B.parameters == 8_190_735_360
    embeddings = sum(tensor.elements for tensor in QWEN3_8B.embedding_tensors())
    assert round((QWEN3_8B.parameters - embeddings) / 1e9, 2) == 6.95
    assert 22e6 < TINY.parameters < 24e6


@pytest.mark.parametrize("shape", SHAPES.values(), ids=str)
def test_every_linear_layer_fits_groups_and_blocks(shape: Shape) -> None:
    for group in shape.groups():
        for tensor in group:
            if tensor.kind == "linear":
                assert tensor.shape[0] % 128 == 0, tensor
                assert tensor.shape[1] % 128 == 0, tensor


def test_tensor_names_are_unique_and_tied_embeddings_have_no_output_layer() -> None:
    names = [tensor.name for group in QWEN3_8B.groups() for tensor in group]
    assert len(names) == len(set(names)) == 3 + 36 * 11
    assert "lm_head.weight" in names
    assert "lm_head.weight" not in [tensor.name for group in TINY.groups() for tensor in group]


def test_config_of_qwen3_8b_is_that_of_the_published_model() -> None:
    config = QWEN3_8B.config("bfloat16", {"bos": 151643, "eos": 151645, "pad": 151643})
    assert config.pop("pad_token_id") == 151643
    # Qwen/Qwen3-8B, config.json, without its transformers_version.
    assert config == {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 12288,
        "max_position_embeddings": 40960,
        "max_window_layers": 36,
        "model_type": "qwen3",
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    }


def test_every_linear_layer_is_named_to_gptq() -> None:
    linear = {tensor.name for tensor in TINY.layer_tensors(0) if tensor.kind == "linear"}
    assert linear == {f"model.layers.0.{module}.weight" for module in QUANTIZED_MODULES}
    for scheme in ("gptq-int4", "gptq-int8"):
        config = SCHEMES[scheme].quantization_config
        assert config is not None
        assert config["modules_in_block_to_quantize"] == QUANTIZED_MODULES


@pytest.mark.parametrize(
    ("scheme", "method", "layout", "activations"),
    [
        ("int8-w8a8", "compressed-tensors", "int-quantized", ("token", True)),
        ("int8-static", "compressed-tensors", "int-quantized", ("tensor", False)),
        ("w4a16", "compressed-tensors", "pack-quantized", None),
        ("w4a16-asym", "compressed-tensors", "pack-quantized", None),
        ("fp8-dynamic", "compressed-tensors", "float-quantized", ("token", True)),
        ("fp8-static", "compressed-tensors", "float-quantized", ("tensor", False)),
    ],
)
def test_compressed_tensors_configurations(
    scheme: str, method: str, layout: str, activations: tuple[str, bool] | None
) -> None:
    config = json.loads(json.dumps(SCHEMES[scheme].quantization_config))
    group = config["config_groups"]["group_0"]
    found = group["input_activations"]
    assert (config["quant_method"], config["format"], config["ignore"]) == (method, layout, ["lm_head"])
    assert (found and (found["strategy"], found["dynamic"])) == activations


class TestMarker:
    PARAMETERS: dict[str, object] = {"seed": 0, "shape": {"layers": 2}}

    def whole(self, tmp_path: Path) -> Path:
        (tmp_path / "model.safetensors").write_bytes(b"12345")
        assert marker.write(tmp_path, self.PARAMETERS) == {"model.safetensors": 5}
        return tmp_path

    def test_whole(self, tmp_path: Path) -> None:
        assert marker.is_complete(self.whole(tmp_path), self.PARAMETERS)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / marker.NAME).unlink(),
            lambda folder: (folder / marker.NAME).write_text("{", encoding="utf-8"),
            lambda folder: (folder / marker.NAME).write_text("[1]", encoding="utf-8"),
            lambda folder: (folder / marker.NAME).write_text("{}", encoding="utf-8"),
            lambda folder: (folder / "model.safetensors").write_bytes(b"1234"),
            lambda folder: (folder / "model.safetensors").unlink(),
        ],
        ids=["missing", "not JSON", "a list", "empty", "truncated file", "missing file"],
    )
    def test_damaged(self, tmp_path: Path, damage: Callable[[Path], object]) -> None:
        folder = self.whole(tmp_path)
        damage(folder)
        assert not marker.is_complete(folder, self.PARAMETERS)

    def test_other_parameters(self, tmp_path: Path) -> None:
        folder = self.whole(tmp_path)
        assert not marker.is_complete(folder, self.PARAMETERS | {"seed": 1})
        assert not marker.is_complete(folder, {"seed": 0})


def test_each_input_makes_another_recipe() -> None:
    base = Recipe(TINY, 0, "text")
    bf16, awq = SCHEMES["bf16"], SCHEMES["awq"]
    variants = [
        base.parameters(bf16),
        base.parameters(awq),
        Recipe(TINY, 1, "text").parameters(bf16),
        Recipe(TINY, 0, "other").parameters(bf16),
        Recipe(TINY.with_layers(2), 0, "text").parameters(bf16),
    ]
    assert len({json.dumps(variant) for variant in variants}) == len(variants)


class TestCorpus:
    def test_the_library_alone_is_deterministic_and_large_enough(self) -> None:
        texts = tokenizer.corpus([])
        assert 1_000_000 < sum(map(len, texts)) <= tokenizer.LIBRARY_CHARACTERS
        assert tokenizer.digest(texts) == tokenizer.digest(tokenizer.corpus([]))

    def test_given_text_comes_first_and_changes_the_digest(self, tmp_path: Path) -> None:
        plain, turns = tmp_path / "a.txt", tmp_path / "b.json"
        plain.write_text("plain text", encoding="utf-8")
        turns.write_text('[{"conversations": [{"value": "asked"}, {"value": "told"}]}]', encoding="utf-8")
        texts = tokenizer.corpus([plain, turns])
        assert texts[:3] == ["plain text", "asked", "told"]
        assert tokenizer.digest(texts) != tokenizer.digest(tokenizer.corpus([]))

    def test_given_text_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tokenizer, "GIVEN_CHARACTERS", 7)
        (tmp_path / "a.txt").write_text("12345", encoding="utf-8")
        (tmp_path / "b.txt").write_text("12345", encoding="utf-8")
        (tmp_path / "c.txt").write_text("12345", encoding="utf-8")
        texts = tokenizer.corpus([tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt"])
        assert texts[:2] == ["12345", "12"]
        assert texts[2] != "12345"


def run_maker(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class TestCommandLine:
    @pytest.mark.skipif(not WITHOUT_TORCH, reason="torch is installed here, so nothing is missing")
    def test_missing_module_is_named(self, tmp_path: Path) -> None:
        finished = run_maker("--shape", "tiny", "--scheme", "bf16", "--out", str(tmp_path))
        assert finished.returncode == 1
        assert finished.stderr.startswith("checkpoints: error: the Python module ")
        assert "run this with the Python of a vLLM environment" in finished.stderr

    def test_whole_checkpoints_are_left_alone_without_torch(self, tmp_path: Path) -> None:
        recipe = Recipe(TINY, 3, tokenizer.digest(tokenizer.corpus([])))
        for name in ("bf16", "awq"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
            marker.write(tmp_path / name, recipe.parameters(SCHEMES[name]))
        arguments = ["--shape", "tiny", "--seed", "3", "--out", str(tmp_path)]
        finished = run_maker("--scheme", "bf16", "--scheme", "awq", "--scheme", "bf16", *arguments)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.count("already there") == 2

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["--shape", "huge", "--scheme", "bf16"], 2, "invalid choice: 'huge'"),
            (["--shape", "tiny", "--scheme", "int3"], 2, "invalid choice: 'int3'"),
            (["--shape", "tiny"], 2, "--scheme"),
            (["--shape", "tiny", "--scheme", "bf16", "--layers", "0"], 2, "must be at least 1"),
            (["--shape", "tiny", "--scheme", "bf16", "--seed", "-1"], 2, "must be at least 0"),
            (["--shape", "tiny", "--scheme", "bf16", "--text", "nothing"], 1, "No such file"),
            (["--shape", "tiny", "--scheme", "bf16", "--text", "nothing.json"], 1, "no such file"),
        ],
    )
    def test_refusals(self, tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
        finished = run_maker(*arguments, "--out", str(tmp_path))
        assert finished.returncode == status
        assert message in finished.stderr
        assert "Traceback" not in finished.stderr

    def test_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        finished = run_maker("--shape", "tiny", "--scheme", "bf16", "--out", str(tmp_path / "file"))
        assert finished.returncode == 1
        assert "Traceback" not in finished.stderr

    def test_full_disk_is_known_before_work_begins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=15 * 10**9))
        arguments = ["--shape", "qwen3-8b", "--scheme", "bf16", "--out", str(tmp_path)]
        assert cli.main(arguments) == 1
        assert "bf16 need about 16.4 GB, 15.0 GB are free" in capsys.readouterr().err

    def test_estimates(self) -> None:
        sizes = {name: cli.estimated_bytes(QWEN3_8B, scheme) / 1e9 for name, scheme in SCHEMES.items()}
        assert sizes["bf16"] == pytest.approx(16.4, abs=0.1)
        # Qwen/Qwen3-8B-FP8 and -AWQ on the hub are 9.4 and 6.1 GB.
        assert sizes["fp8-block"] == pytest.approx(9.4, abs=0.1)
        assert sizes["awq"] == pytest.approx(6.1, abs=0.1)


class FakeServer(BaseHTTPRequestHandler):
    """Lists one model and gives every prompt token the log probability -id / 1000."""

    def do_GET(self) -> None:
        self.answer({"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] != "tiny" or body["temperature"] != 0:
            self.send_error(400)
            return
        places = [{str(token): {"logprob": -token / 1000, "rank": 1}} for token in body["prompt"]]
        self.answer({"choices": [{"prompt_logprobs": [None, *places[1:]]}]})

    def answer(self, content: object) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


class TestAgreement:
    ASKED = agreement.prompts(2, 5, 0)

    def record(self, logprobs: list[float], likeliest: list[int] | None = None) -> agreement.Record:
        return agreement.Record("m", [[1]], logprobs, likeliest or [1] * len(logprobs))

    def test_prompts_are_reproducible(self) -> None:
        assert agreement.prompts(2, 5, 0) == self.ASKED != agreement.prompts(2, 5, 1)
        assert all(token in agreement.TOKEN_IDS for prompt in self.ASKED for token in prompt)

    def test_figures(self) -> None:
        one = self.record([-1.0, -2.0, -3.0, -4.0], [1, 2, 3, 4])
        other = self.record([-1.5, -2.5, -3.5, -4.5], [1, 2, 3, 5])
        found = agreement.compare(one, other)
        assert found.tokens == 4
        assert found.correlation == pytest.approx(1.0)
        assert found.root_mean_square == pytest.approx(0.5)
        assert found.same_likeliest == 0.75
        reverse = agreement.compare(one, self.record([-4.0, -3.0, -2.0, -1.0]))
        assert reverse.correlation == pytest.approx(-1.0)
        assert reverse.root_mean_square == pytest.approx(math.sqrt(5))

    @pytest.mark.parametrize("logprobs", [[-1.0, -2.0, -3.0], [-1.0] * 4, []])
    def test_what_cannot_be_compared(self, logprobs: list[float]) -> None:
        with pytest.raises(agreement.AgreementError):
            agreement.compare(self.record([-1.0, -2.0, -3.0, -4.0]), self.record(logprobs))

    def test_a_real_answer_is_parsed(self) -> None:
        answer = [
            None,
            {"7": {"logprob": -9.5, "rank": 200}, "3": {"logprob": -6.0, "rank": 1}},
            {"8": {"logprob": -5.0, "rank": 1}},
        ]
        assert agreement.parse_prompt_logprobs([5, 7, 8], answer) == ([-9.5, -5.0], [3, 8])

    @pytest.mark.parametrize(
        "answer", [None, [], [None], [None, None], [None, {}], [None, {"7": {"logprob": -1, "rank": 2}}]]
    )
    def test_an_unexpected_answer_is_an_error(self, answer: object) -> None:
        with pytest.raises(agreement.AgreementError, match="unexpected answer"):
            agreement.parse_prompt_logprobs([5, 7], answer)

    def test_record_and_compare_commands(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        server = HTTPServer(("127.0.0.1", 0), FakeServer)
        Thread(target=server.serve_forever, daemon=True).start()
        output = tmp_path / "one.json"
        url = f"http://127.0.0.1:{server.server_port}/"
        arguments = ["record", "--server", url, "--output", str(output), "--prompts", "2", "--length", "5"]
        assert agreement.main(arguments) == 0
        server.shutdown()
        server.server_close()
        assert agreement.main(["compare", str(output), str(output)]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["tokens"], printed["same_likeliest"]) == (8, 1.0)
        assert printed["correlation"] == pytest.approx(1.0)
        assert agreement.main(arguments) == 1
        assert "Connection refused" in capsys.readouterr().err
        assert agreement.main(["compare", str(output), str(tmp_path / "none.json")]) == 1
