"""The graph dialect: the mathematics of a model on whole tensors, each op a pure function.

Sizes: T tokens of a call, B sequences, C channels, H heads, E experts, K choices, M windows.
Each class says what the op means in one sentence and one equation; its shape rule is in
`shapes.py`, its work rule in `work.py`, its NumPy function, which defines it, in
`runtime/graph_ops.py`. Floating-point ops compute in float32 and round once to the result type.
"""

from __future__ import annotations

from abc import ABC
from functools import cache
from typing import Any

from xdsl.dialects.builtin import (
    ArrayAttr,
    FloatAttr,
    IndexType,
    NoneAttr,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
)
from xdsl.ir import Attribute, Dialect, OpResult, Region, SSAValue, SSAValues
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsTerminator, Pure, RecursiveMemoryEffect
from xdsl.utils.exceptions import VerifyException

from supertile.ir.expert_plan import ANY_PLACEMENT
from supertile.ir.op import Integer, Integers, SupertileOp, attribute_of, segments
from supertile.ir.shard import ShardAttr
from supertile.ir.types import MxAttr, RopeAttr, StateAttr, f8e8m0, is_scaled, tensor, type_of

Tensor = TensorType[Attribute]


class GraphOp(SupertileOp, ABC):
    """An op of the graph dialect: pure, with result types that follow from its shape rule."""

    traits = traits_def(Pure())

    def verify_(self) -> None:
        from supertile.ir.shapes import check_results

        check_results(self)


# ---- constants and weights ---------------------------------------------------------------------


@irdl_op_definition
class Constant(GraphOp):
    """A number: y = value."""

    name = "graph.constant"
    value = prop_def(FloatAttr)
    result = result_def(Tensor)


@irdl_op_definition
class Weight(GraphOp):
    """A tensor of the checkpoint: y = checkpoint[name], {l} the layer, {e} stacked experts.

    With a placement, the experts are those in the slots of the rank that reads them; slots that
    the rank does not have, or that are idle, hold nothing. `stored` is the type that the model
    declares of the checkpoint, where that is another: loading converts from it. With a shard, y is
    the slice of the rank that reads it; of experts, the same slice of each.
    """

    name = "graph.weight"
    layer = opt_operand_def(IndexType)
    checkpoint = prop_def(StringAttr)
    stored = opt_prop_def(TensorType)
    placement = opt_prop_def(ANY_PLACEMENT)
    shard = opt_prop_def(ShardAttr)
    result = result_def(Tensor)


# ---- moving data -------------------------------------------------------------------------------


class Unary(GraphOp, ABC):
    """One tensor in, one out."""

    x = operand_def(Tensor)
    result = result_def(Tensor)


@irdl_op_definition
class Cast(Unary):
    """The same numbers in another format: y = round(x)."""

    name = "graph.cast"


@irdl_op_definition
class Reshape(Unary):
    """The same elements in another shape; each -1 stands for the next dynamic size of x."""

    name = "graph.reshape"
    shape = prop_def(Integers)


@irdl_op_definition
class Transpose(Unary):
    """Axes in another order: y[i_p0, i_p1, ...] = x[i_0, i_1, ...]."""

    name = "graph.transpose"
    permutation = prop_def(Integers)


@irdl_op_definition
class Slice(Unary):
    """Part of an axis: y[.., i, ..] = x[.., start + i, ..] for i < size."""

    name = "graph.slice"
    axis = prop_def(Integer)
    start = prop_def(Integer)
    size = prop_def(Integer)


@irdl_op_definition
class Split(GraphOp):
    """An axis cut into parts of the given sizes, one after the other."""

    name = "graph.split"
    x = operand_def(Tensor)
    axis = prop_def(Integer)
    sizes = prop_def(Integers)
    parts = var_result_def(Tensor)


@irdl_op_definition
class Concat(GraphOp):
    """Tensors one after the other along an axis."""

    name = "graph.concat"
    parts = var_operand_def(Tensor)
    axis = prop_def(Integer)
    result = result_def(Tensor)


@irdl_op_definition
class Repeat(Unary):
    """A new axis of equal copies: y[.., n, ..] = x[.., ..]."""

    name = "graph.repeat"
    axis = prop_def(Integer)
    count = prop_def(Integer)


@irdl_op_definition
class Gather(GraphOp):
    """Rows of a table: y[t, ...] = table[ids[t], ...]."""

    name = "graph.gather"
    table = operand_def(Tensor)
    ids = operand_def(Tensor)
    result = result_def(Tensor)


@irdl_op_definition
class Take(GraphOp):
    """Chosen elements of the last axis: y[.., k] = x[.., chosen[.., k]]."""

    name = "graph.take"
    x = operand_def(Tensor)
    chosen = operand_def(Tensor)
    result = result_def(Tensor)


@irdl_op_definition
class Member(GraphOp):
    """Which of `size` items were chosen: y[.., i] = any k: chosen[.., k] = i."""

    name = "graph.member"
    chosen = operand_def(Tensor)
    size = prop_def(Integer)
    result = result_def(Tensor)


@irdl_op_definition
class Select(GraphOp):
    """y = a where the mask holds, else b; shapes broadcast."""

    name = "graph.select"
    mask = operand_def(Tensor)
    a = operand_def(Tensor)
    b = operand_def(Tensor)
    result = result_def(Tensor)


# ---- elementwise -------------------------------------------------------------------------------


@irdl_op_definition
class Negate(Unary):
    """y = -x."""

    name = "graph.negate"


@irdl_op_definition
class Exp(Unary):
    """y = e^x."""

    name = "graph.exp"


@irdl_op_definition
class Sqrt(Unary):
    """y = x^(1/2)."""

    name = "graph.sqrt"


@irdl_op_definition
class Rsqrt(Unary):
    """y = x^(-1/2)."""

    name = "graph.rsqrt"


@irdl_op_definition
class Sigmoid(Unary):
    """y = 1 / (1 + e^-x)."""

    name = "graph.sigmoid"


@irdl_op_definition
class Softplus(Unary):
    """y = ln(1 + e^x)."""

    name = "graph.softplus"


@irdl_op_definition
class Silu(Unary):
    """y = x / (1 + e^-x)."""

    name = "graph.silu"


@irdl_op_definition
class Relu(Unary):
    """y = max(x, 0)."""

    name = "graph.relu"


@irdl_op_definition
class Gelu(Unary):
    """y = x (1 + erf(x / 2^(1/2))) / 2."""

    name = "graph.gelu"


@irdl_op_definition
class Tanh(Unary):
    """y = (e^x - e^-x) / (e^x + e^-x)."""

    name = "graph.tanh"


class Binary(GraphOp, ABC):
    """Two tensors in, one out; axes of size 1 broadcast, and a scalar broadcasts to any shape."""

    a = operand_def(Tensor)
    b = operand_def(Tensor)
    result = result_def(Tensor)


@irdl_op_definition
class Add(Binary):
    """y = a + b."""

    name = "graph.add"


@irdl_op_definition
class Subtract(Binary):
    """y = a - b."""

    name = "graph.subtract"


@irdl_op_definition
class Multiply(Binary):
    """y = a b."""

    name = "graph.multiply"


@irdl_op_definition
class Divide(Binary):
    """y = a / b."""

    name = "graph.divide"


@irdl_op_definition
class Minimum(Binary):
    """y = min(a, b)."""

    name = "graph.minimum"


@irdl_op_definition
class Maximum(Binary):
    """y = max(a, b)."""

    name = "graph.maximum"


@irdl_op_definition
class Clamp(Unary):
    """y = max(low, min(x, high))."""

    name = "graph.clamp"
    low = prop_def(FloatAttr)
    high = prop_def(FloatAttr)


# ---- reductions and products -------------------------------------------------------------------


@irdl_op_definition
class ReduceSum(Unary):
    """y[..] = sum over one axis of x."""

    name = "graph.reduce_sum"
    axis = prop_def(Integer)


@irdl_op_definition
class ReduceMax(Unary):
    """y[..] = maximum over one axis of x."""

    name = "graph.reduce_max"
    axis = prop_def(Integer)


@irdl_op_definition
class Softmax(Unary):
    """y = e^(x - max x) / sum e^(x - max x) over the last axis."""

    name = "graph.softmax"


@irdl_op_definition
class Linear(GraphOp):
    """y[.., n] = sum_k x[.., k] w[n, k]; scaled x and w multiply block by block."""

    name = "graph.linear"
    x = operand_def(Tensor)
    w = operand_def(Tensor)
    result = result_def(Tensor)


@irdl_op_definition
class GroupedLinear(GraphOp):
    """Row r of expert e: y[r, n] = sum_k x[r, k] w[e, n, k]; counts[e] consecutive rows each."""

    name = "graph.grouped_linear"
    x = operand_def(Tensor)
    w = operand_def(Tensor)
    counts = operand_def(Tensor)
    result = result_def(Tensor)


@irdl_op_definition
class Einsum(GraphOp):
    """Sum of products by named axes: `thc,bsc->ths`; axis b of an operand is the token's sequence.

    With axis `b`, y[t, ..] reads operand[sequence[t], ..], and no copy per token is made.
    """

    name = "graph.einsum"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    inputs = var_operand_def(Tensor)
    sequence = opt_operand_def(Tensor)
    equation = prop_def(StringAttr)
    result = result_def(Tensor)


# ---- normalisation, position, formats ----------------------------------------------------------


@irdl_op_definition
class RmsNorm(GraphOp):
    """y = gain x / sqrt(mean(x^2) + eps) over the last axis, gain 1 where absent."""

    name = "graph.rms_norm"
    x = operand_def(Tensor)
    gain = opt_operand_def(Tensor)
    eps = prop_def(FloatAttr)
    result = result_def(Tensor)


@irdl_op_definition
class Rope(GraphOp):
    """Turns pairs of the last channels by position * frequency; `inverse` turns them back."""

    name = "graph.rope"
    x = operand_def(Tensor)
    position = operand_def(Tensor)
    rope = prop_def(RopeAttr)
    inverse = opt_prop_def(UnitAttr)
    result = result_def(Tensor)


@irdl_op_definition
class Hadamard(Unary):
    """y = x H, the orthonormal Sylvester-Hadamard transform of the last axis."""

    name = "graph.hadamard"


@irdl_op_definition
class Quantize(Unary):
    """Codes and scales of x: scale = 2^ceil(log2(max|x| / largest code)) for each block."""

    name = "graph.quantize"


@irdl_op_definition
class Dequantize(Unary):
    """y = code * scale."""

    name = "graph.dequantize"


@irdl_op_definition
class Sinkhorn(Unary):
    """Doubly stochastic matrix: softmax of rows, then columns and rows scaled to 1 in turn.

    A = softmax(x) + eps; columns; (iterations - 1) times rows, columns; each divides by sum + eps.
    Source: DeepSeek-V4, arXiv 2606.19348, section 2; the released inference code fixes the order.
    """

    name = "graph.sinkhorn"
    iterations = prop_def(Integer)
    eps = prop_def(FloatAttr)


# ---- state, windows, attention -----------------------------------------------------------------


@irdl_op_definition
class Append(GraphOp):
    """New rows behind the kept ones: seen = old ++ rows, kept = what the state holds of it.

    ring [B, W, C]: seen [B, W + n, C], slot i of sequence b holds position length[b] - W + i.
    blocks [B, capacity, C]: seen is the state; entry j covers tokens ratio j .. ratio (j + 1) - 1.
    `position` of a row is that of the first token it covers.
    """

    name = "graph.append"
    state = operand_def(Tensor)
    rows = operand_def(Tensor)
    sequence = operand_def(Tensor)
    position = operand_def(Tensor)
    length = operand_def(Tensor)
    kind = prop_def(StateAttr)
    seen = result_def(Tensor)
    kept = result_def(Tensor)


@irdl_op_definition
class CompletedWindows(GraphOp):
    """The windows of `ratio` tokens that this call completes: their sequence and first position."""

    name = "graph.completed_windows"
    sequence = operand_def(Tensor)
    position = operand_def(Tensor)
    length = operand_def(Tensor)
    ratio = prop_def(Integer)
    window_sequence = result_def(Tensor)
    window_position = result_def(Tensor)


@irdl_op_definition
class PoolWindows(GraphOp):
    """Gated pooling of the completed windows: y[m] = sum_i softmax_i(score)[i] values[i].

    score[t] = scores[t] + bias[position[t] mod ratio]. With overlap 1 a window has 2 ratio slots:
    the previous window's first half of the channels, then its own second half; window 0 has no
    previous one. The state keeps values and scores of the unfinished (and previous) window.
    """

    name = "graph.pool_windows"
    state = operand_def(Tensor)
    values = operand_def(Tensor)
    scores = operand_def(Tensor)
    bias = operand_def(Tensor)
    sequence = operand_def(Tensor)
    position = operand_def(Tensor)
    length = operand_def(Tensor)
    ratio = prop_def(Integer)
    overlap = prop_def(Integer)
    rows = result_def(Tensor)
    kept = result_def(Tensor)


@irdl_op_definition
class WindowIndex(GraphOp):
    """Slots of a ring's `seen` for the last `window` positions of each token; -1 pads the end."""

    name = "graph.window_index"
    sequence = operand_def(Tensor)
    position = operand_def(Tensor)
    length = operand_def(Tensor)
    window = prop_def(Integer)
    result = result_def(Tensor)


@irdl_op_definition
class VisibleCount(GraphOp):
    """How many blocks a token may see: y[t] = floor((position[t] + 1) / ratio)."""

    name = "graph.visible_count"
    position = operand_def(Tensor)
    ratio = prop_def(Integer)
    result = result_def(Tensor)


@irdl_op_definition
class TopK(GraphOp):
    """Indices of the k largest of the first count[t] scores; ties: smaller index; -1 pads."""

    name = "graph.top_k"
    scores = operand_def(Tensor)
    count = opt_operand_def(Tensor)
    k = prop_def(Integer)
    result = result_def(Tensor)


@irdl_op_definition
class Attend(GraphOp):
    """One softmax over the keys of all sources: o = sum_s p_s v_s, p_s = e^(scale q.k_s) / Z.

    Z = sum_s e^(scale q.k_s) + e^sink. A source is keys [B, S, C] or [B, S, heads, C] with an
    index [T, n] (-1: none) or a count [T] (the first ones). Without values, the values are the
    first `value_width` channels of the keys. With `round`, e^(s - running maximum) is rounded for
    the product with the values, the running maximum taken over blocks of `block` keys.
    """

    name = "graph.attend"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    q = operand_def(Tensor)
    keys = var_operand_def(Tensor)
    values = var_operand_def(Tensor)
    index = var_operand_def(Tensor)
    sink = opt_operand_def(Tensor)
    sequence = operand_def(Tensor)
    scale = prop_def(FloatAttr)
    value_width = prop_def(Integer)
    round = opt_prop_def(StringAttr)
    block = opt_prop_def(Integer)
    result = result_def(Tensor)


# ---- experts -----------------------------------------------------------------------------------


@irdl_op_definition
class Dispatch(GraphOp):
    """One row for each chosen expert, sorted by expert (stable): rows[r] = x[order[r] // K]."""

    name = "graph.dispatch"
    x = operand_def(Tensor)
    chosen = operand_def(Tensor)
    weight = operand_def(Tensor)
    experts = prop_def(Integer)
    rows = result_def(Tensor)
    row_weight = result_def(Tensor)
    counts = result_def(Tensor)
    order = result_def(Tensor)


@irdl_op_definition
class Combine(GraphOp):
    """Rows of a token summed, ascending by expert: y[t] = sum of x[r] with order[r] // K = t."""

    name = "graph.combine"
    rows = operand_def(Tensor)
    order = operand_def(Tensor)
    choices = prop_def(Integer)
    result = result_def(Tensor)


# ---- structure ---------------------------------------------------------------------------------


@irdl_op_definition
class Layers(GraphOp):
    """Layers in order, each a call of its kind's function on the values carried from the last.

    Layer l calls functions[kinds[l]](carried, shared, l, states). `states` are stacks, one row for
    each layer that uses them; uses[f] lists the stacks of function f. Results: carried, stacks.
    Values of layer l are traced as `label.l.name`.

    With `microbatches = 2` the sequences of a call are to be scheduled in two halves, so that what
    one half computes can hide what the other sends (`ir/microbatches.py`). Results are the same.
    """

    name = "graph.layers"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    carried = var_operand_def(Tensor)
    shared = var_operand_def(Tensor)
    states = var_operand_def(Tensor)
    functions = prop_def(ArrayAttr[SymbolRefAttr])
    kinds = prop_def(Integers)
    uses = prop_def(ArrayAttr[Integers])
    label = prop_def(StringAttr)
    microbatches = opt_prop_def(Integer)
    outputs = var_result_def(Tensor)


@irdl_op_definition
class Fused(SupertileOp):
    """A group of ops that a target may run as one kernel; it means what its region means."""

    name = "graph.fused"
    kind = prop_def(StringAttr)
    body = region_def("single_block")
    outputs = var_result_def(Tensor)
    traits = traits_def(RecursiveMemoryEffect())

    def verify_(self) -> None:
        last = self.body.block.last_op
        if not isinstance(last, Yield):
            raise VerifyException("a fused group ends with graph.yield")
        if [value.type for value in last.operands] != [value.type for value in self.results]:
            raise VerifyException("graph.yield and graph.fused differ in their types")


@irdl_op_definition
class Yield(SupertileOp):
    """The results of a fused group."""

    name = "graph.yield"
    values = var_operand_def(Tensor)
    traits = traits_def(IsTerminator(), Pure())


OPS: tuple[type[SupertileOp], ...] = (
    Constant, Weight,
    Cast, Reshape, Transpose, Slice, Split, Concat, Repeat, Gather, Take, Member, Select,
    Negate, Exp, Sqrt, Rsqrt, Sigmoid, Softplus, Silu, Relu, Gelu, Tanh,
    Add, Subtract, Multiply, Divide, Minimum, Maximum, Clamp,
    ReduceSum, ReduceMax, Softmax, Linear, GroupedLinear, Einsum,
    RmsNorm, Rope, Hadamard, Quantize, Dequantize, Sinkhorn,
    Append, CompletedWindows, PoolWindows, WindowIndex, VisibleCount, TopK, Attend,
    Dispatch, Combine,
    Layers, Fused, Yield,
)  # fmt: skip

GRAPH = Dialect("graph", list(OPS), [MxAttr, RopeAttr, StateAttr])


def create(
    op: type[GraphOp],
    groups: list[SSAValue | list[SSAValue]],
    /,
    element: Attribute | None = None,
    **properties: Any,
) -> GraphOp:
    """An op with inferred result types.

    `groups` holds one value, or a list of values for a variadic or optional group, in the order of
    the operand definitions. `element` replaces the element type of every float result.
    """
    from supertile.ir.shapes import infer_results

    lists = [group if isinstance(group, list) else [group] for group in groups]
    held = {key: attribute_of(value) for key, value in properties.items() if value is not None}
    if _has_segments(op):
        held["operandSegmentSizes"] = segments(lists)
    made = op.create(operands=[value for group in lists for value in group], properties=held)
    kinds = infer_results(made, element)
    made.results = SSAValues(OpResult(kind, made, i) for i, kind in enumerate(kinds))
    return made


@cache
def _has_segments(op: type[GraphOp]) -> bool:
    """Whether groups of operands vary in size, so that the op must say how many each has."""
    options = op.get_irdl_definition().options
    return any(isinstance(option, AttrSizedOperandSegments) for option in options)


def scaled_type(
    shape: list[int], element: Attribute, block: tuple[int, ...], scale: Attribute = f8e8m0
) -> Tensor:
    """A block-scaled tensor; leading dimensions (experts) have blocks of one."""
    sizes = (1,) * (len(shape) - len(block)) + tuple(block)
    return tensor(shape, element, MxAttr.of(sizes, scale))


__all__ = ["GRAPH", "OPS", "NoneAttr", "Region", "create", "is_scaled", "scaled_type", "type_of"]
