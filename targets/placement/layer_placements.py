"""From a placement of all layers, as planners make them, to what the IR holds of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supertile.ir.expert_plan import ExpertPlan
from supertile.ir.placement import IDLE, WHOLE, Placement, by_rank, place
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers


def placements_of(expert_map: ExpertMap, layers: Sequence[int]) -> dict[int, Placement]:
    """The placement of each layer, `layers[i]` the number of the map's layer i.

    Equal shares become none at all: the copies of an expert then take turns by source.
    ValueError where the map is no placement.
    """
    if len(layers) != expert_map.layers:
        raise ValueError(f"{expert_map.layers} layers, {len(layers)} numbers for them")
    expert, share = _idle_last(expert_map)
    shares = _whole_shares(expert, share, expert_map.experts)
    equal = ExpertMap.equal(expert_map.experts, expert_map.slots, expert).share
    weighted = np.any(np.abs(share - equal) * WHOLE > 1, axis=1).tolist()
    counts = expert_map.slots.tolist()
    return {
        number: Placement(
            expert_map.experts,
            by_rank(expert[row].tolist(), counts),
            by_rank(shares[row].tolist(), counts) if weighted[row] else None,
        )
        for row, number in enumerate(layers)
    }


def expert_plan_of(expert_map: ExpertMap, layers: Sequence[int]) -> ExpertPlan:
    """The plan of a module; layers that the map lacks have the experts dealt to the same slots."""
    default = place(expert_map.experts, expert_map.ranks, expert_map.slots.tolist())
    return ExpertPlan.of(placements_of(expert_map, layers), default)


def dealt_map(experts: int, slots: Integers, layers: int) -> ExpertMap:
    """What a deployment has without a plan: the experts dealt to all slots, alike in all layers."""
    dealt = place(experts, len(slots), slots.tolist())
    row = np.array([expert for of_rank in dealt.slots for expert in of_rank])
    return ExpertMap.equal(experts, slots, np.tile(row, (layers, 1)))


def layers_of(expert_map: ExpertMap, layers: Sequence[int], wanted: Sequence[int]) -> ExpertMap:
    """The placement of the wanted layers, `layers[i]` the number of the map's layer i; layers that
    the map lacks have the experts dealt."""
    dealt = dealt_map(expert_map.experts, expert_map.slots, 1)
    rows = [layers.index(number) if number in layers else len(layers) for number in wanted]
    expert = np.concatenate([expert_map.expert, dealt.expert])[rows]
    share = np.concatenate([expert_map.share, dealt.share])[rows]
    return ExpertMap(expert_map.experts, expert_map.slots, expert, share)


def _idle_last(expert_map: ExpertMap) -> tuple[Integers, Floats]:
    """Experts and shares with the idle slots of each rank behind the others."""
    expert, share = expert_map.expert, expert_map.share
    rank = np.broadcast_to(expert_map.rank, expert.shape)
    order = np.lexsort((expert == IDLE, rank))
    return np.take_along_axis(expert, order, axis=1), np.take_along_axis(share, order, axis=1)


def _whole_shares(expert: Integers, share: Floats, experts: int) -> Integers:
    """Shares in 2^32-ths that add up: each rounded down, the rest to the first copy."""
    active = np.flatnonzero(expert != IDLE)
    keys = (expert + experts * np.arange(len(expert))[:, None]).ravel()[active]
    whole = np.zeros(expert.size, np.int64)
    whole[active] = np.floor(share.ravel()[active] * WHOLE)
    present, first, number = np.unique(keys, return_index=True, return_inverse=True)
    rest = WHOLE - np.bincount(number, weights=whole[active], minlength=len(present))
    # Rounding down loses less than one a copy, and shares may be off by a millionth themselves.
    if (np.abs(rest) > expert.shape[1] + WHOLE * 1e-6).any():
        raise ValueError("the shares of an expert do not add up to 1")
    whole[active[first]] += rest.astype(np.int64)
    return whole.reshape(expert.shape)
