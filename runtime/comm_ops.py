"""The executor is the definition: the NumPy functions of every comm op.

`EXCHANGES` has what one rank does: `send(rank, ranks, *operands, **properties)` gives a parcel for
each rank, `receive(rank, parcels, *operands, **properties)` the results, of the parcels from each.
`FUNCTIONS` has the whole op, over all ranks at once: for each operand a list of the values of all
ranks, and the properties by name; a tuple of results for each rank. Ranks may have no tokens, and
no rows may arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from xdsl.ir import Operation

from supertile.ir import comm
from supertile.ir.placement import Placement
from supertile.ir.tables import Table
from supertile.runtime.copies import copies_of
from supertile.runtime.graph_ops import Array, take_rows
from supertile.runtime.numerics import F32, Scaled
from supertile.runtime.sequence_ops import Index

Results = list[tuple[Any, ...]]
Parcel = tuple[Any, ...]
"""Arrays, or block-scaled tensors, with a row for each row that is sent."""


class Exchange(NamedTuple):
    """A comm op as one rank does it."""

    send: Callable[..., list[Parcel]]
    receive: Callable[..., tuple[Any, ...]]

    def together(self, *columns: Sequence[Any], **properties: Any) -> Results:
        """The results of all ranks, of the values of all ranks."""
        each = list(zip(*columns, strict=True))
        sent = [self.send(rank, len(each), *own, **properties) for rank, own in enumerate(each)]
        arrived = zip(*sent, strict=True)
        return [
            self.receive(rank, parcels, *own, **properties)
            for rank, (parcels, own) in enumerate(zip(arrived, each, strict=True))
        ]


def _parcels(fields: Parcel, target: Index, ranks: int) -> list[Parcel]:
    """The rows of the fields for each rank, in order; target [N] is the rank of each row."""
    order = np.argsort(target, kind="stable")
    ends = np.cumsum(np.bincount(target, minlength=ranks))[:-1]
    return [tuple(take_rows(x, rows) for x in fields) for rows in np.split(order, ends)]


# ---- dispatch ----------------------------------------------------------------------------------


def send_tokens(
    rank: int,
    ranks: int,
    x: F32 | Scaled,
    chosen: Index,
    weight: F32,
    placement: Placement,
    slots: range | None = None,
) -> list[Parcel]:
    """(row, weight, slot, choice) of each choice [T K], for the rank that it goes to; with `slots`
    of those choices alone that go to these slots of a rank.

    IndexError for a choice that is no expert.
    """
    if ranks != placement.ranks:
        raise ValueError(f"experts on {placement.ranks} ranks, tokens of {ranks}")
    expert = chosen.reshape(-1)
    if expert.size and not 0 <= expert.min() <= expert.max() < placement.experts:
        wrong = expert.min() if expert.min() < 0 else expert.max()
        raise IndexError(f"expert {wrong} of {placement.experts}")
    token = np.repeat(np.arange(chosen.shape[0]), chosen.shape[1])
    copies = copies_of(placement)
    copy = copies.chosen(expert, np.full(expert.size, rank), token)
    slot, choice = copies.slot[copy].astype(np.int32), np.arange(expert.size, dtype=np.int32)
    fields: Parcel = token, weight.reshape(-1), slot, choice
    target = copies.rank[copy]
    if slots is not None:
        sent = (slot >= slots.start) & (slot < slots.stop)
        fields, target = tuple(held[sent] for held in fields), target[sent]
    token, *others = fields
    return _parcels((take_rows(x, token), *others), target, ranks)


def receive_tokens(
    rank: int,
    parcels: Sequence[Parcel],
    *operands: Any,
    placement: Placement,
    slots: range | None = None,
) -> tuple[Any, ...]:
    """(rows [N, ..], row_weight [N], counts [slots], origin [N, 2]), slots ascending."""
    rows, weight, slot, choice = map(joined, zip(*parcels, strict=True))
    source = np.repeat(np.arange(len(parcels), dtype=np.int32), [len(held[3]) for held in parcels])
    order = np.argsort(slot, kind="stable")  # then by source, then by token
    counts = np.bincount(slot, minlength=placement.width).astype(np.int32)
    origin = np.column_stack([source, choice])[order]
    return take_rows(rows, order), weight[order], counts, origin


def rows_of_slots(chosen: Sequence[Index], placement: Placement) -> list[Index]:
    """How many rows each slot of each rank gets in all, of the choices [T, K] of all ranks."""
    counts = np.zeros((placement.ranks, placement.width), np.int32)
    copies = copies_of(placement)
    for rank, own in enumerate(chosen):
        token = np.repeat(np.arange(own.shape[0]), own.shape[1])
        copy = copies.chosen(own.reshape(-1), np.full(own.size, rank), token)
        np.add.at(counts, (copies.rank[copy], copies.slot[copy]), 1)
    return [*counts]


# ---- combine -----------------------------------------------------------------------------------


def send_back(rank: int, ranks: int, rows: F32, origin: Index, chosen: Index) -> list[Parcel]:
    """(row, choice) of each row, for the rank that it came from."""
    return _parcels((rows, origin[:, 1]), origin[:, 0], ranks)


def receive_back(
    rank: int, parcels: Sequence[Parcel], rows: F32, origin: Index, chosen: Index
) -> tuple[F32]:
    """[T, ..]: the rows of a token added one after the other in float32.

    ValueError unless every choice comes back once.
    """
    back, choice = map(joined, zip(*parcels, strict=True))
    place = np.full(chosen.size, -1)
    place[choice] = np.arange(len(choice))
    if len(choice) != chosen.size or (place < 0).any():
        raise ValueError(f"{len(choice)} rows come back to rank {rank}, of {chosen.size} choices")
    return (_summed(back, place.reshape(chosen.shape), chosen),)


def _summed(rows: F32, place: Index, chosen: Index) -> F32:
    """The rows at place [T, K] of each token, in the order of the experts chosen [T, K]."""
    order = np.argsort(chosen, axis=1, kind="stable")
    place = np.take_along_axis(place, order, axis=1)
    total: F32 = rows[place[:, 0]]
    for choice in range(1, place.shape[1]):
        total += rows[place[:, choice]]
    return total


def bring_back(
    rows: Sequence[F32], origin: Sequence[Index], chosen: Sequence[Index], back: Sequence[F32]
) -> None:
    """Rows of some slots of all ranks to `back` [T, K, ..], the place of their choice."""
    ranks = len(rows)
    sent = [
        send_back(rank, ranks, *own)
        for rank, own in enumerate(zip(rows, origin, chosen, strict=True))
    ]
    for place, parcels in zip(back, zip(*sent, strict=True), strict=True):
        arrived, choice = map(joined, zip(*parcels, strict=True))
        place.reshape(-1, *place.shape[2:])[choice] = arrived


def sum_of_choices(back: F32, chosen: Index) -> F32:
    """[T, ..]: what was brought back for each choice, added up as a combine does."""
    rows = back.reshape(-1, *back.shape[2:])
    return _summed(rows, np.arange(chosen.size).reshape(chosen.shape), chosen)


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


# ---- the tables --------------------------------------------------------------------------------

EXCHANGES: dict[type[Operation], Exchange] = Table(
    __name__,
    "EXCHANGES",
    {
        comm.Dispatch: Exchange(send_tokens, receive_tokens),
        comm.Combine: Exchange(send_back, receive_back),
    },
)


def dispatch(
    x: Sequence[F32 | Scaled],
    chosen: Sequence[Index],
    weight: Sequence[F32],
    placement: Placement,
) -> Results:
    """(rows [N, ..], row_weight [N], counts [slots], origin [N, 2]) of each rank."""
    return EXCHANGES[comm.Dispatch].together(x, chosen, weight, placement=placement)


def combine(rows: Sequence[F32], origin: Sequence[Index], chosen: Sequence[Index]) -> Results:
    """[T, ..] of each rank."""
    return EXCHANGES[comm.Combine].together(rows, origin, chosen)


FUNCTIONS: dict[type[Operation], Callable[..., Results]] = Table(
    __name__,
    "FUNCTIONS",
    {
        comm.Dispatch: dispatch,
        comm.Combine: combine,
        comm.Share: share,
        comm.AllGather: all_gather,
        comm.AllReduce: all_reduce,
    },
)
