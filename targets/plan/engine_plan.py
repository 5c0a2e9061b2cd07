"""Plans for an engine that wants every slot full and splits tokens by a rule of its own.

A placement that is good under even or planned shares need not be so under the engine's: candidates
are filled, split by the engine, and the best of each layer is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from supertile.targets.placement.eplb import without_twins
from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.placement.full_slots import full_slots


def filled(candidates: Sequence[ExpertMap], load: Floats) -> list[ExpertMap]:
    """The candidates with every slot full and no expert twice on a rank, each once."""
    full = [full_slots(without_twins(one), load) for one in candidates]
    different: list[ExpertMap] = []
    for one in full:
        if not any(np.array_equal(one.expert, other.expert) for other in different):
            different.append(one)
    return different


def best_of_each_layer(
    candidates: Sequence[ExpertMap], cost: Callable[[ExpertMap], Floats]
) -> ExpertMap:
    """Of each layer the first candidate whose cost [L] is least."""
    if len(candidates) == 1:
        return candidates[0]
    best = np.argmin(np.stack([cost(one) for one in candidates]), axis=0)[None, :, None]
    expert, share = (
        np.take_along_axis(np.stack(of), best, axis=0)[0]
        for of in ([one.expert for one in candidates], [one.share for one in candidates])
    )
    return replace(candidates[0], expert=expert, share=share)
