"""Machines and what lowers to them."""
