# mypy: ignore-errors
"""A stand-in for vLLM, of the version that FAKE_VLLM_VERSION says: only what the load runner imports of it is here."""

import os

__version__ = os.environ.get("FAKE_VLLM_VERSION", "0.32.0")
