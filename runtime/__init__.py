"""Execution with NumPy: number formats, op meanings, checkpoints, state, prefill and decode."""
