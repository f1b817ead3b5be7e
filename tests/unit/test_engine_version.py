"""Versions and image references."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.engine.version import NEWEST, OLDEST, EngineVersion, is_newer_than_known, version_of_image


@pytest.mark.parametrize(
    ("text", "numbers", "shown"),
    [
        ("0.24.0", (0, 24, 0, 0, 0), "0.24.0"),
        ("v0.24.0", (0, 24, 0, 0, 0), "0.24.0"),
        (" 0.24 ", (0, 24, 0, 0, 0), "0.24"),
        ("0.32.0+cpu", (0, 32, 0, 0, 0), "0.32.0+cpu"),
        ("0.10.2.post2", (0, 10, 2, 0, 2), "0.10.2.post2"),
        ("0.10.1.1", (0, 10, 1, 1, 0), "0.10.1.1"),
        ("0.8.5post1", (0, 8, 5, 0, 1), "0.8.5post1"),
        ("0.25.0rc2", (0, 25, 0, 0, 0), "0.25.0rc2"),
        ("0.25.1.dev12+gabc123", (0, 25, 1, 0, 0), "0.25.1.dev12+gabc123"),
    ],
)
def test_parse(text: str, numbers: tuple[int, ...], shown: str) -> None:
    version = EngineVersion.parse(text)
    assert (version.major, version.minor, version.patch, version.micro, version.post) == numbers
    assert str(version) == shown


@pytest.mark.parametrize(
    "text", ["", "latest", "24", "0.x.1", "0.24.0 or newer", "0..1", "-0.24.0", "0.24.0\n1", "٠.٢٤.٠"]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="not a vLLM version"):
        EngineVersion.parse(text)


def test_parse_refuses_a_long_text_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="not a vLLM version") as refused:
        EngineVersion.parse("0." * 100_000)
    assert len(str(refused.value)) < 300


def test_order() -> None:
    ordered = ["0.9.2", "0.9.2.post1", "0.10.0", "0.10.1", "0.10.1.1", "0.10.2", "0.19.0", "0.19.1", "0.33.0", "1.0.0"]
    parsed = [EngineVersion.parse(text) for text in ordered]
    assert sorted(set(parsed)) == parsed
    assert EngineVersion.parse("0.32.0+cpu") == EngineVersion.parse("v0.32.0")
    assert len({EngineVersion.parse("0.32.0+cpu"), EngineVersion.parse("0.32.0")}) == 1


def test_known_range() -> None:
    assert str(OLDEST) == "0.9.2"
    assert not is_newer_than_known(EngineVersion.parse("0.33.7"))
    assert is_newer_than_known(EngineVersion.parse("0.34.0"))
    assert is_newer_than_known(EngineVersion.parse("1.0.0"))
    assert NEWEST.release == "0.33"


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.24.0", "0.24.0"),
        ("vllm/vllm-openai:v0.24.0-cu129", "0.24.0"),
        ("vllm/vllm-openai:v0.10.1.1", "0.10.1.1"),
        ("vllm/vllm-openai:v0.24.0@sha256:" + "0" * 64, "0.24.0"),
        ("localhost/quantbench/vllm-cpu:0.32.0", "0.32.0"),
        ("localhost:5000/team/vllm:0.9.2", "0.9.2"),
        ("vllm/vllm-openai:v0.11.0rc3", "0.11.0rc3"),
        ("vllm/vllm-openai:v0.8.5.post1", "0.8.5.post1"),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai:nightly-0123456789abcdef", None),
        ("vllm/vllm-openai", None),
        ("localhost:5000/vllm", None),
        ("vllm/vllm-openai@sha256:" + "0" * 64, None),
        ("company/inference:1.4.2", None),
        ("vllm/vllm-openai:v0.24", None),
        ("vllm/vllm-openai:0.24.0abc", None),
        ("", None),
        (":", None),
    ],
)
def test_version_of_image(image: str, version: str | None) -> None:
    found = version_of_image(image)
    assert (None if found is None else str(found)) == version


@given(st.text(max_size=300))
def test_any_text_is_a_version_or_a_value_error(text: str) -> None:
    version_of_image(text)
    with contextlib.suppress(ValueError):
        assert EngineVersion.parse(text) >= EngineVersion(0, 0)
