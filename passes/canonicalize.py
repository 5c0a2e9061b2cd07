"""Rewrites to the simplest form: one op where several say the same.

    %a = graph.linear %x, %w : (...) -> tensor<?x8xf32>
    %b = graph.cast %a : (tensor<?x8xf32>) -> tensor<?x8xbf16>     the one use of %a
    %c = graph.reshape %b {shape = [-1, 8]} : (...) -> tensor<?x8xbf16>
->
    %b = graph.linear %x, %w : (...) -> tensor<?x8xbf16>           in the place of %c, too

Every pattern is exact to the bit, so it holds for signed zeros, infinities and NaN as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, OpResult, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from supertile.ir import graph
from supertile.ir.locations import name_of
from supertile.ir.op import attribute_of, properties_of, shape_of
from supertile.ir.shapes import COMPUTED, NEXT_RUN_TIME_SIZE, RULES
from supertile.ir.types import DYNAMIC, is_float, is_integer, type_of
from supertile.ir.walk import is_state
from supertile.passes.rewriting import Equivalence, Pass, rewrite

# Ops whose results are never -0, so that adding +0 leaves every bit of them.
NEVER_NEGATIVE_ZERO = (graph.Exp, graph.Sigmoid, graph.Softplus, graph.Softmax)


def producer(value: SSAValue) -> Operation | None:
    """The op that a value is the only result of."""
    if isinstance(value, OpResult) and len(value.op.results) == 1:
        return value.op
    return None


def scalar(value: SSAValue) -> float | None:
    """The number that a value is known to hold everywhere."""
    op = producer(value)
    return op.value.value.data if isinstance(op, graph.Constant) else None


def derived(op: Operation, kind: type[graph.GraphOp], x: SSAValue, **properties: Any) -> Operation:
    """An op of one operand whose result has the type that the result of `op` has."""
    held = {key: attribute_of(value) for key, value in properties.items()}
    return kind.create(operands=[x], result_types=[op.results[0].type], properties=held)


def replace_by_value(op: Operation, value: SSAValue, rewriter: PatternRewriter) -> None:
    """Use the value in place of the op's result, if that changes no type and no state is shared."""
    if value.type == op.results[0].type and not is_state(value):
        rewriter.replace(op, [], [value])


# ---- formats -----------------------------------------------------------------------------------


class RoundOnce(RewritePattern):
    """round(f(x)) -> f rounding to that format, for an op that computes f32 for nobody else.

    An op with a name of its own stays: its f32 result may be traced.
    """

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Cast, rewriter: PatternRewriter) -> None:
        inner = producer(op.x)
        if inner is None or not self.rounds_freely(inner) or not op.x.has_one_use():
            return
        if inner.parent is not op.parent or name_of(inner.location):
            return
        kind = type_of(op.result)
        if not is_float(kind.element_type) or kind.encoding != type_of(op.x).encoding:
            return
        rounding = type(inner).create(
            operands=inner.operands,
            result_types=[kind],
            properties=inner.properties,
            location=op.location,
        )
        rewriter.replace(op, rounding)

    @staticmethod
    def rounds_freely(inner: Operation) -> bool:
        """Whether the op computes in f32 and rounds to what its result type says.

        A constant does not: its number has more digits than f32. A cast of integers to f32 is left
        alone, since whether it would round by way of f32 is not said.
        """
        if type(inner) not in RULES or isinstance(inner, graph.Constant):
            return False
        if RULES[type(inner)][1] != (COMPUTED,) or type_of(inner.results[0]).element_type != f32:
            return False
        return not (isinstance(inner, graph.Cast) and is_integer(type_of(inner.x).element_type))


class SameFormat(RewritePattern):
    """round(x) -> x, if x has that format."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Cast, rewriter: PatternRewriter) -> None:
        replace_by_value(op, op.x, rewriter)


# ---- moving data -------------------------------------------------------------------------------


class SameShape(RewritePattern):
    """reshape(x) -> x, if x has that shape: run-time sizes keep their order."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Reshape, rewriter: PatternRewriter) -> None:
        replace_by_value(op, op.x, rewriter)


class ReshapeOfReshape(RewritePattern):
    """reshape_b(reshape_a(x)) -> reshape_b(x), if all three agree on which sizes are run-time."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Reshape, rewriter: PatternRewriter) -> None:
        inner = producer(op.x)
        if not isinstance(inner, graph.Reshape) or is_state(inner.x):
            return
        shape = properties_of(op)["shape"]
        if shape_of(inner.x).count(DYNAMIC) != shape.count(NEXT_RUN_TIME_SIZE):
            return
        rewriter.replace(op, derived(op, graph.Reshape, inner.x, shape=shape))


class SameOrder(RewritePattern):
    """transpose(x) -> x, if the permutation is 0, 1, 2, ..."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Transpose, rewriter: PatternRewriter) -> None:
        permutation = properties_of(op)["permutation"]
        if permutation == tuple(range(len(permutation))):
            replace_by_value(op, op.x, rewriter)


class TransposeOfTranspose(RewritePattern):
    """transpose_q(transpose_p(x)) -> transpose_r(x) with r[i] = p[q[i]]."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Transpose, rewriter: PatternRewriter) -> None:
        inner = producer(op.x)
        if not isinstance(inner, graph.Transpose) or is_state(inner.x):
            return
        first = properties_of(inner)["permutation"]
        second = properties_of(op)["permutation"]
        both = [first[axis] for axis in second]
        rewriter.replace(op, derived(op, graph.Transpose, inner.x, permutation=both))


class WholeSlice(RewritePattern):
    """x[.., 0 : size of the axis, ..] -> x."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Slice, rewriter: PatternRewriter) -> None:
        p = properties_of(op)
        if p["start"] == 0 and shape_of(op.x)[p["axis"]] == p["size"]:
            replace_by_value(op, op.x, rewriter)


class SliceOfConcat(RewritePattern):
    """slice(concat(.., x, ..)) -> slice(x), if all of the slice lies in x."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Slice, rewriter: PatternRewriter) -> None:
        inner = producer(op.x)
        if not isinstance(inner, graph.Concat) or inner.axis != op.axis:
            return
        p = properties_of(op)
        start = p["start"]
        for part in inner.parts:
            size = shape_of(part)[p["axis"]]
            if size == DYNAMIC or start < 0:
                return
            if start + p["size"] <= size:
                break
            start -= size
        else:
            return
        if not is_state(part) and p["size"] > 0:
            new = derived(op, graph.Slice, part, axis=p["axis"], start=start, size=p["size"])
            rewriter.replace(op, new)


class ConcatOfOne(RewritePattern):
    """concat(x) -> x."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Concat, rewriter: PatternRewriter) -> None:
        if len(op.parts) == 1:
            replace_by_value(op, op.parts[0], rewriter)


# ---- arithmetic --------------------------------------------------------------------------------


class MultiplyByOne(RewritePattern):
    """x 1 -> x, 1 x -> x, x / 1 -> x."""

    @op_type_rewrite_pattern
    def match_and_rewrite(
        self, op: graph.Multiply | graph.Divide, rewriter: PatternRewriter
    ) -> None:
        if scalar(op.b) == 1:
            replace_by_value(op, op.a, rewriter)
        elif scalar(op.a) == 1 and isinstance(op, graph.Multiply):
            replace_by_value(op, op.b, rewriter)


class AddZero(RewritePattern):
    """x + 0 -> x, 0 + x -> x, x - 0 -> x, where not even the sign of a zero changes.

    x + (-0) and x - (+0) are x; x + (+0) is x only where x is not -0.
    """

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: graph.Add | graph.Subtract, rewriter: PatternRewriter) -> None:
        if isinstance(op, graph.Subtract):
            if _is_zero(op.b, negative=False):
                replace_by_value(op, op.a, rewriter)
            return
        for x, zero in ((op.a, op.b), (op.b, op.a)):
            never = isinstance(producer(x), NEVER_NEGATIVE_ZERO)
            if _is_zero(zero, negative=True) or (never and scalar(zero) == 0):
                replace_by_value(op, x, rewriter)
                return


def _is_zero(value: SSAValue, negative: bool) -> bool:
    number = scalar(value)
    return number == 0 and str(number).startswith("-") == negative


# op -> its meaning on float32 numbers. All of them round exactly once by IEEE 754.
SCALAR_ARITHMETIC: dict[type[Operation], str] = {
    graph.Negate: "negative",
    graph.Sqrt: "sqrt",
    graph.Add: "add",
    graph.Subtract: "subtract",
    graph.Multiply: "multiply",
    graph.Divide: "divide",
}


class FoldScalars(RewritePattern):
    """f(c, d) -> constant, for float32 numbers c and d and a finite result."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        function = SCALAR_ARITHMETIC.get(type(op))
        if function is None or type_of(op.results[0]).element_type != f32:
            return
        numbers = [scalar(value) for value in op.operands]
        if None in numbers or any(type_of(x).element_type != f32 for x in op.operands):
            return
        import numpy as np

        with np.errstate(all="ignore"):
            result = getattr(np, function)(*(np.float32(number) for number in numbers))
        if np.isfinite(result):
            value = attribute_of(float(result))
            kinds = [op.results[0].type]
            rewriter.replace(
                op, graph.Constant.create(result_types=kinds, properties={"value": value})
            )


PATTERNS: tuple[type[RewritePattern], ...] = (
    RoundOnce, SameFormat,
    SameShape, ReshapeOfReshape, SameOrder, TransposeOfTranspose,
    WholeSlice, SliceOfConcat, ConcatOfOne,
    MultiplyByOne, AddZero, FoldScalars,
)  # fmt: skip


@dataclass(frozen=True)
class Canonicalize(Pass):
    """%b = cast(linear(%x, %w)) -> %b = linear(%x, %w) that rounds; reshape(reshape(%x)) -> one.

    And so on: the patterns of this file, and ops without use are removed.
    """

    name = "canonicalize"
    equivalence: ClassVar[Equivalence] = "exact"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(ctx, op, [pattern() for pattern in PATTERNS])
