"""Small models and plans for the tests of loads and plans."""

from __future__ import annotations

from typing import Any

import numpy as np

from supertile.targets.placement.bounds import equal_bound, placement_bound
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.plan.model import ExpertLayers
from supertile.targets.plan.plan_figures import layer_figures
from supertile.targets.plan.plan_types import LayerPlan, PlanFile, exact_shares

TABLE = "layers.{l}.ffn.gate.tid2eid"
SPARSE = ExpertLayers("small", 3, (0, 1, 2), (0,), 4, 2, 10, TABLE)
"""Every layer has experts; layer 0 chooses by token id."""
MIXED = ExpertLayers("mixed", 4, (1, 3), (), 4, 2, 10)
"""Layers 0 and 2 are dense."""

ROWS = [[0, 1, 2, 0, 3, 1], [3, 2, 1, 0, 3, 0]]
"""Four experts in two slots on each of three ranks, in the layers 1 and 3 of `MIXED`."""
WEIGHTS = [[0.3, 0.5, 1, 0.7, 1, 0.5], [0.2, 1, 1, 1 / 3, 0.8, 2 / 3]]


def even(rows: Any = ROWS, slots: Any = (2, 2, 2), experts: int = 4) -> ExpertMap:
    return ExpertMap.equal(experts, np.array(slots), np.array(rows))


def weighted(
    rows: Any = ROWS, weights: Any = WEIGHTS, slots: Any = (2, 2, 2), experts: int = 4
) -> ExpertMap:
    return exact_shares(ExpertMap(experts, np.array(slots), np.array(rows), np.array(weights)))


def plan_of(placement: ExpertMap, numbers: Any = (1, 3), **changes: Any) -> PlanFile:
    """A plan with the placement and the figures that it gives under the loads, even ones where
    there are none; `changes` are fields of `PlanFile`."""
    equal = ExpertMap.equal(placement.experts, placement.slots, placement.expert)
    load = changes.get("load")
    load = np.ones((placement.layers, placement.experts)) if load is None else load
    is_even = np.array_equal(equal.share, placement.share)
    bound = (equal_bound if is_even else placement_bound)(load, placement.slots)
    figures = layer_figures(placement, load, bound)
    layers = tuple(
        LayerPlan(number, **one._asdict()) for number, one in zip(numbers, figures, strict=True)
    )
    values: dict[str, Any] = {
        "model": "mixed",
        "config": "config.json",
        "machine": "h200",
        "deployment": f"phase=decode ep={placement.ranks}",
        "loads": "zipf:0.6,seed=3",
        "seed": 3,
        "model_layers": 4,
        "shares": "equal" if is_even else "weighted",
        "placement": placement,
        "layers": layers,
    }
    return PlanFile(**{**values, **changes})
