"""The executor is the definition: the NumPy function of every comm op, over all ranks at once.

A function takes, for each operand, a list of the values of all ranks, and the properties by name;
it returns one tuple of results for each rank. Ranks may have no tokens, and no rows may arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from xdsl.ir import Operation

from supertile.ir import comm
from supertile.ir.placement import Placement
from supertile.runtime.copies import copies_of
from supertile.runtime.graph_ops import Array, take_rows
from supertile.runtime.numerics import F32, Scaled
from supertile.runtime.sequence_ops import I32, Index

Results = list[tuple[Any, ...]]


def dispatch(
    x: Sequence[F32 | Scaled],
    chosen: Sequence[Index],
    weight: Sequence[F32],
    placement: Placement,
) -> Results:
    """(rows [N, ..], row_weight [N], counts [slots], origin [N, 2]) of each rank, slots ascending.

    IndexError for a choice that is no expert.
    """
    ranks, slots = _targets(chosen, placement)
    origin = _origins(chosen)
    row_weight = np.concatenate([held.reshape(-1) for held in weight])
    rows = joined([take_rows(held, _tokens(own)) for held, own in zip(x, chosen, strict=True)])
    results: Results = []
    for rank in range(placement.ranks):
        here = np.flatnonzero(ranks == rank)
        here = here[np.argsort(slots[here], kind="stable")]  # then by source, then by token
        counts = np.bincount(slots[here], minlength=placement.width).astype(np.int32)
        results.append((take_rows(rows, here), row_weight[here], counts, origin[here]))
    return results


def _targets(chosen: Sequence[Index], placement: Placement) -> tuple[Index, Index]:
    """The rank and the slot that each choice goes to, sources one after the other."""
    if len(chosen) != placement.ranks:
        raise ValueError(f"experts on {placement.ranks} ranks, tokens of {len(chosen)}")
    expert = np.concatenate([own.reshape(-1) for own in chosen])
    if expert.size and not 0 <= expert.min() <= expert.max() < placement.experts:
        wrong = expert.min() if expert.min() < 0 else expert.max()
        raise IndexError(f"expert {wrong} of {placement.experts}")
    source = np.repeat(np.arange(len(chosen)), [own.size for own in chosen])
    copies = copies_of(placement)
    copy = copies.chosen(expert, source, np.concatenate([_tokens(own) for own in chosen]))
    return copies.rank[copy], copies.slot[copy]


def _origins(chosen: Sequence[Index]) -> I32:
    """(source rank, choice there) of each choice, sources one after the other."""
    pairs = [
        np.column_stack([np.full(own.size, source), np.arange(own.size)])
        for source, own in enumerate(chosen)
    ]
    return np.concatenate(pairs).astype(np.int32)


def _tokens(chosen: Index) -> Index:
    """The token of each choice [T K]."""
    return np.repeat(np.arange(chosen.shape[0]), chosen.shape[1])


def combine(rows: Sequence[F32], origin: Sequence[Index], chosen: Sequence[Index]) -> Results:
    """[T, ..] of each rank: the rows of a token added one after the other in float32.

    ValueError unless every choice of every rank comes back once.
    """
    back = joined(rows)
    source, choice = np.concatenate(origin).T
    results: Results = []
    for rank, own in enumerate(chosen):
        mine = np.flatnonzero(source == rank)
        place = np.full(own.size, -1)
        place[choice[mine]] = mine
        if len(mine) != own.size or (place < 0).any():
            raise ValueError(f"{len(mine)} rows come back to rank {rank}, of {own.size} choices")
        results.append((_summed(back, place.reshape(own.shape), own),))
    return results


def _summed(rows: F32, place: Index, chosen: Index) -> F32:
    """The rows at place [T, K] of each token, in the order of the experts chosen [T, K]."""
    order = np.argsort(chosen, axis=1, kind="stable")
    place = np.take_along_axis(place, order, axis=1)
    total: F32 = rows[place[:, 0]]
    for choice in range(1, place.shape[1]):
        total += rows[place[:, choice]]
    return total


def share(x: Sequence[Array | Scaled], ranks: int) -> Results:
    """The rows [T / ranks, ..] that are the rank's of those that its group has in common."""
    return [(take_rows(held, _own_rows(held, rank, ranks)),) for rank, held in enumerate(x)]


def _own_rows(held: Array | Scaled, rank: int, ranks: int) -> Index:
    """In runs, the first ranks of the group one more."""
    return np.array_split(np.arange(held.shape[0]), ranks)[rank % ranks]


def all_gather(x: Sequence[Array | Scaled], like: Sequence[Array | Scaled], ranks: int) -> Results:
    """[T, ..] of each rank: the rows of its group one after the other.

    ValueError unless these are as many as `like` has.
    """
    results: Results = []
    for group in _groups(x, ranks):
        whole = joined(group)
        results += [(whole,)] * ranks
    for (whole,), held in zip(results, like, strict=True):
        if whole.shape[0] != held.shape[0]:
            raise ValueError(f"{whole.shape[0]} rows are gathered of {held.shape[0]}")
    return results


def all_reduce(x: Sequence[F32], ranks: int) -> Results:
    """The sum over the group, added one rank after the other in float32."""
    results: Results = []
    for first, *others in _groups(x, ranks):
        total = first.astype(np.float32)
        for held in others:
            total += held
        results += [(total,)] * ranks
    return results


def _groups(values: Sequence[Any], ranks: int) -> list[Sequence[Any]]:
    """ValueError unless whole groups are there."""
    if len(values) % ranks:
        raise ValueError(f"{len(values)} ranks do not fall into groups of {ranks}")
    return [values[start : start + ranks] for start in range(0, len(values), ranks)]


def joined(values: Sequence[Array | Scaled]) -> Any:
    """Rows of all ranks one after the other; of block-scaled ones codes and scales."""
    scaled = [held for held in values if isinstance(held, Scaled)]
    if not scaled:
        return np.concatenate([held for held in values if not isinstance(held, Scaled)])
    return replace(
        scaled[0],
        codes=np.concatenate([held.codes for held in scaled]),
        scales=np.concatenate([held.scales for held in scaled]),
    )


# ---- the table ---------------------------------------------------------------------------------

FUNCTIONS: dict[type[Operation], Callable[..., Results]] = {
    comm.Dispatch: dispatch,
    comm.Combine: combine,
    comm.Share: share,
    comm.AllGather: all_gather,
    comm.AllReduce: all_reduce,
}
