"""What a plan's balance is under the split of an engine, said beside the file for that engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from supertile.targets.engines.engine import Engine
from supertile.targets.engines.sglang_draws import drawn_shares, draws
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.plan.exports import every_layer_rows
from supertile.targets.plan.planned import Planned

DRAWS_LIMIT = 5_000_000
"""Of SGLang's choices that are drawn as it does, in some seconds; larger plans go without."""


def balance_notes(engine: Engine, planned: Planned) -> Iterator[str]:
    """The mean over the layers, tokens coming evenly from all ranks."""
    split = engine.split(planned.after, planned.setting)
    yield (
        f"balancedness as {engine.title} splits tokens that come evenly from all ranks: "
        f"{split.balancedness(planned.load).mean():.4f}"
    )
    if engine.name == "sglang":
        yield from _drawn_note(engine, planned)


def _drawn_note(engine: Engine, planned: Planned) -> Iterator[str]:
    """A map is loaded by each rank on its own, which draws what is not near on its own, too."""
    placed, plan, load = planned.after, planned.plan_file(), planned.load
    known = (every_layer_rows(plan), placed.experts, placed.ranks, planned.setting)
    if not 0 < draws(*known) <= DRAWS_LIMIT:
        return
    share = drawn_shares(*known)[np.array(planned.layers)]
    drawn = ExpertMap(placed.experts, placed.slots, placed.expert, share).balancedness(load)
    spread = engine.expected_split(placed, planned.setting).balancedness(load)
    yield (
        f"that is with fair choices. From a map each rank of {engine.title} draws its own, and by "
        f"its seed this file has {drawn.mean():.4f}; with --ep-dispatch-algorithm dynamic, which "
        f"draws for each token, it has {spread.mean():.4f} on average"
    )
