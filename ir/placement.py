"""Where experts live: which rank holds which expert in which slot, and which copy a token goes to.

Experts are dealt like cards, one to each rank in turn that has a free slot: expert 0 to rank 0,
expert 1 to rank 1, and so on, round after round. Slots that are left take replicas of the experts
0, 1, 2, ..., dealt on the same way; a rank does not hold an expert twice. A slot that no replica
may take is idle: the rank holds every expert already.

A token on rank s that chooses an expert with n copies goes to copy s mod n, the copies numbered
by ascending rank. So every source spreads alike, and no counts need to be known beforehand.

A placement with shares says how much of its expert's tokens each slot takes, in 2^32-ths. Then
token t of a call on rank s has the number

    u = (2654435769 t + 1779033703 s) mod 2^32

and goes to the first copy for which the shares up to it add up to more than u. The factors are the
fractions of the golden ratio and of the square root of 2, in 2^32-ths: multiples of either, and
sums of both, spread over 0 to 1 as evenly as such sequences do (Kuipers and Niederreiter 1974,
section 2.3). So few tokens already split as the shares say, and no rank needs to know of another.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, chain, groupby, islice
from typing import Any, NamedTuple

from xdsl.dialects.builtin import I64, BytesAttr, DenseArrayBase, IntAttr, i64
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from supertile.ir.errors import UserError

IDLE = -1
RANK_LIMIT = 2**20
SHOWN_RANKS = 8  # lines of `placement_table`
LISTED_RANKS = 64  # whose slots the IR text lists
WHOLE = 2**32
"""What the shares of the copies of an expert add up to."""
TOKEN_STEP = 2654435769
SOURCE_STEP = 1779033703


class Slot(NamedTuple):
    """One place for the weights of one expert."""

    rank: int
    slot: int


def sequence_value(source: Any, token: Any) -> Any:
    """The number u in 0 to 2^32 - 1 of a token of a source; of 64-bit integers, or arrays of them.

    It is compared with the shares of copies.
    """
    return (token * TOKEN_STEP + source * SOURCE_STEP) % WHOLE


@dataclass(frozen=True)
class Placement:
    """`slots[rank]` are the experts of a rank, idle slots (-1) last; each of `experts` has one.

    `shares` [rank][slot] in 2^32-ths are those of an expert's tokens that come to the slot, an idle
    slot has none; None: the copies of an expert take turns by source. ValueError where that is not
    so.
    """

    experts: int
    slots: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        held = set(chain(*self.slots))
        unknown = bool(held) and not (min(held) >= IDLE and max(held) < self.experts)
        for rank, slots in enumerate(self.slots):
            # The usual rank is seen through at once: there may be thousands.
            if unknown or not slots or IDLE in slots or len({*slots}) < len(slots):
                _check_rank(rank, slots, self.experts)
        missing = self.experts - len(held - {IDLE})
        if missing:
            raise ValueError(f"{missing} of {self.experts} experts have no slot")
        if self.shares is not None:
            _check_shares(self.experts, self.slots, self.shares)

    @property
    def ranks(self) -> int:
        return len(self.slots)

    @cached_property
    def width(self) -> int:
        """Slots of the rank that has most: the leading size of the experts' weights there."""
        return max(len(slots) for slots in self.slots)

    def held(self, rank: int) -> tuple[int, ...]:
        """The experts of a rank by slot, without idle slots."""
        return tuple(expert for expert in self.slots[rank] if expert != IDLE)

    @cached_property
    def copies(self) -> tuple[tuple[Slot, ...], ...]:
        """The slots of each expert, ascending by rank."""
        found: list[list[Slot]] = [[] for _ in range(self.experts)]
        for rank, slots in enumerate(self.slots):
            for slot, expert in enumerate(slots):
                if expert != IDLE:
                    found[expert].append(Slot(rank, slot))
        return tuple(map(tuple, found))

    def target(self, expert: int, source: int, token: int = 0) -> Slot:
        """The slot that a token of a call on rank `source` goes to when it chooses the expert."""
        copies = self.copies[expert]
        if self.shares is None:
            return copies[source % len(copies)]
        ends = accumulate(self.shares[copy.rank][copy.slot] for copy in copies)
        value = sequence_value(source, token)
        return next(copy for copy, end in zip(copies, ends, strict=True) if value < end)


def _check_rank(rank: int, slots: Sequence[int], experts: int) -> None:
    held = [expert for expert in slots if expert != IDLE]
    if not held:
        raise ValueError(f"rank {rank} holds no expert")
    if list(slots[: len(held)]) != held:
        raise ValueError(f"idle slots come last, rank {rank} has {list(slots)}")
    if len(set(held)) < len(held):
        raise ValueError(f"rank {rank} holds an expert twice: {held}")
    if min(held) < 0 or max(held) >= experts:
        raise ValueError(f"experts are 0 to {experts - 1}, rank {rank} has {list(slots)}")


def by_rank(values: Sequence[int], counts: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The values of all slots, rank after rank, for each rank; ValueError for another number."""
    if len(values) != sum(counts):
        raise ValueError(f"{len(values)} numbers for {sum(counts)} slots")
    ends = accumulate(counts)
    return tuple(tuple(values[end - n : end]) for n, end in zip(counts, ends, strict=True))


def _check_shares(
    experts: int, slots: Sequence[Sequence[int]], shares: Sequence[Sequence[int]]
) -> None:
    if [*map(len, shares)] != [*map(len, slots)]:
        raise ValueError("expected one share for each slot")
    totals = [0] * (experts + 1)  # the last one is that of idle slots, whose number is -1
    for expert, share in zip(chain(*slots), chain(*shares), strict=True):
        if not 0 <= share <= WHOLE:
            raise ValueError(f"a share is 0 to {WHOLE}, expert {expert} has one of {share}")
        totals[expert] += share
    if totals[-1]:
        raise ValueError("an idle slot has no share")
    wrong = next((expert for expert in range(experts) if totals[expert] != WHOLE), None)
    if wrong is not None:
        raise ValueError(f"the shares of expert {wrong} add up to {totals[wrong]} of {WHOLE}")


# ---- dealing -----------------------------------------------------------------------------------


def place(experts: int, ranks: int, slots: Sequence[int] = ()) -> Placement:
    """The experts of a layer dealt to the ranks.

    `slots`: how many each rank has; one number stands for all ranks, none for the fewest of one
    number that hold every expert. `UserError` where that does not fit the ranks or the experts.
    """
    return Placement(experts, _dealt(experts, _slot_counts(experts, ranks, slots)))


def _slot_counts(experts: int, ranks: int, slots: Sequence[int]) -> tuple[int, ...]:
    if not 1 <= ranks <= RANK_LIMIT:
        raise UserError("placement.ranks", limit=RANK_LIMIT, found=ranks)
    least = -(-experts // ranks)
    counts = tuple(slots) or (least,)
    counts = counts * ranks if len(counts) == 1 else counts
    if len(counts) != ranks or min(counts) < 1:
        found = f"{len(counts)} numbers" if len(counts) != ranks else f"{min(counts)} slots"
        raise UserError("placement.slot_ranks", ranks=ranks, found=found, nearest=least)
    if sum(counts) < experts:
        nearest = _slots_text(_more(counts, experts))
        raise UserError("placement.few_slots", experts=experts, found=sum(counts), nearest=nearest)
    return counts


def _more(counts: Sequence[int], experts: int) -> list[int]:
    """The same slots, and one more on each rank in turn until they suffice."""
    each, rest = divmod(experts - sum(counts), len(counts))
    return [count + each + (rank < rest) for rank, count in enumerate(counts)]


def _slots_text(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else ",".join(map(str, counts))


def _dealt(experts: int, counts: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    held: list[list[int]] = [[] for _ in counts]
    free = deque(range(len(counts)))  # ranks with a free slot, the next one first
    for expert in range(experts):
        _give(held, counts, free, expert)
    expert = 0
    while free:
        _give(held, counts, free, expert)
        # A rank that holds every expert takes no more.
        while free and len(held[free[0]]) == experts:
            free.popleft()
        expert = (expert + 1) % experts
    return tuple(
        (*slots, *(IDLE,) * (count - len(slots))) for slots, count in zip(held, counts, strict=True)
    )


def _give(held: list[list[int]], counts: Sequence[int], free: deque[int], expert: int) -> None:
    """The expert to the first free rank that lacks it; to none if all have it."""
    for passed in range(len(free)):
        if expert not in held[free[passed]]:
            break
    else:
        return
    rank = free[passed]
    del free[passed]
    held[rank].append(expert)
    if len(held[rank]) < counts[rank]:
        free.append(rank)


# ---- in IR -------------------------------------------------------------------------------------


@irdl_attr_definition
class PlacementAttr(ParametrizedAttribute):
    """A placement: how many experts there are, and the experts in the slots of each rank.

    `#comm.placement<4, [[0, 2], [1, 3]]>`; -1 marks an idle slot. Of more than `LISTED_RANKS`
    ranks that hold what `place` deals them, the text gives only how many slots how many ranks in
    a row have: `#comm.placement<384, dealt [[2, 100], [1, 284]]>`.
    """

    name = "comm.placement"
    experts: IntAttr = param_def()
    counts: DenseArrayBase[I64] = param_def(DenseArrayBase.constr(i64))
    held: DenseArrayBase[I64] = param_def(DenseArrayBase.constr(i64))

    @staticmethod
    def of(placement: Placement) -> PlacementAttr:
        """ValueError for a placement with shares: those are held by plans, see `expert_plan.py`."""
        if placement.shares is not None:
            raise ValueError("an op cannot list the shares of a placement")
        return _attribute(placement.experts, placement.slots)

    @property
    def expert_count(self) -> int:
        return self.experts.data

    @property
    def ranks(self) -> int:
        return len(self.counts)

    @property
    def width(self) -> int:
        return self.placement.width

    @property
    def placement(self) -> Placement:
        """What the attribute stands for; ValueError where it is no placement."""
        return _placement_of(self)

    def verify(self) -> None:
        try:
            _ = self.placement
        except ValueError as error:
            raise VerifyException(str(error)) from None

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(_parameters_text(self))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        square = parser.Delimiter.SQUARE
        with parser.in_angle_brackets():
            experts = parser.parse_integer()
            parser.parse_punctuation(",")
            start = parser.pos
            dealt = parser.parse_optional_keyword("dealt") is not None
            lists = parser.parse_comma_separated_list(
                square, lambda: parser.parse_comma_separated_list(square, parser.parse_integer)
            )
            try:
                slots = _dealt_runs(experts, lists).slots if dealt else lists
                return _attribute(experts, slots).parameters
            except (ValueError, struct.error) as error:  # struct.error: beyond 64 bits
                parser.raise_error(str(error), start)


@lru_cache(maxsize=64)
def _parameters_text(attribute: PlacementAttr) -> str:
    placement = attribute.placement
    listed = [list(slots) for slots in placement.slots]
    runs = [[count, len([*ranks])] for count, ranks in groupby(map(len, placement.slots))]
    if placement.ranks > LISTED_RANKS and _dealt_runs(placement.experts, runs) == placement:
        return f"<{placement.experts}, dealt {runs}>"
    return f"<{placement.experts}, {listed}>"


def _dealt_runs(experts: int, runs: Sequence[Sequence[int]]) -> Placement:
    """What `place` deals to ranks of so many slots: runs of [slots, ranks].

    ValueError where that is no placement.
    """
    if any(len(run) != 2 or min(run) < 1 for run in runs):
        raise ValueError("expected how many slots how many ranks have: [[slots, ranks], ...]")
    ranks = sum(number for _, number in runs)
    if not 1 <= ranks <= RANK_LIMIT:
        raise ValueError(f"expected 1 to {RANK_LIMIT} ranks, found {ranks}")
    counts = tuple(chain(*((count,) * number for count, number in runs)))
    if not experts <= sum(counts) <= RANK_LIMIT * 8:
        raise ValueError(f"{experts} experts in {sum(counts)} slots")
    return Placement(experts, _dealt(experts, counts))


@lru_cache(maxsize=64)
def _placement_of(attribute: PlacementAttr) -> Placement:
    held = iter(attribute.held.iter_values())
    slots = tuple(tuple(islice(held, count)) for count in attribute.counts.iter_values())
    return Placement(attribute.experts.data, slots)


def _attribute(experts: int, slots: Iterable[Sequence[int]]) -> PlacementAttr:
    lists = list(slots)
    held = [expert for one in lists for expert in one]
    return PlacementAttr(IntAttr(experts), _integers([len(one) for one in lists]), _integers(held))


def _integers(values: Sequence[int]) -> DenseArrayBase[I64]:
    """As `DenseArrayBase.from_list`, which takes a tenth of a second for thousands of ranks."""
    return DenseArrayBase(i64, BytesAttr(struct.pack(f"<{len(values)}q", *values)))


# ---- as text -----------------------------------------------------------------------------------


def placement_table(placement: Placement) -> str:
    """How many slots, replicas and idle slots there are, and what is in the slots of each rank.

    Of many ranks the first and the last are shown.
    """
    total = sum(len(slots) for slots in placement.slots)
    idle = sum(slots.count(IDLE) for slots in placement.slots)
    replicas = total - idle - placement.experts
    head = (
        f"{placement.experts} experts on {placement.ranks} ranks: {total} slots "
        f"({_range([len(slots) for slots in placement.slots])} a rank), {replicas} replicas "
        f"({_range([len(copies) for copies in placement.copies])} copies an expert), {idle} idle"
    )
    return "\n".join([head, *_rank_lines(placement)])


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _rank_lines(placement: Placement) -> list[str]:
    shown = list(range(placement.ranks))
    if placement.ranks > SHOWN_RANKS:
        shown = [*range(SHOWN_RANKS - 1), placement.ranks - 1]
    width = len(str(placement.ranks - 1))
    lines = [f"  rank {rank:>{width}}: {_slot_text(placement.slots[rank])}" for rank in shown]
    if placement.ranks > SHOWN_RANKS:
        lines.insert(-1, f"  and {placement.ranks - SHOWN_RANKS} more ranks")
    return lines


def _slot_text(slots: Sequence[int]) -> str:
    """The experts, of many the first and the last, and how many slots are idle."""
    held = [str(expert) for expert in slots if expert != IDLE]
    idle = len(slots) - len(held)
    if len(held) > 2 * SHOWN_RANKS:
        held = [*held[:SHOWN_RANKS], "..", *held[-SHOWN_RANKS:]]
    return " ".join(held) + (f", {idle} idle" if idle else "")
