"""QuantBenchmark: measure which quantization of an LLM to serve with vLLM, on which GPU, and how many."""

__version__ = "0.1.0"
