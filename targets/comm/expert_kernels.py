"""The kernels of a layer's experts, as a module is tiled, and the time that they take.

    works = expert_works(function)                  # a tiled function with a dispatch
    time = kernel_experts(machine, works, rows, touched)

They are the launches between dispatch and combine. Which tiles they have hangs on the deployment,
so whoever asks for many deployments is given a function from each to its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

from supertile.ir import comm, graph, tile
from supertile.ir.comm_work import ARRIVED
from supertile.ir.tile_count import kernel_work
from supertile.ir.tile_shapes import kernels_of
from supertile.ir.tile_work import KernelWork
from supertile.ir.work import function_shapes
from supertile.targets.comm.layer_time import ExpertTime
from supertile.targets.cost.kernel import kernel_time
from supertile.targets.cost.values import Value
from supertile.targets.deploy import Deployment
from supertile.targets.machine_types import Machine

Works = tuple[KernelWork, ...]
WorksOf = Callable[[Deployment], Works]


def expert_works(function: FuncOp) -> Works:
    """The work of the launches that follow from a dispatch, over named sizes, in order."""
    shapes, kernels = function_shapes(function), kernels_of(function)
    labels: dict[SSAValue, str] = {}
    following: set[SSAValue] = set()
    works: list[KernelWork] = []
    for op in function.body.block.ops:
        match op:
            case graph.Weight():
                labels[op.result] = op.checkpoint.data
            case comm.Dispatch():
                following.update(op.results)
            case graph.Reshape():
                labels[op.result] = labels.get(op.x, "")
                if op.x in following:
                    following.add(op.result)
            case tile.Launch():
                names = [labels.get(value, "") for value in op.operands]
                if not following.isdisjoint(op.operands):
                    operands = [shapes[value] for value in op.operands]
                    works.append(kernel_work(kernels[op.kernel.data], operands, names))
                    following.update(op.results)
                elif all(names):  # made of weights alone, as their first one
                    labels.update(dict.fromkeys(op.results, next(iter(names), "")))
    return tuple(works)


def kernel_experts(
    machine: Machine, works: Sequence[KernelWork], rows: Value, touched: Value
) -> ExpertTime:
    """Of the rank that has `rows`, where the share `touched` of its experts is read."""
    labels = {label for work in works for label, _ in work.read if "{e}" in label}
    shares = dict.fromkeys(sorted(labels), touched)
    times = [kernel_time(work, machine, {ARRIVED: rows}, shares) for work in works]
    matrix, memory = machine.engine("matrix"), machine.main_memory.name
    assert matrix is not None, "every machine has a matrix engine"
    return ExpertTime(
        launch=sum(time.launch for time in times),
        arithmetic=sum(time.busy.get(matrix.name, 0.0) for time in times),
        weights=sum(time.busy.get(memory, 0.0) for time in times),
        figures=tuple(dict.fromkeys(path for time in times for path in time.figures)),
        kernels=sum(time.duration for time in times),
    )
