"""What layers that are routed by token id send: known as soon as the token ids are.

The tokens go to the ranks in runs, as sequences do, the first ranks with one more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from supertile.ir.expert_layer import ExpertSizes
from supertile.targets.comm.choice import choose, routed_exchanges
from supertile.targets.machine_types import Machine
from supertile.targets.output.units import bytes_text, seconds_text
from supertile.targets.placement.expert_map import ExpertMap, Integers
from supertile.targets.placement.layer_placements import placements_of
from supertile.targets.traffic import hashed_traffic


@dataclass(frozen=True)
class HashedTokens:
    """Token ids [N] of one call on all ranks, and the tables [V, K] that route them."""

    ids: Integers
    tables: Mapping[int, Integers]
    """By the number of the layer."""


def hashed_lines(
    machine: Machine,
    sizes: ExpertSizes,
    placed: ExpertMap,
    layers: Sequence[int],
    tokens: HashedTokens,
) -> Iterator[str]:
    """A line for each layer that has a table: counted traffic of these tokens as placed."""
    if placed.ranks == 1:
        return
    placements = placements_of(placed, layers)
    parts = np.array_split(tokens.ids, placed.ranks)
    for layer in (number for number in layers if number in tokens.tables):
        chosen = [tokens.tables[layer][part] for part in parts]
        traffic = hashed_traffic(tokens.tables[layer], parts, placements[layer])
        sent = routed_exchanges(sizes.row, chosen, placements[layer], machine)
        times = (seconds_text(float(choose(machine, one).best.seconds)) for one in sent.values())
        fullest = traffic.arrived.max() / traffic.arrived.mean()
        reached = traffic.distinct_out.sum() / len(tokens.ids)
        yield (
            f"layer {layer}, routed by token id: {len(tokens.ids):,} tokens, each to "
            f"{reached:.2f} other ranks; the fullest has {fullest:.2f} times the mean rows; "
            f"at most {bytes_text(float(traffic.bytes_out(sizes.row).max()))} from a rank; "
            f"dispatch and combine {' and '.join(times)}"
        )
