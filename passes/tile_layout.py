"""Places for the tiles of a kernel, so that tiles that live at the same time do not overlap.

A tile lives from the op that makes it to its last use, through every loop in which it is used but
not made. Buffers are shared where one tile ends as the next begins: results of elementwise ops,
sums of products, and what a loop carries. A tile made ahead lives as long as its loop and has a
copy for each step in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from supertile.ir import tile
from supertile.ir.tile_ahead import ops_ahead
from supertile.ir.tile_places import (
    TileSpaces,
    base_of,
    carried_by,
    in_place_operands,
    placed_values,
    space_of,
    tile_bytes,
)
from supertile.ir.walk import ops_within


class Span(NamedTuple):
    """A stretch of the kernel, first and last op by number, and the bytes that are taken in it."""

    first: int
    last: int
    bytes: int


@dataclass(frozen=True)
class Layout:
    """The buffer of each tile, in the order of `placed_values`."""

    buffers: dict[SSAValue, Buffer]

    @property
    def peaks(self) -> dict[str, int]:
        """The bytes that are taken of each space."""
        peaks: dict[str, int] = {}
        for buffer in self.buffers.values():
            peaks[buffer.space] = max(peaks.get(buffer.space, 0), buffer.end)
        return peaks

    @property
    def places(self) -> list[tile.PlaceAttr]:
        """The places of all tiles, in the order of `placed_values`."""
        return [_place_of(value, buffer) for value, buffer in self.buffers.items()]


@dataclass(eq=False)
class Buffer:
    """Bytes of one space that some values have, one after the other, from one offset on."""

    space: str
    copies: int = 1
    spans: list[Span] = field(default_factory=list)
    offset: int = 0

    @property
    def bytes(self) -> int:
        return max(span.bytes for span in self.spans)

    @property
    def end(self) -> int:
        return self.offset + self.bytes

    @property
    def length(self) -> int:
        return sum(span.last - span.first + 1 for span in self.spans)


def layout_of(kernel: tile.Kernel, spaces: TileSpaces) -> Layout:
    """Places for the tiles of a kernel whose loops have their stages."""
    buffers = _buffers(kernel, spaces)
    for space in sorted({buffer.space for buffer in buffers.values()}):
        _place([b for b in dict.fromkeys(buffers.values()) if b.space == space])
    return Layout(buffers)


def _place_of(value: SSAValue, held: Buffer) -> tile.PlaceAttr:
    """A tile may be smaller than its buffer; copies are as far apart as the buffer is large."""
    size = tile_bytes(value) if held.copies == 1 else held.bytes // held.copies
    return tile.PlaceAttr.of(held.space, held.offset, size, held.copies)


# ---- lifetimes ---------------------------------------------------------------------------------


class _Times:
    """A number for each op, in order; ops with a body have one more where they end."""

    def __init__(self, kernel: tile.Kernel) -> None:
        self.start: dict[Operation, int] = {}
        self.end: dict[Operation, int] = {}
        self.clock = 0
        self._number(kernel.body.block)

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def _number(self, block: Block) -> None:
        for op in block.ops:
            self.start[op] = self._tick()
            for region in op.regions:
                self._number(region.block)
                self.end[op] = self._tick()
                # What a step hands on is read where the step ends.
                assert region.block.last_op is not None
                self.start[region.block.last_op] = self.end[op]

    def spans(self, value: SSAValue) -> list[Span]:
        """When the bytes of a value are taken."""
        size = tile_bytes(value)
        if isinstance(value, BlockArgument):
            loop = value.block.parent_op()
            assert isinstance(loop, tile.Loop)
            first, last = self.start[loop], self.end[loop]
            # Where a step ends, the value of the next is put there.
            return [Span(first, self._last_use(value, first), size), Span(last, last, size)]
        assert isinstance(value.owner, Operation)
        made = self.end[value.owner] if value.owner.regions else self.start[value.owner]
        return [Span(made, self._last_use(value, made), size)]

    def of_loop(self, loop: tile.Loop, value: SSAValue) -> Span:
        """All steps of a loop, with a copy of a value for each of those in flight."""
        size = tile_bytes(value) * loop.stages.value.data
        return Span(self.start[loop], self.end[loop], size)

    def _last_use(self, value: SSAValue, made: int) -> int:
        block = value.owner if isinstance(value.owner, Block) else value.owner.parent
        return max((self._use(use.operation, block) for use in value.uses), default=made)

    def _use(self, op: Operation, block: Block | None) -> int:
        """When an op reads a value of a block; in a loop until the last step has read it."""
        if op.parent is block:
            return self.start[op]
        while op.parent is not block:
            parent = op.parent_op()
            assert parent is not None, "a value is used where it is defined, or in a body there"
            op = parent
        return self.end[op]


def _buffers(kernel: tile.Kernel, spaces: TileSpaces) -> dict[SSAValue, Buffer]:
    """The buffer of each tile, in the order of `placed_values`."""
    times = _Times(kernel)
    made_ahead = _made_ahead(kernel)
    buffers: dict[SSAValue, Buffer] = {}
    for value in placed_values(kernel):
        shared = _same_bytes(value)
        held = buffers.get(shared) or Buffer(space_of(value, spaces))
        buffers[value] = held
        held.spans += times.spans(value)
        if value in made_ahead:
            held.copies = made_ahead[value].stages.value.data
            held.spans.append(times.of_loop(made_ahead[value], value))
    _share(kernel, buffers, times)
    return buffers


def _made_ahead(kernel: tile.Kernel) -> dict[SSAValue, tile.Loop]:
    """The tiles that pipelined loops make ahead."""
    ahead = [loop for loop in _loops(kernel) if loop.stages.value.data > 1]
    return {
        base_of(value): loop for loop in ahead for op in ops_ahead(loop) for value in op.results
    }


def _loops(kernel: tile.Kernel) -> list[tile.Loop]:
    return [op for op in ops_within(kernel) if isinstance(op, tile.Loop)]


def _same_bytes(value: SSAValue) -> SSAValue:
    """The value whose buffer this is anyway: of a view its tile, of a carried value the result."""
    base = base_of(value)
    carried = carried_by(base)
    return base if carried is None else carried[0].outputs[carried[1]]


# ---- sharing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handover:
    """At this time `old` may end in the place in which `new` begins."""

    old: SSAValue
    new: SSAValue
    time: int


def _share(kernel: tile.Kernel, buffers: dict[SSAValue, Buffer], times: _Times) -> None:
    """One buffer for values of which one ends where the other begins, as far as ops allow."""
    handovers = [
        one for one in _handovers(kernel, times) if one.old in buffers and one.new in buffers
    ]
    for one in handovers:
        first, second = buffers[one.old], buffers[one.new]
        if first is not second and _can_join(first, second, handovers, buffers):
            first.spans += second.spans
            for value, held in buffers.items():
                if held is second:
                    buffers[value] = first


def _handovers(kernel: tile.Kernel, times: _Times) -> Iterator[Handover]:
    """Operands that a result may overwrite, and what a loop takes, carries on and gives back."""
    for op in ops_within(kernel):
        for operand in in_place_operands(op):
            yield Handover(operand, op.results[0], times.start[op])
    for loop in _loops(kernel):
        last = loop.body.block.last_op
        assert last is not None
        for first, value, output in zip(loop.carried, last.operands, loop.outputs, strict=True):
            yield Handover(first, output, times.start[loop])
            yield Handover(value, output, times.end[loop])


def _can_join(
    first: Buffer,
    second: Buffer,
    handovers: Sequence[Handover],
    buffers: dict[SSAValue, Buffer],
) -> bool:
    """Whether two buffers only meet where a value of one hands over to a value of the other."""
    if first.space != second.space or first.copies + second.copies > 2:
        return False
    meetings = [(max(a.first, b.first), min(a.last, b.last)) for a, b in _common(first, second)]
    if any(begin != end for begin, end in meetings):
        return False
    met = {time for time, _ in meetings}
    for one in handovers:
        old, new = buffers[one.old], buffers[one.new]
        if {old, new} == {first, second} and _is_clean(old, new, one.time):
            met.discard(one.time)
    return not met


def _is_clean(old: Buffer, new: Buffer, time: int) -> bool:
    """Whether nothing in one buffer lives past the time, and nothing in the other before it."""
    stays = any(span.first <= time < span.last for span in old.spans)
    return not stays and not any(span.first < time <= span.last for span in new.spans)


def _common(first: Buffer, second: Buffer) -> Iterator[tuple[Span, Span]]:
    """The spans of two buffers that meet."""
    for a in first.spans:
        begin, end, _ = a
        for b in second.spans:
            if begin <= b.last and b.first <= end:
                yield a, b


# ---- first fit ---------------------------------------------------------------------------------

Rank = Callable[[Buffer], tuple[int, int, int]]

ORDERS: tuple[Rank, ...] = (
    lambda buffer: (-buffer.bytes, buffer.spans[0].first, -buffer.length),
    lambda buffer: (-buffer.length, -buffer.bytes, buffer.spans[0].first),
    lambda buffer: (-buffer.bytes * buffer.length, -buffer.bytes, buffer.spans[0].first),
)
"""In which order buffers take the first gap that they fit in: the best order is kept."""


def _place(buffers: list[Buffer]) -> None:
    """Offsets for the buffers of one space."""
    meetings = {buffer: _meetings(buffer, buffers) for buffer in buffers}
    found = [_first_fit(sorted(buffers, key=rank), meetings) for rank in ORDERS]
    ends = [max(at + buffer.bytes for buffer, at in offsets.items()) for offsets in found]
    for buffer, offset in found[ends.index(min(ends))].items():
        buffer.offset = offset


Meeting = tuple[Buffer, int, int]
"""Another buffer, and how many bytes each of two has where spans of both meet: own, theirs."""


def _meetings(buffer: Buffer, buffers: Sequence[Buffer]) -> list[Meeting]:
    return [
        (other, own.bytes, theirs.bytes)
        for other in buffers
        if other is not buffer
        for own, theirs in _common(buffer, other)
    ]


def _first_fit(buffers: list[Buffer], meetings: dict[Buffer, list[Meeting]]) -> dict[Buffer, int]:
    """Each buffer at the lowest offset that is free while it lives."""
    offsets: dict[Buffer, int] = {}
    for buffer in buffers:
        # Offsets between two bounds put bytes of the two into one place.
        taken = sorted(
            (offsets[other] - own, offsets[other] + theirs)
            for other, own, theirs in meetings[buffer]
            if other in offsets
        )
        offset = 0
        for low, high in taken:
            if low < offset < high:
                offset = high
        offsets[buffer] = offset
    return offsets
