"""The time of one kernel launch: a roofline for each engine and memory, with waves of tiles.

    kernel = launch + the sum over phases of max(waves x block, hbm, l2)
    waves  = ceil(blocks / cores)                     block: see pipeline.py
    hbm    = bytes that must move / (bandwidth x memory_fraction)
    l2     = bytes loaded and stored by all blocks / bandwidth of the cache

The bytes of main memory are a kernel's; each phase has the share that it has of the loads and
stores. Everything works on numbers and on arrays of a sweep alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supertile.ir.formula import Formula
from supertile.ir.tile_work import KernelWork, Phase
from supertile.targets.cost.figures import Ledger, shared_cache
from supertile.targets.cost.pipeline import BlockTime, Core, added, engine_kinds
from supertile.targets.cost.values import (
    Value,
    ceil_divide,
    is_array,
    largest,
    number_text,
    plain,
    value_of,
)
from supertile.targets.machine_types import Machine

SYMBOLS = "launch + sum over phases of max(ceil(blocks / cores) x block, memories)"
MATTERS = 0.05
"""A term that decides less of a time than this is not among its figures."""
Touched = Mapping[str, Value]


@dataclass(frozen=True)
class KernelTime:
    """One launch. Every number is an array in a sweep."""

    duration: Value
    """Seconds, launch included."""
    launch: float
    busy: Mapping[str, Value]
    """Seconds that each engine or memory would need alone, with all of the device's units."""
    bound: Value
    """The key of `busy` that decides most of the duration, or "launch"; in a sweep an array."""
    flops: Value
    bytes: Mapping[str, Value]
    """Bytes through the main memory and the cache."""
    formula: str
    figures: tuple[str, ...]
    """Figures behind the deciding terms and the launch."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _PhaseTime:
    seconds: Value
    decided: Mapping[str, Value]
    """Resource -> the seconds of this phase that it decides."""
    busy: Mapping[str, Value]
    text: str


def kernel_time(
    work: KernelWork,
    machine: Machine,
    values: Mapping[str, Value],
    touched: Touched | None = None,
) -> KernelTime:
    """The time of one launch of `work` at the sizes `values` (`sizes.sizes_of`).

    `touched` gives, for labels of `work.read`, the share of the bytes that is really read: that of
    experts without rows is not. Raises `machine.unknown_figure` where a rate is unknown.
    """
    ledger = Ledger(machine, f"the time of {work.symbol}")
    read = _bytes(work.read, values, touched or {}, work.held)
    written = _bytes(work.written, values, {})
    grids = [_grid(phase, ledger, values) for phase in work.phases]
    shares = _shares([grid.loaded + grid.stored for grid in grids])
    phases = [
        _phase_time(grid, ledger, share * read, share * written)
        for grid, share in zip(grids, shares, strict=True)
    ]
    launch = ledger.launch(f"launch_{_engine_kind(work)}")
    duration = plain(launch + sum(phase.seconds for phase in phases))
    decided = added({"launch": launch}, *(phase.decided for phase in phases))
    busy = added(*(phase.busy for phase in phases))
    terms = " + ".join([f"{number_text(launch, 's')} launch", *(phase.text for phase in phases)])
    cached = sum(grid.loaded + grid.stored for grid in grids)
    return KernelTime(
        duration=duration,
        launch=launch,
        busy={name: plain(seconds) for name, seconds in busy.items()},
        bound=_bound(decided),
        flops=plain(value_of(work.flops, values)),
        bytes=_bytes_moved(machine, read + written, cached),
        formula=f"{SYMBOLS}\n= {terms}\n= {number_text(duration, 's')}",
        figures=ledger.paths(*_deciders(decided, duration)),
        notes=tuple(ledger.notes),
    )


# ---- a phase ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """A phase at its sizes."""

    core: Core
    blocks: Value
    block: BlockTime
    loaded: Value
    """Bytes that all blocks load."""
    stored: Value


def _grid(phase: Phase, ledger: Ledger, values: Mapping[str, Value]) -> _Grid:
    core = Core(ledger, phase.block, values)
    blocks: Value = 1
    for extent in phase.grid:
        blocks = blocks * core.blocks(extent)
    loaded, stored = core.traffic(phase.block)
    return _Grid(core, blocks, core.time(phase.block), blocks * loaded, blocks * stored)


def _phase_time(grid: _Grid, ledger: Ledger, read: Value, written: Value) -> _PhaseTime:
    cores = grid.core.cores
    active = np.minimum(grid.blocks, cores) / cores
    memories = {
        **_cache_seconds(ledger, grid.loaded, grid.stored),
        **_main_seconds(ledger, read, written, active),
    }
    on_cores = ceil_divide(grid.blocks, cores) * grid.block.seconds
    options = {"": on_cores, **memories}  # "": what the cores do
    seconds = largest(*options.values())
    decided = _won(options, seconds)
    # On the cores, the engine or memory that is busiest in a block decides.
    on_cores = decided.pop("")
    decided = added(decided, _won(grid.block.busy, on_cores))
    busy = {name: grid.blocks * time / cores for name, time in grid.block.busy.items()}
    return _PhaseTime(seconds, decided, added(busy, memories), _phase_text(grid, memories))


def _cache_seconds(ledger: Ledger, loaded: Value, stored: Value) -> dict[str, Value]:
    """What passes the cache; nothing, with a note, if its bandwidth is unknown."""
    cache = shared_cache(ledger.machine)
    if cache is None:
        return {}
    read = ledger.known(f"memories.{cache.name}.read", cache.name)
    if read is None:
        ledger.note(f"the bandwidth of {cache.name} is unknown: it is left out")
        return {}
    write = ledger.known(f"memories.{cache.name}.write", cache.name)
    if write is None and np.any(stored > 0):
        _written_as_read(ledger, cache.name)
    return {cache.name: loaded / read + stored / (write or read)}


def _main_seconds(ledger: Ledger, read: Value, written: Value, active: Value) -> dict[str, Value]:
    """Bytes of the main memory; few cores draw no more than their share of what the cache fills."""
    name = ledger.machine.main_memory.name
    cache = shared_cache(ledger.machine)
    fraction = ledger.fraction("memory_fraction", name)
    peak = ledger.need(f"memories.{name}.read", name)
    rates = []
    for way, side in (("fill", "read"), ("drain", "write")):
        known = ledger.known(f"memories.{name}.{side}", name)
        if known is None and np.any(written > 0):
            _written_as_read(ledger, name)
        own = (known or peak) * fraction
        figure = "" if cache is None else f"memories.{cache.name}.{way}"
        share = ledger.machine.figure(figure).value
        if share is not None and np.any(share * active < own):
            ledger.known(figure, name)
        rates.append(own if share is None else np.minimum(own, share * active))
    moved = zip((read, written), rates, strict=True)
    return {name: sum(size / np.where(rate == 0, np.inf, rate) for size, rate in moved)}


def _written_as_read(ledger: Ledger, memory: str) -> None:
    text = f"what {memory} writes a second is unknown: what it reads stands for it"
    ledger.stand_in(f"memories.{memory}.write", memory, text)


def _phase_text(grid: _Grid, memories: Mapping[str, Value]) -> str:
    engine = f"{grid.core.cores:.0f} {grid.core.engine.name} cores"
    waves = f"ceil({number_text(grid.blocks)} blocks / {engine})"
    terms = [f"{waves} x {number_text(grid.block.seconds, 's')}"]
    terms += [f"{name} {number_text(seconds, 's')}" for name, seconds in memories.items()]
    return f"max({', '.join(terms)})"


# ---- bytes ------------------------------------------------------------------------------------


Operands = tuple[tuple[str, int | Formula], ...]


def _bytes(
    operands: Operands, values: Mapping[str, Value], touched: Touched, held: Operands = ()
) -> Value:
    """Bytes of all operands. What is read by row number is never more than all that is `held`."""
    sizes = [value_of(size, values) * touched.get(label, 1) for label, size in operands]
    for number, (label, whole) in enumerate(held):
        limit = value_of(whole, values) * touched.get(label, 1)
        sizes[number] = np.minimum(sizes[number], limit)
    return sum(float(size) if not is_array(size) else size for size in sizes)


def _bytes_moved(machine: Machine, main: Value, cached: Value) -> dict[str, Value]:
    cache = shared_cache(machine)
    moved = {machine.main_memory.name: plain(main)}
    return moved if cache is None else {**moved, cache.name: plain(cached)}


def _shares(traffic: list[Value]) -> list[Value]:
    """Each phase's share of the traffic; the first has all where nothing moves."""
    total = sum(traffic)
    empty = np.equal(total, 0)
    divisor = np.where(empty, 1, total)
    return [np.where(empty, float(n == 0), part / divisor) for n, part in enumerate(traffic)]


# ---- what decides -----------------------------------------------------------------------------


def _won(options: Mapping[str, Value], seconds: Value) -> dict[str, Value]:
    """`seconds` for the largest option and 0 for the others, at each point; the first of equals."""
    if not options:
        return {}
    rows = np.broadcast_arrays(*options.values(), seconds)[:-1]
    winner = np.argmax(np.stack(rows), axis=0)
    return {name: np.where(winner == n, seconds, 0.0) for n, name in enumerate(options)}


def _bound(decided: Mapping[str, Value]) -> Value:
    """The resource that decides most; an array of names in a sweep."""
    names = np.array(list(decided), dtype=object)
    return names[np.argmax(np.stack(np.broadcast_arrays(*decided.values())), axis=0)]


def _deciders(decided: Mapping[str, Value], duration: Value) -> list[str]:
    """The resources that decide more than `MATTERS` of the duration, at any point."""
    return [name for name, part in decided.items() if np.any(part > MATTERS * duration)]


def _engine_kind(work: KernelWork) -> str:
    kinds = {kind for phase in work.phases for kind in engine_kinds(phase.block)}
    return "matrix" if "matrix" in kinds else "vector"
