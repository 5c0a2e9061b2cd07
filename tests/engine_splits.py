"""The split rules of serving engines, token by token, as the engines' sources have them.

SGLang 0.5.23 (`srt/eplb/expert_location.py`), vllm-ascend 182b75ea84 (`eplb/core/eplb_utils.py`),
vLLM 0.33.0 (`fused_moe/router/base_router.py`). A placement is the expert in each slot, the same
number of slots on each rank.
"""

from __future__ import annotations

from collections.abc import Sequence


def candidates(slots: Sequence[int], expert: int) -> list[int]:
    return [slot for slot, held in enumerate(slots) if held == expert]


def ascend_slot(slots: Sequence[int], expert: int, rank: int, tp: int = 1) -> int:
    places = candidates(slots, expert)
    turn = rank if tp == 1 else rank % tp + rank // tp + expert
    return places[turn % len(places)]


def vllm_slot(slots: Sequence[int], expert: int, row: int) -> int:
    places = candidates(slots, expert)
    return places[(row * 2654435769 & 0xFFFFFFFF) % len(places)]


def sglang_nearest(
    slots: Sequence[int], expert: int, rank: int, ranks: int, nodes: int
) -> int | None:
    """The slot of `_find_nearest_expert`; None where the ranks have to choose."""
    places = candidates(slots, expert)
    if len(places) == 1:
        return places[0]
    on_rank = len(slots) // ranks
    same = [slot for slot in places if slot // on_rank == rank]
    if same:
        return same[0]
    on_node = on_rank * (ranks // nodes)
    near = [slot for slot in places if slot // on_node == rank // (ranks // nodes)]
    return near[0] if 0 < len(near) < len(places) else None


def sglang_slots(slots: Sequence[int], expert: int, ranks: int, nodes: int) -> list[int]:
    """The slot for each rank: the nearest, else a fair choice whose rest goes to the first."""
    near = [sglang_nearest(slots, expert, rank, ranks, nodes) for rank in range(ranks)]
    places = candidates(slots, expert)
    each, more = divmod(near.count(None), len(places))
    fair = iter([slot for at, slot in enumerate(places) for _ in range(each + (at < more))])
    return [next(fair) if slot is None else slot for slot in near]
