"""The least possible largest load of a rank for one small layer, by mixed-integer programming.

What the search algorithms are measured against. Exponential: for 8 experts on 5 ranks or so.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.inputs import checked_load, checked_slots

SECONDS = 60.0
"""After which HiGHS gives up."""
WITHIN = 1e-5
"""Relative error: HiGHS takes constraints and whole numbers as kept to about 1e-6."""

Shares = Literal["weighted", "equal"]


def least_largest_load(load: ArrayLike, slots: ArrayLike, shares: Shares) -> float:
    """Of loads [E] on ranks of slots [G]; RuntimeError where HiGHS does not prove an optimum."""
    loads = checked_load(np.asarray(load, np.float64)[None])[0]
    held = checked_slots(slots, len(loads))
    mean = float(loads.sum()) / len(held)
    if not mean:
        return 0.0
    if shares == "equal":
        return mean * _equal(loads / mean, held)
    return mean * _weighted(loads / mean, held)


def _weighted(load: Floats, slots: Integers) -> float:
    """Variables: y [E, G], whether a rank holds an expert; x [E, G], its load there: <= y w."""
    experts, ranks = len(load), len(slots)
    cells = experts * ranks
    y, x = np.arange(2 * cells).reshape(2, experts, ranks)
    program = _Program(2 * cells, np.arange(2 * cells) < cells)
    for expert, size in enumerate(load):
        program.add(x[expert], 1.0, size, size)
        for rank in range(ranks):
            cell = [x[expert, rank], y[expert, rank]]
            program.add(cell, np.array([1.0, -size]), -np.inf, 0)
    for rank in range(ranks):
        program.add(y[:, rank], 1.0, 0, slots[rank])
    return program.least([(x[:, rank], np.ones(experts)) for rank in range(ranks)], slots)


def _equal(load: Floats, slots: Integers) -> float:
    """Variables: whether an expert lives on exactly the ranks of a set, for each set of ranks."""
    ranks = range(len(slots))
    sets = [set(of) for size in ranks for of in combinations(ranks, size + 1)]
    chosen = np.arange(len(load) * len(sets)).reshape(len(load), len(sets))
    program = _Program(chosen.size, np.ones(chosen.size, bool))
    part = load[:, None] / np.array([len(of) for of in sets])
    for expert in range(len(load)):
        program.add(chosen[expert], 1.0, 1, 1)
    loads = []
    for rank in ranks:
        held = np.array([rank in of for of in sets])
        program.add(chosen[:, held].ravel(), 1.0, 0, slots[rank])
        loads.append((chosen[:, held].ravel(), part[:, held].ravel()))
    return program.least(loads, slots)


class _Program:
    """Constraints row by row on variables of 0 or more, whole ones 0 or 1; the last of them is T,
    the largest load.
    """

    def __init__(self, variables: int, whole: np.ndarray) -> None:
        self.whole = np.append(whole, False)
        self.largest = variables
        self.rows: list[tuple[Floats, float, float]] = []

    def add(
        self, variables: ArrayLike, coefficients: float | Floats, low: float, high: float
    ) -> None:
        """low <= sum of coefficients times variables <= high."""
        row = np.zeros(self.largest + 1)
        row[np.asarray(variables)] = coefficients
        self.rows.append((row, low, high))

    def least(self, loads: list[tuple[Integers, Floats]], slots: Integers) -> float:
        """The least T, at or above the load of each rank: (variables, coefficients)."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        load = np.zeros((len(loads), self.largest + 1))
        for rank, (variables, coefficients) in enumerate(loads):
            load[rank, variables] = coefficients
            self.rows.append(
                (load[rank] - np.eye(1, self.largest + 1, self.largest)[0], -np.inf, 0)
            )
            if rank and slots[rank] == slots[rank - 1]:  # such ranks in the order of their loads
                self.rows.append((load[rank] - load[rank - 1], -np.inf, 0))
        matrix, low, high = (np.array(of) for of in zip(*self.rows, strict=True))
        found = milp(
            np.arange(self.largest + 1) == self.largest,
            integrality=self.whole,
            bounds=Bounds(0, np.where(self.whole, 1.0, np.inf)),
            constraints=LinearConstraint(matrix, low, high),
            options={"time_limit": SECONDS, "mip_rel_gap": WITHIN},
        )
        if found.status != 0:
            raise RuntimeError(f"HiGHS found no optimum: {found.message}")
        return float(found.fun)
