"""Checks the places of tiles by running the kernel on what each byte holds, not on numbers.

An op finds each operand where it was put, or its place has been given away too early. Loops are run
twice, since what the first step overwrites only the second one misses. Nothing here knows how
places are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from supertile.ir import tile
from supertile.ir.tile_ahead import ops_ahead, overwritten
from supertile.ir.tile_places import (
    base_of,
    capacities,
    in_place_operands,
    is_view,
    peaks,
    placed_values,
    tile_bytes,
)
from supertile.ir.tile_steps import Problem, step_problems
from supertile.ir.walk import ops_within


def problems(kernel: tile.Kernel) -> Iterator[Problem]:
    """What is wrong with the loops and the places of a kernel: (op, message) of each finding."""
    for op in ops_within(kernel):
        if isinstance(op, tile.Loop) and op.stages.value.data > 1 and overwritten(op):
            yield op, "a step stores to what a later step has loaded ahead"
    yield from step_problems(kernel)
    if kernel.places is not None:
        yield from _place_problems(kernel, list(kernel.places))


def _place_problems(kernel: tile.Kernel, held: Sequence[tile.PlaceAttr]) -> Iterator[Problem]:
    values = placed_values(kernel)
    if len(values) != len(held):
        yield kernel, f"there are {len(held)} places for {len(values)} tiles"
        return
    places = dict(zip(values, held, strict=True))
    yield from _sizes(places)
    yield from _capacities(kernel, places)
    yield from _copies(kernel, places)
    yield from _Contents(places).run(kernel.body.block)


def _sizes(places: Mapping[SSAValue, tile.PlaceAttr]) -> Iterator[Problem]:
    """A place is as large as the tile, and in the space that a load or fill names."""
    for value, place in places.items():
        space, _, size, _ = place.fields()
        needed, owner = tile_bytes(value), _op_of(value)
        if size < needed:
            yield owner, f"a tile of {needed} bytes has a place of {size}"
        if isinstance(owner, tile.Load | tile.Gather | tile.Fill) and owner.space.data != space:
            yield owner, f"a tile of {owner.space.data} has a place in {space}"


def _capacities(
    kernel: tile.Kernel, places: Mapping[SSAValue, tile.PlaceAttr]
) -> Iterator[Problem]:
    """Every place ends inside its space, and the peaks are where the last one ends."""
    root = kernel.parent_op()
    limits = capacities(root) if isinstance(root, ModuleOp) else {}
    ends: dict[str, int] = {}
    for value, place in places.items():
        space = place.space.data
        ends[space] = max(ends.get(space, 0), place.end())
        if place.end() > limits.get(space, place.end()):
            yield _op_of(value), f"a tile ends at byte {place.end()} of {limits[space]} of {space}"
    if peaks(kernel) != ends:
        yield kernel, f"the peaks are {peaks(kernel)}, the places end at {ends}"


def _copies(kernel: tile.Kernel, places: Mapping[SSAValue, tile.PlaceAttr]) -> Iterator[Problem]:
    """What is made ahead has a copy for each step in flight."""
    for loop in ops_within(kernel):
        if not isinstance(loop, tile.Loop):
            continue
        stages = loop.stages.value.data
        for op in ops_ahead(loop) if stages > 1 else []:
            for value in op.results:
                copies = places[value].fields()[3] if value in places else stages
                if copies < stages:
                    yield op, f"{stages} steps are in flight, and the tile has {copies} copies"


def _op_of(value: SSAValue) -> Operation:
    """The op that a message about a value points at."""
    owner = value.owner if isinstance(value.owner, Operation) else value.owner.parent_op()
    assert owner is not None
    return owner


class _Contents:
    """Which tiles are where they were put, as the ops of a kernel run."""

    def __init__(self, places: Mapping[SSAValue, tile.PlaceAttr]) -> None:
        self.places = places
        # A dict for its order; values compare by identity.
        self.held: dict[SSAValue, None] = {}
        self.ahead: set[Operation] = set()

    def run(self, block: Block) -> Iterator[Problem]:
        for op in block.ops:
            yield from self._read(op)
            if isinstance(op, tile.Loop):
                yield from self._loop(op)
                continue
            for region in op.regions:
                yield from self.run(region.block)
            if op not in self.ahead:
                yield from self._write_results(op)

    def _read(self, op: Operation) -> Iterator[Problem]:
        for number, value in enumerate(op.operands):
            if value in self.places and value not in self.held:
                yield op, f"operand {number} is overwritten before it is read"

    def _write_results(self, op: Operation) -> Iterator[Problem]:
        placed = [value for value in op.results if value in self.places]
        if is_view(op):
            yield from self._view(op, placed)
            return
        shared = in_place_operands(op)
        for value in placed:
            for operand in op.operands:
                whole = operand in shared and self._same_start(operand, value)
                if self._overlap(operand, value) and not whole:
                    yield op, "the result overwrites an operand that is still being read"
        for value in placed:
            self._write(value)
        if any(value not in self.held for value in placed):
            yield op, "two results have a byte in common"

    def _view(self, op: Operation, placed: Sequence[SSAValue]) -> Iterator[Problem]:
        """A view lies where its tile begins, and is there while the tile is."""
        for value in placed:
            if not self._same_start(op.operands[0], value):
                yield op, "a view lies elsewhere than its tile"
            if op.operands[0] in self.held:
                self.held[value] = None

    def _write(self, value: SSAValue) -> None:
        """Put a tile into its place, over what is there."""
        for other in [held for held in self.held if self._overlap(held, value)]:
            del self.held[other]
        self.held[value] = None

    def _overlap(self, first: SSAValue, second: SSAValue) -> bool:
        if first not in self.places or second not in self.places:
            return False
        return self.places[first].overlaps(self.places[second])

    def _same_start(self, first: SSAValue, second: SSAValue) -> bool:
        if first not in self.places or second not in self.places:
            return first in self.places or second in self.places
        return self.places[first].fields()[:2] == self.places[second].fields()[:2]

    # ---- loops ---------------------------------------------------------------------------------

    def _loop(self, loop: tile.Loop) -> Iterator[Problem]:
        body = loop.body.block
        arguments, last = list(body.args[1:]), body.last_op
        assert last is not None
        yield from self._copy(loop, loop.carried, arguments)
        if loop.stages.value.data > 1:
            self._load_ahead(loop)
        for _ in range(2):
            yield from self.run(body)
            yield from self._copy(last, last.operands, arguments)
        for argument, output in zip(arguments, loop.outputs, strict=True):
            if self.places.get(argument) != self.places.get(output):
                yield loop, "what a loop carries and what it gives back lie in two places"
        self._copy_back(arguments, loop.outputs)

    def _load_ahead(self, loop: tile.Loop) -> None:
        """Tiles made ahead are there all the time; the ops that make them write nothing else."""
        for op in ops_ahead(loop):
            self.ahead.add(op)
            for value in op.results:
                if value in self.places:
                    self._write(value)

    def _copy(
        self, op: Operation, sources: Sequence[SSAValue], targets: Sequence[SSAValue]
    ) -> Iterator[Problem]:
        """Values to the places of others, all at once."""
        pairs = [(s, t) for s, t in zip(sources, targets, strict=True) if t in self.places]
        for source, target in pairs:
            others = [other for other, _ in pairs if base_of(other) is not base_of(source)]
            if any(self._overlap(target, other) for other in others):
                yield op, "one of the carried values overwrites another"
        kept = [target for source, target in pairs if source in self.held]
        for _, target in pairs:
            self._write(target)
        for _, target in pairs:
            if target not in kept:
                self.held.pop(target, None)

    def _copy_back(self, arguments: Sequence[SSAValue], outputs: Sequence[SSAValue]) -> None:
        for argument, output in zip(arguments, outputs, strict=True):
            if argument in self.held:
                self.held[output] = None
