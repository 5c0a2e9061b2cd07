"""How long a core takes for one block of a kernel: its straight part, then its loops.

    straight part    loads + arithmetic + stores, one after the other
    loop             turns x the largest of (load, store, each engine), and one load to fill the
                     pipeline; with one stage turns x their sum

A block has one core of the engine that its phase counts cores of, and its share of the others: a
block of a kernel that multiplies on the 910C has one cube core and two vector cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supertile.ir.tile_work import Block, Extent, Loop
from supertile.targets.cost.chance import expected_blocks
from supertile.targets.cost.figures import Ledger, exponential_engine, shared_cache
from supertile.targets.cost.values import Value, ceil_divide, value_of
from supertile.targets.machine_types import Memory

INSTRUCTION = 2
"""Operations that an engine without a special unit's rate could do in an exponential's place: one
instruction is a multiply and an add."""

Seconds = dict[str, Value]  # by engine or memory


@dataclass(frozen=True)
class Straight:
    """What the straight part of a block takes of each resource, in seconds of its core."""

    loads: Seconds
    stores: Seconds
    engines: Seconds


@dataclass(frozen=True)
class BlockTime:
    """One block: its time, and the seconds that each engine and memory works in it."""

    seconds: Value
    busy: Seconds


class Core:
    """The core that runs the blocks of a phase, with its share of every rate of the device."""

    def __init__(self, ledger: Ledger, block: Block, values: Mapping[str, Value]) -> None:
        self.ledger = ledger
        self.values = values
        kind = "matrix" if "matrix" in engine_kinds(block) else "vector"
        engine = ledger.machine.engine(kind)
        assert engine is not None, "every machine has both engines"
        self.engine = engine
        self.cores = self._cores()

    def _cores(self) -> float:
        """Cores of the engine; one with the rate of all, so that no wave is partial, if unknown."""
        cores = self.ledger.known(f"engines.{self.engine.name}.cores", self.engine.name)
        if cores is None:
            text = f"how many cores {self.engine.name} has is unknown: tiles fill all waves"
            self.ledger.stand_in(f"engines.{self.engine.name}.cores", self.engine.name, text)
        return cores or 1.0

    def time(self, block: Block) -> BlockTime:
        straight = self._straight(block)
        inner, busy = self._loops(block)
        parts = (straight.loads, straight.stores, straight.engines)
        seconds = inner + sum(_total(part) for part in parts)
        return BlockTime(seconds, added(busy, *parts))

    def blocks(self, extent: Extent) -> Value:
        """Blocks along a dimension of a grid, on average."""
        size = value_of(extent.size, self.values)
        if extent.groups is None:
            return ceil_divide(size, extent.step)
        groups = value_of(extent.groups, self.values)
        if str(extent.groups) == "B":  # sequences of a deployment are equally long
            return groups * ceil_divide(np.true_divide(size, groups), extent.step)
        return expected_blocks(size, groups, extent.step)

    def turns(self, loop: Loop) -> Value:
        """Turns of a loop in a block, on average; a block has the rows of one group."""
        blocks, groups = self.blocks(loop.extent), loop.extent.groups
        return blocks if groups is None else blocks / value_of(groups, self.values)

    def traffic(self, block: Block) -> tuple[Value, Value]:
        """Bytes that the block loads and stores, its loops included."""
        loaded: Value = sum(block.loaded.values())
        stored: Value = sum(block.stored.values())
        for loop in block.loops:
            turns = self.turns(loop)
            more_loaded, more_stored = self.traffic(loop.body)
            loaded, stored = loaded + turns * more_loaded, stored + turns * more_stored
        return loaded, stored

    def _loops(self, block: Block) -> tuple[Value, Seconds]:
        times = [self._loop(loop) for loop in block.loops]
        return sum(time.seconds for time in times), added(*(time.busy for time in times))

    def _loop(self, loop: Loop) -> BlockTime:
        turns = self.turns(loop)
        straight = self._straight(loop.body)
        inner, busy = self._loops(loop.body)
        parts = (straight.loads, straight.stores, straight.engines)
        busy = {name: turns * seconds for name, seconds in added(busy, *parts).items()}
        if loop.stages < 2:
            return BlockTime(turns * (inner + sum(_total(part) for part in parts)), busy)
        engines = inner + _slowest(straight.engines)
        step = np.maximum(engines, np.maximum(_slowest(straight.loads), _slowest(straight.stores)))
        fill = np.minimum(turns, 1) * _slowest(straight.loads)
        return BlockTime(turns * step + fill, busy)

    def _straight(self, block: Block) -> Straight:
        loads = {name: self._move(name, size, "fill") for name, size in block.loaded.items()}
        stores = {name: self._move(name, size, "drain") for name, size in block.stored.items()}
        engines: Seconds = {}
        for (kind, element), count in block.operations.items():
            engine = self.ledger.machine.engine(kind)
            assert engine is not None, f"no engine of kind {kind}"
            engine = self.ledger.engine_for(engine, element)
            seconds = count * self.cores / self.ledger.rate(engine, element)
            engines[engine.name] = engines.get(engine.name, 0.0) + seconds
        if block.transcendentals:
            name, seconds = self._exponentials(block.transcendentals)
            engines[name] = engines.get(name, 0.0) + seconds
        return Straight(_known(loads), _known(stores), engines)

    def _copies(self, memory: Memory) -> float:
        """How many of a memory the device has; 0 if that is unknown."""
        owner = self.ledger.machine.engines.get(memory.per)
        return 1.0 if owner is None else owner.cores.value or 0.0

    def _exponentials(self, count: int) -> tuple[str, float]:
        engine = exponential_engine(self.ledger.machine)
        each = 1 if engine.kind == "special" else INSTRUCTION
        return engine.name, each * count * self.cores / self.ledger.rate(engine, "f32")

    def _move(self, space: str, size: int, way: str) -> float | None:
        """Seconds to move bytes into or out of a core's memory; None if no rate is known.

        Where the memory's own rate is unknown, a core's even share of the cache's stands for it.
        """
        machine, ledger = self.ledger.machine, self.ledger
        memory = machine.memories.get(space)
        rate = None if memory is None else ledger.known(f"memories.{space}.{way}", space)
        copies = 0.0 if memory is None else self._copies(memory)
        if rate and copies:
            return size * self.cores / (rate * copies)
        cache = shared_cache(machine)
        side = "read" if way == "fill" else "write"
        shared = None if cache is None else ledger.known(f"memories.{cache.name}.{side}", space)
        if shared is None:
            ledger.note(f"what a core of {machine.name} can load or store a second is not known")
            return None
        if memory is not None:  # what lies in no memory of a core comes through the cache alone
            text = f"the {way} rate of {space} is unknown: an even share of the cache's is taken"
            ledger.stand_in(f"memories.{space}.{way}", space, text)
        return size * self.cores / shared


def engine_kinds(block: Block) -> set[str]:
    """The kinds of engine that a block uses, its loops included."""
    kinds = {kind for kind, _ in block.operations}
    return kinds.union(*(engine_kinds(loop.body) for loop in block.loops))


def _known(seconds: Mapping[str, float | None]) -> Seconds:
    return {name: value for name, value in seconds.items() if value is not None}


def _total(seconds: Seconds) -> Value:
    return sum(seconds.values())


def _slowest(seconds: Seconds) -> float:
    return max(seconds.values(), default=0.0)


def added(*parts: Mapping[str, Value]) -> Seconds:
    """The parts summed by name."""
    total: Seconds = {}
    for part in parts:
        for name, seconds in part.items():
            total[name] = total.get(name, 0.0) + seconds
    return total
