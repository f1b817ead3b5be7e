"""Makers of the prompt files that a load reads."""
