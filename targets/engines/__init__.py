"""Serving engines: how each splits tokens over replicas, balances experts and loads placements."""
