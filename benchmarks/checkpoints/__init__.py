"""Maker of Qwen3-shaped checkpoints with random weights, unquantized and really quantized.

The weights mean nothing, so a model made here answers nonsense: speed, memory and start-up are those of a
real checkpoint of this shape, quality is not. `shapes`, `schemes` and `agreement` need the standard library
only; the rest needs torch, safetensors, tokenizers and compressed-tensors, which every vLLM environment has.
"""
