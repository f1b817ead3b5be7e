"""Whole studies, simulated with a known truth and judged by the operator's own statistics."""
