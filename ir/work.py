"""The work rule of every graph op: FLOPs, transcendental evaluations, bytes read and written.

Two tables, in the order of `graph.OPS`. `WORK` counts arithmetic from the sizes alone: a multiply
and an add are two FLOPs, a comparison is one, index arithmetic is one for each index. `TOUCHED`
says which part of each operand and result an op moves, where that is not all of it; `bytes_of`
turns parts into bytes by their types. Sizes are integers or formulas, so that one count serves a
whole sweep. Where a count depends on data it is the upper bound.

Nothing here knows a machine: bytes are what must move if an op runs alone and keeps nothing;
`graph.fused` counts what its region must move as one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from supertile.ir import comm, graph, tile
from supertile.ir.arguments import argument_shape
from supertile.ir.formula import Formula, symbol
from supertile.ir.op import properties_of, python_value, shape_of
from supertile.ir.shapes import Shape, Size, symbolic_shapes
from supertile.ir.tables import Table
from supertile.ir.tile_shapes import kernels_of, launch_shapes
from supertile.ir.types import DYNAMIC, ELEMENT_BITS, MxAttr, type_of
from supertile.ir.walk import operations

Properties = dict[str, Any]
Rule = Callable[[Properties, list[Shape], list[Shape]], tuple[Size, Size]]
Part = Shape | None  # the shape of what an op moves of a tensor; None: nothing
Parts = tuple[Sequence[Part], Sequence[Part]]  # of the operands, of the results
Touch = Callable[[Properties, list[Shape], list[Shape]], Parts]
Shapes = Mapping[SSAValue, Shape]
Kernels = Mapping[str, tile.Kernel]


@dataclass(frozen=True)
class Work:
    """What an op does on any machine. Fields are numbers or formulas, after `evaluate` arrays."""

    flops: Size = 0
    """A multiply and an add count as two."""
    transcendentals: Size = 0
    """Evaluations of exp, sigmoid, softplus, erf, tanh, sqrt, rsqrt, sin, cos."""
    bytes_read: Size = 0
    """Each operand once, in the format that its type declares, with its scales."""
    bytes_written: Size = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def counts(self) -> tuple[Size, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def evaluate(self, values: Mapping[str, Any]) -> Work:
        """Numbers or arrays in place of formulas; every name needs a value."""
        return Work(*(c.evaluate(values) if isinstance(c, Formula) else c for c in self.counts))


NOTHING = Work()


# ---- arithmetic --------------------------------------------------------------------------------


def per_result(flops: int, transcendentals: int = 0) -> Rule:
    """So many operations for each element of the (first) result."""
    return lambda p, operands, results: _scaled(math.prod(results[0]), flops, transcendentals)


def per_operand(flops: int, transcendentals: int = 0) -> Rule:
    """So many operations for each element of the first operand."""
    return lambda p, operands, results: _scaled(math.prod(operands[0]), flops, transcendentals)


def _scaled(count: Size, flops: int, transcendentals: int) -> tuple[Size, Size]:
    return flops * count, transcendentals * count


def none(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    return 0, 0


def product(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """x [.., K] by w [.., N, K]: K multiplies and adds for each result, whichever expert's."""
    return 2 * math.prod(results[0]) * operands[1][-1], 0


def einsum(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """The multiplies and an add at each point of the axes, b aside: a token has one sequence."""
    terms = p["equation"].split("->")[0].split(",")
    sizes = {
        letter: size
        for term, shape in zip(terms, operands, strict=False)
        for letter, size in zip(term, shape, strict=True)
    }
    if len(operands) > len(terms):
        sizes.pop("b", None)
    return len(terms) * math.prod(sizes.values()), 0


def rms_norm(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """Square, sum, scale and gain for each element; mean, eps and one rsqrt for each row."""
    rows = math.prod(operands[0][:-1])
    each = 4 if len(operands) == 2 else 3
    return each * rows * operands[0][-1] + 2 * rows, rows


def rope(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """4 multiplies and 2 adds for each pair that turns; its sine and cosine once for all heads."""
    dims = int(p["rope"]["dims"])
    return 3 * math.prod(operands[0][:-1]) * dims, math.prod(operands[1]) * dims


def hadamard(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """log2(n) butterfly steps of n adds; the factor n^(-1/2) is left to a neighbour."""
    return math.prod(operands[0]) * (operands[0][-1].bit_length() - 1), 0


def sinkhorn(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """Softmax and eps, then 2 iterations - 1 scalings: a sum, a divide, and eps for each line."""
    elements, lines = math.prod(operands[0]), math.prod(operands[0][:-1])
    scalings = 2 * p["iterations"] - 1
    return 5 * elements + scalings * (2 * elements + lines), elements


def pool_windows(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """A bias for each score; softmax (4) and weighted sum (2) for each slot of a window."""
    slots = (1 + p["overlap"]) * p["ratio"] * math.prod(results[0])
    return math.prod(operands[2]) + 6 * slots, slots


def attend(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """The two products, as attention is counted by custom; one exp for each key and each sink.

    A source with an index has its width of keys for each token, padding included; one with a
    count has all S keys of its axis, the most that a token can see.
    """
    tokens, heads, channels = operands[0]
    _, sources, _, sink = _attend_groups(p, operands)
    pairs = tokens * heads * sum(width for _, width in sources)
    exps = pairs + tokens * heads * len(sink)
    return 2 * pairs * (channels + p["value_width"]), exps


def combine(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    return math.prod(operands[0]) - math.prod(results[0]), 0


def comm_combine(p: Properties, operands: list[Shape], results: list[Shape]) -> tuple[Size, Size]:
    """The adds of the K rows of each token of the rank."""
    choices = operands[2][1]
    return (choices - 1) * math.prod(results[0]), 0


WORK: dict[type[Operation], Rule] = Table(
    __name__,
    "WORK",
    {
        graph.Constant: none,
        graph.Weight: none,
        graph.Cast: none,  # the conversion rides on the move
        graph.Reshape: none,
        graph.Transpose: none,
        graph.Slice: none,
        graph.Split: none,
        graph.Concat: none,
        graph.Repeat: none,
        graph.Gather: none,
        graph.Take: none,
        graph.Member: none,
        graph.Select: per_result(1),
        graph.Negate: per_result(1),
        graph.Exp: per_result(0, 1),
        graph.Sqrt: per_result(0, 1),
        graph.Rsqrt: per_result(0, 1),
        graph.Sigmoid: per_result(0, 1),
        graph.Softplus: per_result(0, 1),
        graph.Silu: per_result(1, 1),
        graph.Relu: per_result(1),
        graph.Gelu: per_result(4, 1),
        graph.Tanh: per_result(0, 1),
        graph.Add: per_result(1),
        graph.Subtract: per_result(1),
        graph.Multiply: per_result(1),
        graph.Divide: per_result(1),
        graph.Minimum: per_result(1),
        graph.Maximum: per_result(1),
        graph.Clamp: per_result(2),
        graph.ReduceSum: per_operand(1),
        graph.ReduceMax: per_operand(1),
        graph.Softmax: per_result(4, 1),  # maximum, subtract, sum, divide
        graph.Linear: product,
        graph.GroupedLinear: product,
        graph.Einsum: einsum,
        graph.RmsNorm: rms_norm,
        graph.Rope: rope,
        graph.Hadamard: hadamard,
        graph.Quantize: per_result(
            3
        ),  # magnitude, maximum, scale; powers of two come from the bits
        graph.Dequantize: per_result(1),
        graph.Sinkhorn: sinkhorn,
        graph.Append: none,
        graph.CompletedWindows: per_operand(1),
        graph.PoolWindows: pool_windows,
        graph.WindowIndex: per_result(1),
        graph.VisibleCount: per_result(1),
        graph.TopK: per_operand(1),  # each score is compared with the threshold once
        graph.Attend: attend,
        graph.Dispatch: lambda p, operands, results: (math.prod(operands[1]), 0),  # rows counted
        graph.Combine: combine,
        comm.Dispatch: lambda p, operands, results: (math.prod(operands[1]), 0),  # rows counted
        comm.Combine: comm_combine,
        comm.Share: none,
        comm.AllGather: none,
        comm.AllReduce: lambda p, operands, results: ((p["ranks"] - 1) * math.prod(results[0]), 0),
    },
)


# ---- movement ----------------------------------------------------------------------------------


def _at_most(size: Size, bound: Size) -> Size:
    """The smaller of two numbers; `size` where a formula leaves that open."""
    return min(size, bound) if isinstance(size, int) and isinstance(bound, int) else size


def everything(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    return operands, results


def view(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    """Nothing moves: whoever uses the result reads it."""
    return [None] * len(operands), [None] * len(results)


def like_result(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    """Of the first operand, as much as the result holds: the rows or elements that are chosen."""
    return [results[0], *operands[1:]], results


def used_experts(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    """Of w, at most one expert for each row; all experts while the number of rows is a formula."""
    x, w, counts = operands
    return [x, (_at_most(w[0], x[0]), *w[1:]), counts], results


def append(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    """The new rows, into the state, which keeps no more than it has room for; `seen` is a view."""
    state, rows = operands[:2]
    kept = (1, _at_most(rows[0], state[0] * state[1]), *rows[1:])
    return [None, *operands[1:]], [None, kept]


def pooled(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    """Of the state, the slots of the windows that complete; written, a slot for each token.

    A slot holds values and scores. In a window with overlap each slot lends half its channels.
    """
    state, windows, parts = operands[0], results[0], 1 + p["overlap"]
    read = (_at_most(windows[0], parts * state[0]), state[1], 2, windows[1])
    kept = (1, _at_most(operands[1][0], state[0] * state[1]), 2, state[3])
    return [read, *operands[1:]], [windows, kept]


def attended(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    """Of each source, the rows that each token uses: T n rows of traffic, gathered.

    Their footprint is at most the B S rows of the source; tokens of one sequence share rows, and
    what a kernel reuses of them on chip is for the cost model to judge.
    """
    tokens, width = operands[0][0], p["value_width"]
    _, sources, held, _ = _attend_groups(p, operands)
    keys = [(tokens, n, *shape[2:]) for shape, n in sources]
    values = [
        (tokens, n, *shape[2:-1], width) for shape, (_, n) in zip(held, sources, strict=False)
    ]
    rest = operands[1 + len(keys) + len(values) :]
    return [operands[0], *keys, *values, *rest], results


def gathered(p: Properties, operands: list[Shape], results: list[Shape]) -> Parts:
    """The rank's own rows, out; those of all, in. Of `like` only the size counts."""
    return [operands[0], None], results


def _attend_groups(
    p: Properties, operands: list[Shape]
) -> tuple[Shape, list[tuple[Shape, Size]], list[Shape], list[Shape]]:
    """q; for each source its keys and how many of them a token uses; values; the sink."""
    groups, rest = [], list(operands)
    for size in p["operandSegmentSizes"]:
        groups.append(rest[:size])
        rest = rest[size:]
    (q,), keys, values, index, sink, _ = groups
    widths = [i[1] if len(i) == 2 else k[1] for k, i in zip(keys, index, strict=True)]
    return q, list(zip(keys, widths, strict=True)), values, sink


TOUCHED: dict[type[Operation], Touch] = {
    graph.Constant: view,
    graph.Weight: view,
    graph.Reshape: view,
    graph.Slice: like_result,
    graph.Gather: like_result,
    graph.Take: like_result,
    graph.GroupedLinear: used_experts,
    graph.Append: append,
    graph.PoolWindows: pooled,
    graph.Attend: attended,
    comm.Share: view,
    comm.AllGather: gathered,
}


def bytes_of(kind: TensorType[Attribute], shape: Shape) -> Size:
    """Bytes of a part of this shape: codes, packed along the last axis, and block scales.

    A partial block has a scale. Where a formula is cut into blocks of more than one, the exact
    quotient stands for the number of blocks.
    """
    total = _packed(shape, ELEMENT_BITS[kind.element_type])
    if not isinstance(kind.encoding, MxAttr):
        return total
    block = kind.encoding.sizes
    lead = len(shape) - len(block)
    blocks = [_blocks(size, part) for size, part in zip(shape[lead:], block, strict=True)]
    return total + _packed((*shape[:lead], *blocks), ELEMENT_BITS[kind.encoding.scale])


def _packed(shape: Shape, bits: int) -> Size:
    return math.prod(shape[:-1]) * _blocks((shape or (1,))[-1] * bits, 8)


def _blocks(size: Size, part: int) -> Size:
    return -(-size // part) if isinstance(size, int) else size * Fraction(1, part)


# ---- ops and functions -------------------------------------------------------------------------


def work_of(op: Operation, shapes: Shapes | None = None) -> Work:
    """The work of an op at these shapes; a value that `shapes` lacks has its declared shape."""
    held = shapes or {}
    if isinstance(op, graph.Fused):
        return _fused_work(op, held)
    flops, transcendentals = WORK[type(op)](*_sizes(op, held))
    read, written = _traffic(op, held)
    return Work(flops, transcendentals, sum(b for b in read if b), sum(b for b in written if b))


def function_work(
    function: func.FuncOp, sizes: Mapping[str, Size] | None = None
) -> tuple[list[tuple[Operation, Work]], Work]:
    """The work of each op of a function and its sum, over the names that `sizes` leaves open.

    Run-time sizes of arguments are named by the argument attribute `graph.sizes`, one string for
    each axis; the others by the ops that make them (`seen`, `windows4`). `graph.layers` counts
    nothing: callers take each of its functions as often as it is called.
    """
    values = sizes or {}
    shapes = {value: _at(shape, values) for value, shape in function_shapes(function).items()}
    works = [
        (op, NOTHING if isinstance(op, graph.Layers) else work_of(op, shapes))
        for op in function.body.block.ops
        if not isinstance(op, func.ReturnOp)
    ]
    return works, sum((work for _, work in works), NOTHING)


def function_shapes(function: func.FuncOp) -> dict[SSAValue, Shape]:
    """The shape of every value of a function, fused regions included, over named sizes."""
    shapes: dict[SSAValue, Shape] = {}
    arguments = function.body.block.args
    attributes = function.arg_attrs.data if function.arg_attrs else [None] * len(arguments)
    for argument, named in zip(arguments, attributes, strict=True):
        shapes[argument] = argument_shape(argument, named)
    kernels = kernels_of(function)
    for op in function.body.block.ops:
        _propagate(op, shapes, kernels)
    return shapes


def _propagate(op: Operation, shapes: dict[SSAValue, Shape], kernels: Kernels) -> None:
    for inner in (op for region in op.regions for op in region.block.ops):
        _propagate(inner, shapes, kernels)
    for value, shape in zip(op.results, _result_shapes(op, shapes, kernels), strict=True):
        shapes[value] = shape


def _result_shapes(op: Operation, shapes: Shapes, kernels: Kernels) -> list[Shape]:
    if not op.results:
        return []
    if isinstance(op, graph.Fused):
        return [shapes[value] for value in _yielded(op)]
    if isinstance(op, tile.Launch):
        operands = [shapes[value] for value in op.operands]
        return launch_shapes(kernels[op.kernel.data], operands, symbol)
    if isinstance(op, graph.Quantize):  # its declared type has no names
        return [shapes[op.x]]
    return symbolic_shapes([shapes[value] for value in op.operands], op, symbol)


def _at(shape: Shape, values: Mapping[str, Size]) -> Shape:
    """Numbers enter after propagation: `graph.reshape` tells run-time sizes by their names."""
    return tuple(s.substitute(values) if isinstance(s, Formula) else s for s in shape)


def _shape(op: Operation, value: SSAValue, shapes: Shapes) -> Shape:
    shape = shapes[value] if value in shapes else shape_of(value)
    if any(isinstance(size, int) and size == DYNAMIC for size in shape):
        raise ValueError(f"{op.name} has a value of shape {list(shape)} with a size without a name")
    return shape


def _sizes(op: Operation, shapes: Shapes) -> tuple[Properties, list[Shape], list[Shape]]:
    properties = properties_of(op)
    if "operandSegmentSizes" in op.properties:
        properties["operandSegmentSizes"] = python_value(op.properties["operandSegmentSizes"])
    operands = [_shape(op, value, shapes) for value in op.operands]
    return properties, operands, [_shape(op, value, shapes) for value in op.results]


def _traffic(op: Operation, shapes: Shapes) -> tuple[list[Size | None], list[Size | None]]:
    """Bytes that the op moves of each operand and of each result; None where it touches nothing."""
    read, written = TOUCHED.get(type(op), everything)(*_sizes(op, shapes))
    return _bytes(op.operands, read), _bytes(op.results, written)


def _bytes(values: Sequence[SSAValue], parts: Sequence[Part]) -> list[Size | None]:
    return [
        None if part is None else bytes_of(type_of(value), part)
        for value, part in zip(values, parts, strict=True)
    ]


# ---- fused groups ------------------------------------------------------------------------------


def _fused_work(op: graph.Fused, shapes: Shapes) -> Work:
    """All arithmetic of the region; captured values and weights in, yielded values out."""
    works = [work_of(inner, shapes) for inner in operations(op)]
    flops = sum(work.flops for work in works)
    transcendentals = sum(work.transcendentals for work in works)
    return Work(flops, transcendentals, _captured_bytes(op, shapes), _yielded_bytes(op, shapes))


def _captured_bytes(op: graph.Fused, shapes: Shapes) -> Size:
    """What its one user reads of a captured value; all of it, once, if it has several users."""
    reads: dict[SSAValue, list[Size]] = {}
    for inner in operations(op):
        for value, size in zip(inner.operands, _traffic(inner, shapes)[0], strict=True):
            origin = _origin(value)
            if size is not None and not _is_made_in(op, origin):
                reads.setdefault(origin, []).append(size)
    return sum(
        sizes[0] if len(sizes) == 1 else bytes_of(type_of(value), _shape(op, value, shapes))
        for value, sizes in reads.items()
    )


def _yielded_bytes(op: graph.Fused, shapes: Shapes) -> Size:
    """What the op that makes a yielded value writes of it: of a state, the new rows alone."""
    total: Size = 0
    for origin in dict.fromkeys(map(_origin, _yielded(op))):
        if isinstance(origin, OpResult) and _is_made_in(op, origin):
            total = total + (_traffic(origin.op, shapes)[1][origin.index] or 0)
    return total


def _yielded(op: graph.Fused) -> Sequence[SSAValue]:
    last = op.body.block.last_op
    assert isinstance(last, graph.Yield)
    return last.operands


def _origin(value: SSAValue) -> SSAValue:
    """The value whose bytes these are: behind reshapes and the results of nested groups."""
    while isinstance(value, OpResult):
        if isinstance(value.op, graph.Fused):
            value = _yielded(value.op)[value.index]
        elif isinstance(value.op, graph.Reshape):
            value = value.op.x
        else:
            break
    return value


def _is_made_in(op: graph.Fused, value: SSAValue) -> bool:
    """Whether the region computes the value; weights and states come from memory wherever named."""
    if not isinstance(value, OpResult) or isinstance(value.op, graph.Weight):
        return False
    if isinstance(value.op, graph.Append) and value is value.op.seen:
        return False
    return op.is_ancestor(value.op)
