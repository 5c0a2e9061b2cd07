"""SGLang's records of single forward passes: counts of slots, and maybe what each token chose.

`records` has an object a pass: `global_physical_count` [rows, P], and with the recorder's mode
per_token `topk_ids_of_layer` [rows, tokens, K], slots, -1 where there is none. Both are those of
one rank. `last_physical_to_logical_map` [rows, P] says which expert is in which slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.json_text import Steps, show_json
from supertile.ir.placement import IDLE
from supertile.targets.plan.load_arrays import Held, map_key, summed
from supertile.targets.plan.loads import ELEMENT_LIMIT, Table, check_rank, check_values
from supertile.targets.plan.model import ExpertLayers
from supertile.targets.plan.routings import pairs_of

Array = NDArray[Any]
COUNT, CHOSEN = "global_physical_count", "topk_ids_of_layer"


def records_table(held: Held, key: str, model: ExpertLayers) -> Table:
    """One window a record; pairs of experts where the tokens' choices were recorded."""
    records = held.values[key]
    if not isinstance(records, list) or not records:
        raise held.source.fail("loads.records", (key,), found=show_json(records))
    name = map_key(held, (key,))
    slots = held.array(name)
    check_rank(held.source, (name,), slots, (2,))
    if len(records) * len(slots) * model.experts > ELEMENT_LIMIT:
        raise held.source.fail("loads.elements", (key,), limit=ELEMENT_LIMIT)
    windows = []
    for index, record in enumerate(records):
        steps: Steps = (key, index)
        if not isinstance(record, Mapping) or COUNT not in record:
            raise held.source.fail("loads.records", steps, found=show_json(record))
        steps = (*steps, COUNT)
        loads = held.array(*steps)
        check_rank(held.source, steps, loads, (2,))
        check_values(held.source, steps, loads)
        windows.append(summed(held.source, loads, (name,), slots, model.experts))
    ranks = {str(record.get("rank", "?")) for record in records}
    if len(ranks) > 1:
        found = f"records of ranks {', '.join(sorted(ranks)[:8])}"
        raise held.source.fail("loads.records", (key,), found=found)
    return Table(
        held.source,
        (key,),
        np.stack(windows),
        pairs=_pairs(held, key, slots, model.experts),
        windows=_passes(records),
        rank=ranks.pop(),
    )


def _passes(records: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """The numbers of the forward passes, by which ranks are added; None where they have none, or
    none that ascend."""
    numbers = [record.get("forward_pass_id") for record in records]
    known = [number for number in numbers if type(number) is int]
    return known if len(known) == len(numbers) and known == sorted(set(known)) else None


def _pairs(held: Held, key: str, slots: Array, experts: int) -> Array | None:
    """[rows, E, E] of all records that say what each token chose; None where none does."""
    records: Any = held.values[key]
    places = [(key, index, CHOSEN) for index, one in enumerate(records) if CHOSEN in one]
    if not places:
        return None
    if len(slots) * experts**2 > ELEMENT_LIMIT:
        raise held.source.fail("loads.elements", places[0], limit=ELEMENT_LIMIT)
    chosen = [_chosen(held, steps, slots.shape) for steps in places]
    if len({one.shape[2] for one in chosen}) > 1:
        raise held.source.fail("loads.records", places[0], found="another number of choices")
    tokens = np.concatenate(chosen, axis=1)
    pairs = []
    for row, ids in zip(slots.astype(np.int64), tokens, strict=True):
        # A slot without an expert, and a choice that is none, count as one expert more.
        nobody = np.where(row == IDLE, experts, row)
        expert = np.append(nobody, experts)[ids]  # -1 is the last
        pairs.append(pairs_of(expert, experts + 1)[:experts, :experts])
    return np.stack(pairs)


def _chosen(held: Held, steps: Steps, shape: Sequence[int]) -> Array:
    """[rows, tokens, K]: the slot that each token chose, or -1."""
    ids = held.array(*steps)
    check_rank(held.source, steps, ids, (3,))
    rows, count = shape
    wrong = ~((ids >= IDLE) & (ids < count) & (ids == np.floor(ids)))
    if len(ids) != rows or wrong.any():
        found = f"{list(ids.shape)}, up to {ids.max():g}"
        raise held.source.fail("loads.records", steps, found=found)
    return ids.astype(np.int64)
