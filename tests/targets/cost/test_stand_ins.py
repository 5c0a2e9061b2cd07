"""What stands for an unknown figure lowers the evidence that is told, wherever it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import pytest
from cost_examples import T, elementwise, figure, kernel, machine, product

from supertile.ir.comm_route import Hop, Route
from supertile.ir.errors import UserError
from supertile.ir.tile_work import Block, Extent, KernelWork, Phase
from supertile.targets.comm.choice import choose
from supertile.targets.comm.layer_time import weakest_evidence
from supertile.targets.cost.evidence import STAND_IN, figure_uses, verdict
from supertile.targets.cost.kernel import kernel_time
from supertile.targets.cost.link import all_reduce_time
from supertile.targets.cost.route import Exchange, route_time
from supertile.targets.machine import load_machine
from supertile.targets.machine_types import Figure, Machine
from supertile.targets.output.explain import _parameters
from supertile.targets.step import _announced
from supertile.targets.timeline import Program, Task

Cost = Callable[[Machine], tuple[str, ...]]


def changed(value: Any, change: Callable[[str, Figure], Figure], name: str = "") -> Any:
    """A machine or a part of it with all figures changed, by dotted name."""
    if isinstance(value, Figure):
        return change(name, value)
    if isinstance(value, dict):
        return {key: changed(one, change, f"{name}.{key}") for key, one in value.items()}
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        return tuple(changed(one, change, f"{name}.{one.name}") for one in value)
    if not is_dataclass(value) or name.startswith(".formats"):
        return value
    parts = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    return replace(
        value, **{key: changed(one, change, f"{name}.{key}") for key, one in parts.items()}
    )


def measured(held: Machine) -> Machine:
    """Every known figure on its best word."""
    return changed(held, lambda _, one: replace(one, evidence="measured") if one.value else one)


def without(held: Machine, path: str) -> Machine:
    return changed(held, lambda name, one: figure(None) if name == f".{path}" else one)


def exchange(operation: str, ranks: int) -> Exchange:
    return Exchange(operation, ranks, 384, 6, 64.0, 1.1, 7224.0)


def of_transfer(operation: str, ranks: int, route: Route | None = None) -> Cost:
    """The figures of the route that is taken, or of the one that is named."""

    def figures(held: Machine) -> tuple[str, ...]:
        sent = exchange(operation, ranks)
        if route is not None:
            return route_time(held, sent, route).figures
        time = choose(held, sent).best.time
        assert time is not None
        return time.figures

    return figures


def of_kernel(work: KernelWork) -> Cost:
    return lambda held: kernel_time(work, held, {"T": 100}).figures


def reduced(held: Machine) -> tuple[str, ...]:
    return all_reduce_time(held, 2, 1e6).figures


def later_wave(held: Machine) -> tuple[str, ...]:
    task = Task("dispatch", "communication", "node", 0.0, 1e-4, ())
    return _announced(task, 5e-5, held).figures


def quick_cores() -> Machine:
    """Cores that load and store without waiting: the cache or the engine decides."""
    held = machine()
    l1 = replace(held.memories["l1"], fill=figure(1e13), drain=figure(1e13))
    return replace(held, memories={**held.memories, "l1": l1})


STEP = {("matrix", "bf16"): 2 * 100**3}
MOVED = kernel(Phase((Extent(T, 1),), Block(STEP, loaded={"l1": 10**7}, stored={"l1": 10**7})))
BUSY = kernel(Phase((Extent(T, 1),), Block({("matrix", "bf16"): 10**9})))
SUPERNODE = "domains.supernode.protocols.dispatch"
POD = "domains.pod.protocols"
NODE = Route("direct", (Hop("node", "fused"),))
LINK = Route("direct", (Hop("pod", "link"),))
M910C = partial(load_machine, "ascend-910c")

# What is costed, on which machine, the figures that are unknown: others stand for them.
CASES: dict[str, tuple[Cost, Callable[[], Machine], list[str]]] = {
    "matrix engine": (of_kernel(BUSY), quick_cores, ["parameters.matrix_fraction"]),
    "vector engine": (of_kernel(elementwise(10**6)), machine, ["parameters.vector_fraction"]),
    "memory": (of_kernel(elementwise()), machine, ["parameters.memory_fraction"]),
    "cores": (of_kernel(product()), machine, ["engines.cube.cores"]),
    "main memory writes": (of_kernel(elementwise()), machine, ["memories.hbm.write"]),
    "cache writes": (of_kernel(MOVED), quick_cores, ["memories.l2.write"]),
    "a core's memory": (of_kernel(MOVED), machine, ["memories.l1.fill"]),
    "latency": (reduced, machine, ["domains.node.latency"]),
    "link": (reduced, machine, ["parameters.link_fraction"]),
    "fused start-up": (of_transfer("dispatch", 384), M910C, [f"{SUPERNODE}.write_latency"]),
    "fused bandwidth": (of_transfer("dispatch", 384), M910C, [f"{SUPERNODE}.write_bandwidth"]),
    "a larger domain's fit": (of_transfer("dispatch", 16, NODE), M910C, []),
    "protocols": (
        of_transfer("dispatch", 8, LINK),
        machine,
        [f"{POD}.load_store.write_bandwidth", f"{POD}.dma.write_bandwidth"],
    ),
    "latency of a flag": (later_wave, machine, ["domains.node.latency"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stand_in_is_assumed(name: str) -> None:
    cost, made, unknown = CASES[name]
    held = measured(made())
    if unknown:
        known = cost(held)
        assert all(held.figure(path).evidence == "measured" for path in known if path in unknown)
    for path in unknown:
        held = without(held, path)
    paths = cost(held)
    assert weakest_evidence(held, paths) == "assumed"
    task = Task("t", "kind", "compute", 0.0, 1.0, (), figures=paths)
    uses = figure_uses((Program("p", (task,)),), (("p", 1),), held)
    assert verdict(uses) == "unverified"
    assumed = [one for one in uses if one.evidence == "assumed"]
    assert all(one.source == STAND_IN and one.value == "unknown" for one in assumed)
    assert {one.path for one in assumed} >= {*unknown[:1]}


COSTS = {
    "elementwise": of_kernel(elementwise(exponentials=10)),
    "dispatch": of_transfer("dispatch", 8),
    "all reduce": reduced,
}
# Terms that are left out, which is noted: nothing stands for them.
LEFT_OUT = ("launch_", ".issue", "memories.l2.")


@pytest.mark.parametrize("name", COSTS)
def test_no_figure_is_replaced_in_silence(name: str) -> None:
    """Each figure behind a cost, once it is unknown: an error, another protocol, or assumed."""
    cost, held = COSTS[name], measured(machine())
    paths = cost(held)
    assert paths and weakest_evidence(held, paths) == "measured"
    for path in paths:
        less = without(held, path)
        try:
            left = cost(less)
        except UserError as error:
            assert error.code == "machine.unknown_figure"
            continue
        other = ".protocols." in path or any(part in path for part in LEFT_OUT)
        assert other or weakest_evidence(less, left) == "assumed", path


def test_a_parameter_is_told_as_assumed() -> None:
    """`explain` says of an unknown figure what the verdict says."""
    (told,) = _parameters(machine(), ("domains.pod.protocols.rdma.write_latency",))
    assert (told.value, told.evidence, told.source) == ("unknown", "assumed", STAND_IN)
