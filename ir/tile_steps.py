"""Whether tiles are as long as the steps between them: blocks neither overlap nor miss rows.

    for op, message in step_problems(kernel): ...

A tile that begins at the index of a grid or a loop has, on that axis, as many elements as the index
advances by; an index that is computed from another, such as the window of a row, has no step.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.ir import BlockArgument, Operation, SSAValue

from supertile.ir import tile
from supertile.ir.op import shape_of
from supertile.ir.walk import ops_within

Problem = tuple[Operation, str]


def step_problems(kernel: tile.Kernel) -> Iterator[Problem]:
    """Movements whose axes are none of the tile, or whose tiles do not fit the steps."""
    for op in ops_within(kernel):
        match op:
            case tile.Load():
                yield from _of_movement(op, op.result, 0)
            case tile.Store():
                yield from _of_movement(op, op.value, 0)
            case tile.Gather():
                yield from _of_movement(op, op.result, len(shape_of(op.rows)))
            case tile.Scatter():
                yield from _of_movement(op, op.value, len(shape_of(op.rows)))
            case _:
                continue


def _of_movement(
    op: tile.Load | tile.Store | tile.Gather | tile.Scatter, moved: SSAValue, lead: int
) -> Iterator[Problem]:
    """`lead` axes of the tile `moved` go by numbers of rows, and are not counted in `axes`."""
    axes, sizes = op.axes.get_values(), shape_of(moved)[lead:]
    if list(axes) != sorted({axis for axis in axes if 0 <= axis < len(sizes)}):
        yield op, f"axes are ascending ones of a tile of {list(sizes)}, got {list(axes)}"
        return
    if len(axes) != len(op.offsets):
        yield op, f"{len(axes)} axes have {len(op.offsets)} offsets"
        return
    for axis, offset in zip(axes, op.offsets, strict=True):
        step = step_of(offset)
        if step is not None and step != sizes[axis]:
            yield op, f"axis {axis} of the tile has {sizes[axis]} elements, steps have {step}"


def step_of(index: SSAValue) -> int | None:
    """By how much an index advances from block to block; None where it follows from others."""
    if not isinstance(index, BlockArgument):
        return None
    match index.block.parent_op():
        case tile.Loop() as loop:
            return loop.step.value.data
        case tile.Grid() as grid:
            steps: list[int | None] = []
            for step, ragged in zip(grid.steps.get_values(), grid.ragged.get_values(), strict=True):
                # The end of a group's rows is no place where a tile begins, nor is its number.
                steps += [None, step, None] if ragged else [step]
            return steps[index.index]
        case _:
            return None
