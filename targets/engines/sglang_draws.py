"""SGLang's static table as 0.5.23 draws it for a map that it was started with.

A rank replaces the replicas of an expert by the nearest one, where it has one, then builds the
table of all ranks from its own lists and keeps its own row. Where several replicas are left, the
ranks without a near one get a fair choice from a stream of random numbers with a fixed seed, layer
after layer. As the lists differ between ranks, so do their streams: a table is fair by itself, but
the rows that the ranks keep are not fair together.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.engines.splits import nearest_replica
from supertile.targets.placement.expert_map import Floats

SEED = 42


def draws(rows: Sequence[Sequence[int]], experts: int, ranks: int, setting: EngineSetting) -> int:
    """How many choices all ranks draw: each draws those of all ranks without a near replica."""
    choices = (_several(row, experts, ranks, setting).values() for row in rows)
    return sum(len(alone) ** 2 for layer in choices for _, _, alone in layer)


def drawn_slots(
    rows: Sequence[Sequence[int]], experts: int, ranks: int, setting: EngineSetting
) -> list[list[list[int]]]:
    """[layers][E][G]: the slot that each rank sends an expert's tokens to.

    `rows` [layers][P] are all rows of the map, those of dense layers too: they are drawn for.
    """
    several = [_several(row, experts, ranks, setting) for row in rows]
    table = [_only_slots(row, experts, ranks) for row in rows]
    for rank in range(ranks):
        random = Random(SEED)
        for layer, choices in enumerate(several):
            for expert, (slots, near, alone) in choices.items():
                if near[rank] != IDLE:
                    table[layer][expert][rank] = slots[near[rank]]
                    continue
                fair = _fair_choice(slots, len(alone), random)
                table[layer][expert][rank] = fair[alone.index(rank)]
    return table


def drawn_shares(
    rows: Sequence[Sequence[int]], experts: int, ranks: int, setting: EngineSetting
) -> Floats:
    """[layers, P]: the part of an expert's tokens that each slot gets."""
    shares = np.zeros((len(rows), len(rows[0])))
    for layer, by_expert in enumerate(drawn_slots(rows, experts, ranks, setting)):
        shares[layer] = np.bincount(np.ravel(by_expert), minlength=shares.shape[1]) / ranks
    return shares


def _only_slots(row: Sequence[int], experts: int, ranks: int) -> list[list[int]]:
    """[E][G]: the last slot of each expert, which is the only one of those that have one."""
    places = dict(zip(row, range(len(row)), strict=True))
    return [[places[expert]] * ranks for expert in range(experts)]


def _several(
    row: Sequence[int], experts: int, ranks: int, setting: EngineSetting
) -> dict[int, tuple[list[int], list[int], list[int]]]:
    """Of experts with several replicas: the slots, which is near each rank, ranks without one."""
    width = len(row) // ranks
    found = {}
    for expert in range(experts):
        slots = [slot for slot, held in enumerate(row) if held == expert]
        if len(slots) > 1:
            rank = np.array(slots) // width
            near = nearest_replica(rank, rank * setting.nodes // ranks, ranks, setting).tolist()
            found[expert] = (slots, near, [at for at in range(ranks) if near[at] == IDLE])
    return found


def _fair_choice(slots: list[int], ranks: int, random: Random) -> list[int]:
    each, more = divmod(ranks, len(slots))
    chosen = slots * each + random.sample(slots, k=more)
    random.shuffle(chosen)
    return chosen
