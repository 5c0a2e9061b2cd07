"""What `choose-tiles` and `assign-memory` need to know of a machine and a deployment.

A machine file names its memories as it likes. Those with one copy for each core of the matrix
engine hold tiles: accumulators lie in the first of `ACCUMULATORS` that there is, operands of
products in the first of `OPERANDS`, other tiles in the first of `VECTORS`; else in the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supertile.ir.errors import UserError
from supertile.targets.machine_types import Machine, Memory

ACCUMULATORS = ("l0c", "tmem", "registers")
OPERANDS = ("l1", "smem")
VECTORS = ("ub", "smem")
UNKNOWN_CORES = 128
"""Where the number of cores is unknown: only sizes are chosen with it, nothing is costed."""


def has_tile_memory(machine: Machine) -> bool:
    return any(memory.per != "device" for memory in machine.memories.values())


def tile_memories(machine: Machine) -> dict[str, Memory]:
    """operand, accumulator, vector -> the memory that holds such tiles."""
    cores = [memory for memory in machine.memories.values() if memory.per != "device"]
    if not cores:
        raise UserError("machine.no_tile_memory", machine=machine.name)
    return {
        "operand": _memory(cores, OPERANDS),
        "accumulator": _memory(cores, ACCUMULATORS),
        "vector": _memory(cores, VECTORS),
    }


def _memory(cores: Sequence[Memory], names: Sequence[str]) -> Memory:
    named = {memory.name: memory for memory in cores}
    known = [named[name] for name in names if name in named]
    return known[0] if known else max(cores, key=lambda memory: memory.capacity.value or 0)


def capacity(machine: Machine, memory: Memory) -> int:
    """Bytes that one kernel may take of a memory of one core."""
    figure = f"memories.{memory.name}.{memory.size_figure}"
    return int(machine.need(figure, "the sizes of tiles"))


def memory_text(machine: Machine) -> str:
    """The capacities as the passes read them: `l1=524288 l0c=131072 ub=196608`."""
    memories = {memory.name: memory for memory in tile_memories(machine).values()}
    return " ".join(f"{name}={capacity(machine, held)}" for name, held in memories.items())


def tile_options(machine: Machine, tokens: int, sequences: int, context: int) -> dict[str, Any]:
    """The fields of the pass choose-tiles."""
    held = tile_memories(machine)
    options: dict[str, Any] = {"tokens": tokens, "sequences": sequences, "context": context}
    for use, memory in held.items():
        options[use] = memory.name
        options[f"{use}_bytes"] = capacity(machine, memory)
    matrix, vector = machine.engine("matrix"), machine.engine("vector")
    options["cores"] = _cores(matrix)
    options["vector_cores"] = _cores(vector)
    options["balance"] = _balance(machine)
    return options


def _cores(engine: Any) -> int:
    value = None if engine is None else engine.cores.value
    return UNKNOWN_CORES if value is None else int(value)


def _balance(machine: Machine) -> float:
    """Operations of the matrix engine, in 16-bit formats, for each byte that its cores can load."""
    matrix = machine.engine("matrix")
    known = {} if matrix is None else {name: f.value for name, f in matrix.rate.items() if f.value}
    rates = [known[name] for name in ("bf16", "f16") if name in known] or list(known.values())
    caches = [m for m in machine.memories.values() if m.per == "device" and m.outer]
    reads = [m.read.value for m in (*caches, machine.main_memory) if m.read.value]
    return round(rates[0] / reads[0], 3) if rates and reads else 64.0
