"""A machine and kernels in round numbers, so that costs can be worked out by hand.

The matrix engine has 10 cores of 10 TFLOP/s each in BF16, of which half is reached; the vector
engine 20 of 1 TFLOP/s each. HBM moves 1 TB/s, of which 0.8 are reached, the L2 4 TB/s; the `l1` of
each matrix core fills at 0.2 TB/s. Two devices share a node (100 GB/s), 8 the machine (50 GB/s).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from supertile.ir.formula import symbol
from supertile.ir.tile_work import Block, Extent, KernelWork, Loop, Phase, Size
from supertile.targets.machine_types import (
    Domain,
    Engine,
    Figure,
    Formats,
    Machine,
    Memory,
    Protocol,
)

T, R, B = symbol("T"), symbol("arrived"), symbol("B")


def figure(value: float | None, evidence: str = "measured", unit: str = "count") -> Figure:
    return Figure(value, unit, "TEST", evidence if value is not None else "unknown")


def machine(**changes: Any) -> Machine:
    """The machine, with fields replaced."""
    held = Machine(
        name="round",
        title="Round numbers",
        device_unit="chip",
        devices=figure(8),
        formats=Formats(("f32", "bf16", "f8e4m3", "f4e2m1", "i8"), (), "TEST", "vendor"),
        engines={
            "cube": Engine(
                name="cube",
                kind="matrix",
                cores=figure(10),
                rate={"bf16": figure(100e12), "i8": figure(200e12)},
            ),
            "vec": Engine(
                name="vec", kind="vector", cores=figure(20), rate={"f32": figure(20e12)}
            ),
        },
        memories={
            "hbm": Memory(
                name="hbm", per="device", outer="",
                capacity=figure(100e9), read=figure(1e12), write=figure(1e12),
            ),
            "l2": Memory(
                name="l2", per="device", outer="hbm",
                capacity=figure(1e8), read=figure(4e12), write=figure(4e12),
            ),
            "l1": Memory(
                name="l1", per="cube", outer="l2", capacity=figure(1e6), fill=figure(0.2e12)
            ),
        },
        domains=(
            Domain(
                name="node", devices=figure(2), bandwidth=figure(100e9), latency=figure(1e-6),
                protocols={},
            ),
            Domain(
                name="pod", devices=figure(8), bandwidth=figure(50e9), latency=figure(2e-6),
                protocols={
                    "load_store": protocol("load_store", 2e-6, 20e9),
                    "dma": protocol("dma", 12e-6, 40e9),
                },
            ),
        ),
        parameters={
            "launch_matrix": figure(5e-6),
            "launch_vector": figure(2e-6),
            "launch_collective": figure(10e-6),
            "matrix_fraction": figure(0.5, "assumed"),
            "vector_fraction": figure(1.0),
            "memory_fraction": figure(0.8, "vendor"),
            "link_fraction": figure(0.5),
        },
        sources={"TEST": "round numbers"},
    )  # fmt: skip
    return replace(held, **changes)


def protocol(name: str, latency: float, bandwidth: float | None, **more: Any) -> Protocol:
    return Protocol(
        name=name,
        engine="",
        write_form=more.pop("form", "sum"),
        read_form="sum",
        write_latency=figure(latency),
        write_bandwidth=figure(bandwidth),
        **more,
    )


def kernel(
    *phases: Phase,
    read: tuple[tuple[str, Size], ...] = (),
    written: tuple[tuple[str, Size], ...] = (),
    flops: Size = 0,
) -> KernelWork:
    return KernelWork("example", "linear", phases, read, written, flops)


def product(columns: int = 1000, depth: int = 1000, element: str = "bf16", stages: int = 2) -> Any:
    """T rows by a weight [columns, depth], in tiles of 100 x 100 x 100 of two bytes an element."""
    step = Block({("matrix", element): 2 * 100**3}, loaded={"l1": 40_000})
    block = Block(stored={"l0c": 0}, loops=(Loop(Extent(depth, 100), stages, step),))
    return kernel(
        Phase((Extent(T, 100), Extent(columns, 100)), block),
        read=(("weight", 2 * columns * depth), ("", 2 * depth * T)),
        written=(("", 2 * columns * T),),
        flops=2 * columns * depth * T,
    )


def elementwise(exponentials: int = 0) -> KernelWork:
    """T rows of 1000, in blocks of 10 rows, one operation an element."""
    block = Block(
        {("vector", "f32"): 10_000},
        transcendentals=exponentials,
        loaded={"ub": 40_000},
        stored={"ub": 40_000},
    )
    return kernel(Phase((Extent(T, 10),), block), read=(("", 4000 * T),), written=(("", 4000 * T),))
