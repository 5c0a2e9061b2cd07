"""Plans with shares for small models, made from a seed."""

import numpy as np

from supertile.ir.expert_plan import ExpertPlan
from supertile.ir.placement import WHOLE, Placement, place


def weighted(experts: int, ranks: int, slots: tuple[int, ...], seed: int) -> Placement:
    """The dealt slots with experts renamed and random shares, some of them 0."""
    generator = np.random.default_rng(seed)
    names = generator.permutation(experts).tolist()
    dealt = place(experts, ranks, slots)
    held = [[expert if expert < 0 else names[expert] for expert in own] for own in dealt.slots]
    shares = [[0] * len(own) for own in held]
    placement = Placement(experts, tuple(map(tuple, held)))
    for copies in placement.copies:
        parts = generator.integers(0, WHOLE + 1, len(copies) - 1)
        ends = [0, *sorted(parts.tolist()), WHOLE]
        for copy, start, end in zip(copies, ends, ends[1:], strict=False):
            shares[copy.rank][copy.slot] = end - start
    return Placement(experts, placement.slots, tuple(map(tuple, shares)))


def plan_for(
    layers: list[int], experts: int, ranks: int, slots: tuple[int, ...] = ()
) -> ExpertPlan:
    """Another placement in every layer, the last one without shares."""
    held = {layer: weighted(experts, ranks, slots, layer) for layer in layers}
    last = held[layers[-1]]
    held[layers[-1]] = Placement(experts, last.slots)
    return ExpertPlan.of(held, place(experts, ranks, slots))
