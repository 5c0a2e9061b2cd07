"""Which memories of a machine hold which tiles, and the options of the passes that follow."""

from types import SimpleNamespace
from typing import Any

import pytest

from supertile.ir.errors import UserError
from supertile.passes.assign_memory import read_memory
from supertile.passes.choose_tiles import ChooseTiles
from supertile.targets import tile_limits
from supertile.targets.machine import load_machine, machine_names
from supertile.targets.tile_limits import memory_text, tile_memories, tile_options

ROLES = {
    "ascend-910c": ("l1", "l0c", "ub"),
    "ascend-950dt": ("l1", "l0c", "ub"),
    "h100": ("smem", "registers", "smem"),
    "h200": ("smem", "registers", "smem"),
    "gb200-nvl72": ("smem", "tmem", "smem"),
    "gb300-nvl72": ("smem", "tmem", "smem"),
    "numpy": ("l2", "l2", "l2"),
}


def test_every_machine_is_listed() -> None:
    assert set(ROLES) == set(machine_names())


@pytest.mark.parametrize("name", ROLES)
def test_memories_of_tiles(name: str) -> None:
    held = tile_memories(load_machine(name))
    assert tuple(held[use].name for use in ("operand", "accumulator", "vector")) == ROLES[name]


@pytest.mark.parametrize("name", ROLES)
def test_the_options_are_those_of_the_passes(name: str) -> None:
    machine = load_machine(name)
    options = tile_options(machine, 64, 8, 4096)
    assert ChooseTiles(**options).tokens == 64
    capacities = read_memory(memory_text(machine), "assign-memory")
    assert {options["operand"], options["accumulator"], options["vector"]} == set(capacities)
    assert options["operand_bytes"] == capacities[options["operand"]]


def test_a_machine_without_core_memory_holds_no_tiles(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bare.toml"
    path.write_text(
        """
name = "bare"
title = "A machine without on-chip memory"
device_unit = "chip"
devices = { value = 1, unit = "count", source = "S", evidence = "vendor" }
sources.S = "a sheet"
[formats]
stored = ["f32", "bf16"]
source = "S"
evidence = "vendor"
[engines.matrix]
kind = "matrix"
cores = { value = 4, unit = "count", source = "S", evidence = "vendor" }
rate.bf16 = { value = 1, unit = "TFLOP/s", source = "S", evidence = "vendor" }
[engines.vector]
kind = "vector"
cores = { value = 4, unit = "count", source = "S", evidence = "vendor" }
rate.f32 = { value = 1, unit = "TFLOP/s", source = "S", evidence = "vendor" }
[memories.main]
per = "device"
capacity = { value = 8, unit = "GB", source = "S", evidence = "vendor" }
read = { value = 100, unit = "GB/s", source = "S", evidence = "vendor" }
""",
        encoding="utf-8",
    )
    with pytest.raises(UserError) as error:
        tile_memories(load_machine(path))
    assert error.value.code == "machine.no_tile_memory"


def memory(name: str, size: float | None) -> Any:
    return SimpleNamespace(name=name, capacity=SimpleNamespace(value=size))


def test_a_use_without_a_memory_of_its_name_takes_the_largest() -> None:
    cores = [memory("a", 5), memory("b", 9), memory("c", None), memory("smem", 1)]
    assert tile_limits._memory(cores, ("ub", "smem")).name == "smem"
    assert tile_limits._memory(cores, ("ub", "l1")).name == "b"


@pytest.mark.parametrize("name", ROLES)
def test_the_balance_is_operations_for_each_byte(name: str) -> None:
    machine = load_machine(name)
    matrix = machine.engine("matrix")
    assert matrix is not None
    rate = next(matrix.rate[kind].value for kind in ("bf16", "f16", "f32") if kind in matrix.rate)
    outer = [m for m in machine.memories.values() if m.per == "device" and m.outer]
    reads = [m.read.value for m in (*outer, machine.main_memory) if m.read.value is not None]
    expected = round(rate / reads[0], 3) if rate and reads else 64.0
    assert tile_options(machine, 1, 1, 1)["balance"] == expected


@pytest.mark.parametrize("name", ROLES)
def test_the_options_name_the_cores(name: str) -> None:
    machine = load_machine(name)
    options = tile_options(machine, 1, 1, 1)
    for option, kind in (("cores", "matrix"), ("vector_cores", "vector")):
        engine = machine.engine(kind)
        known = None if engine is None else engine.cores.value
        assert options[option] == (128 if known is None else known)
    assert tile_limits._cores(None) == 128, "as many as a large chip has"
