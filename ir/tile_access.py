"""Which references a kernel reads and which it writes: what the order of launches depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from supertile.ir import tile
from supertile.ir.walk import ops_within

# Run-time sizes that need the numbers in an argument, not its shape alone.
COUNTED = ("most", "windows")


@dataclass(frozen=True)
class Access:
    """What a kernel does with the bytes of a reference; neither if it asks for its sizes only."""

    reads: bool = False
    writes: bool = False

    def __or__(self, other: Access) -> Access:
        return Access(self.reads or other.reads, self.writes or other.writes)


@dataclass(frozen=True)
class LaunchAccess:
    """The accesses of a launch: of its operands, and of results with memory of their own."""

    inputs: tuple[Access, ...]
    outputs: tuple[Access, ...]


def launch_access(kernel: tile.Kernel) -> LaunchAccess:
    """What a launch of the kernel does; results that overwrite operands count as those."""
    found: dict[SSAValue, Access] = dict.fromkeys(kernel.body.block.args, Access())
    for ref, access in _accesses(kernel):
        if ref in found:
            found[ref] = found[ref] | access
    count = kernel.inputs.value.data
    inputs = [found[ref] for ref in kernel.body.block.args[:count]]
    outputs = []
    for ref, reused in zip(kernel.results_, kernel.reuses.get_values(), strict=True):
        if reused < 0:
            outputs.append(found[ref] | Access(writes=True))
        else:
            inputs[reused] = inputs[reused] | found[ref] | Access(writes=True)
    return LaunchAccess(tuple(inputs), tuple(outputs))


def _accesses(kernel: tile.Kernel) -> Iterator[tuple[SSAValue, Access]]:
    arguments = kernel.body.block.args
    for op in ops_within(kernel):
        yield from _of_op(op)
        if isinstance(op, tile.Kernel | tile.Alloc):
            for extent in op.extents:
                kind, argument, *_ = extent.fields()
                yield arguments[argument], Access(reads=kind in COUNTED)


def _of_op(op: Operation) -> Iterator[tuple[SSAValue, Access]]:
    match op:
        case tile.Load() | tile.Gather():
            yield op.ref, Access(reads=True)
        case tile.Store() | tile.Scatter():
            yield op.ref, Access(writes=True)
        case tile.Grid():
            for ref, ragged in zip(op.refs, op.ragged.get_values(), strict=True):
                yield ref, Access(reads=bool(ragged))
        case tile.Loop():
            yield op.ref, Access()
        case _:
            for value in op.operands:
                if isinstance(value.type, tile.RefType):
                    yield value, Access(reads=True)
