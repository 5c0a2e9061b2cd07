"""Counts from what tokens chose: from routings, and from token ids and a layer's table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def hash_layer_loads(table: Integers, ids: Iterable[int] | Integers, experts: int) -> Floats:
    """[E]: exactly what token ids [N] give in a layer that chooses by the table [V, K].

    `loads.token_id` for an id outside the table.
    """
    numbers = np.asarray(ids, np.int64).ravel()
    wrong = (numbers < 0) | (numbers >= len(table))
    if wrong.any():
        at = int(wrong.argmax())
        raise UserError("loads.token_id", at=at, found=int(numbers[at]), limit=len(table) - 1)
    return routing_loads(table[numbers], experts)


def routing_loads(chosen: Integers, experts: int) -> Floats:
    """[E]: how many tokens chose each expert, from the experts [N, K] of each token."""
    check_experts(chosen, experts, "a routing")
    return np.bincount(chosen.ravel(), minlength=experts).astype(np.float64)


def pairs_of(chosen: Integers, experts: int) -> Floats:
    """[E, E]: how many tokens chose both experts, from the experts [N, K]; the diagonal is 0."""
    check_experts(chosen, experts, "a routing")
    choices = chosen.shape[1]
    pairs = np.zeros(experts * experts)
    for one in range(choices):
        for other in range(one):
            keys = chosen[:, one] * experts + chosen[:, other]
            pairs += np.bincount(keys, minlength=experts * experts)
    square = pairs.reshape(experts, experts)
    both: Floats = square + square.T
    np.fill_diagonal(both, 0)
    return both


def check_experts(chosen: Integers, experts: int, name: str) -> None:
    """That all are experts of the model; `loads.chosen` calls them `name`."""
    wrong = (chosen < 0) | (chosen >= experts)
    if wrong.any():
        at = [int(index) for index in np.unravel_index(int(wrong.argmax()), chosen.shape)]
        found = int(chosen[tuple(at)])
        raise UserError("loads.chosen", name=name, limit=experts - 1, at=at, found=found)
