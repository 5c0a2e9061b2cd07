"""Fixes the sizes that are open in a model: tokens of a call, sequences, capacity of the state.

    func.func @logits(%ids: tensor<?xi32> {graph.sizes = ["T"]}, ...) -> tensor<?x8xf32>
      %x = graph.gather %table, %ids : (...) -> tensor<?x8xf32>
-> specialize{tokens=4}
    func.func @logits(%ids: tensor<4xi32> {graph.sizes = ["T"]}, ...) -> tensor<4x8xf32>
      %x = graph.gather %table, %ids : (...) -> tensor<4x8xf32>

Axes are named in the argument attribute `graph.sizes`: T tokens, B sequences, `S:r` the capacity
ceil(context / r) of a state with one entry for r tokens; all other names have static sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import VerifyException

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.locations import location_text
from supertile.ir.op import attribute_of, properties_of, shape_of
from supertile.ir.shapes import NEXT_RUN_TIME_SIZE, symbolic_shapes
from supertile.ir.types import DYNAMIC, tensor, type_of
from supertile.ir.walk import operations
from supertile.passes.rewriting import Equivalence, Pass, Rewrites, count, rewrites_of

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Specialize(Pass):
    """tensor<?x8xbf16> with axes T, D -> tensor<4x8xbf16>, for tokens = 4; and all that follows."""

    name = "specialize"
    equivalence: ClassVar[Equivalence] = "exact"

    tokens: int | None = count(None)
    batch: int | None = count(None)
    context: int | None = count(None)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        given = {"tokens": self.tokens, "batch": self.batch, "context": self.context}
        if given == dict.fromkeys(given):
            return
        for function in list(op.ops):
            assert isinstance(function, FuncOp)
            _Resizing(self, function, rewrites_of(ctx)).run()

    def size(self, axis: str) -> int | None:
        """The size that the options give to an axis; None if it stays as it is."""
        if axis == "T":
            return self.tokens
        if axis == "B":
            return self.batch
        if axis.startswith("S:") and self.context is not None:
            return -(-self.context // int(axis.removeprefix("S:")))
        return None


@dataclass
class _Resizing:
    """One function: its arguments get the given sizes, and every result follows by its rule."""

    sizes: Specialize
    function: FuncOp
    rewrites: Rewrites
    # The shapes before, of the values that have changed; a reshape needs to know them.
    before: dict[SSAValue, Sizes] = field(default_factory=dict)

    def run(self) -> None:
        for argument in list(self.function.body.block.args):
            self.argument(argument)
        for op in operations(self.function, groups=True):
            self.results(op)
        kinds = [argument.type for argument in self.function.body.block.args]
        last = self.function.get_return_op()
        outputs = self.function.function_type.outputs if last is None else last.operand_types
        self.function.function_type = FunctionType.from_lists(kinds, list(outputs))

    def argument(self, argument: BlockArgument) -> None:
        """Give an argument the sizes that its axes are named for."""
        axes = self.axes(argument)
        if not axes:
            return
        shape = list(shape_of(argument))
        for position, axis in enumerate(axes):
            given = self.sizes.size(axis)
            if given is not None and shape[position] not in (DYNAMIC, given):
                raise UserError(
                    "pass.size_conflict",
                    function=self.function.sym_name.data,
                    axis=axis,
                    found=shape[position],
                    given=given,
                )
            shape[position] = shape[position] if given is None else given
        self.resize(argument, tuple(shape))

    def axes(self, argument: BlockArgument) -> list[str]:
        """The names of an argument's axes; none for one that has no `graph.sizes`."""
        attributes = self.function.arg_attrs
        if attributes is None:
            return []
        names = attributes.data[argument.index].data.get("graph.sizes")
        if not isinstance(names, ArrayAttr) or not isinstance(argument.type, TensorType):
            return []
        return [name.data for name in names if isinstance(name, StringAttr)]

    def results(self, op: Operation) -> None:
        """Give the results of an op the sizes that follow from its operands."""
        match op:
            case graph.Yield():
                # The last op of a group, whose results are what it yields.
                fused = op.parent_op()
                assert fused is not None
                inferred = [shape_of(value) for value in op.operands]
                op = fused
            case graph.GraphOp():
                self.reshape_property(op)
                inferred = self.inferred(op)
            case _:
                return
        for value, shape in zip(list(op.results), inferred, strict=True):
            self.resize(value, _known(shape, shape_of(value)))

    def inferred(self, op: Operation) -> list[Sizes]:
        try:
            shapes = [shape_of(value) for value in op.operands]
            return symbolic_shapes(shapes, op, lambda _: DYNAMIC)
        except VerifyException as error:
            reason, place = str(error), location_text(op.location)
            raise UserError("pass.size_fit", op=op.name, place=place, reason=reason) from None

    def reshape_property(self, op: Operation) -> None:
        """Each -1 of a reshape stands for an open size of x: those now known are written out."""
        if not isinstance(op, graph.Reshape) or op.x not in self.before:
            return
        sizes = iter(
            NEXT_RUN_TIME_SIZE if new == DYNAMIC else new
            for old, new in zip(self.before[op.x], shape_of(op.x), strict=True)
            if old == DYNAMIC
        )
        entries = properties_of(op)["shape"]
        shape = [next(sizes) if entry == NEXT_RUN_TIME_SIZE else entry for entry in entries]
        op.properties["shape"] = attribute_of(shape)

    def resize(self, value: SSAValue, shape: Sizes) -> None:
        kind = type_of(value)
        if kind.get_shape() == shape:
            return
        self.rewrites.count("resize")
        resized = tensor(shape, kind.element_type, kind.encoding)
        new = Rewriter.replace_value_with_new_type(value, resized)
        if isinstance(value, BlockArgument) and isinstance(new, BlockArgument):
            new.location = value.location
        self.before[new] = tuple(kind.get_shape())


def _known(inferred: Sizes, declared: Sizes) -> Sizes:
    """Each size from where it is known; the verifier compares those known on both sides."""
    return tuple(
        old if new == DYNAMIC else new for new, old in zip(inferred, declared, strict=True)
    )
