"""Faults put into the sources one at a time: some test must notice each of them."""
