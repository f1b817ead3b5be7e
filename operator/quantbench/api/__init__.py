"""The Kubernetes API of QuantBenchmark: group ``quantbench.dev``, version ``v1alpha1``."""
