"""The tile dialect: a kernel is grids of blocks that load tiles, compute on them and store them.

Tiles are values with static shapes; the arithmetic on them is that of the graph dialect, whose ops
mean on tiles what they mean on tensors. This dialect adds what tensors do not need: grids, loops,
movement between device memory and on-chip spaces, products that accumulate. Device memory is seen
through references, arguments of the kernel or allocated in it. What lies beyond a reference is
padded when loaded and dropped when stored, so that no shape depends on a remainder.

The NumPy function of each op, which defines it, is in `runtime/tile_ops.py`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FloatAttr,
    IndexType,
    StringAttr,
    TensorType,
)
from xdsl.ir import Attribute, Dialect, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    param_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator, Pure, RecursiveMemoryEffect
from xdsl.utils.exceptions import VerifyException

from supertile.ir.op import Integer, Integers, SupertileOp, python_value, shape_of
from supertile.ir.tile_attributes import (
    DEVICE,
    ExtentAttr as ExtentAttr,
    PlaceAttr as PlaceAttr,
)
from supertile.ir.types import DYNAMIC

Tensor = TensorType[Attribute]


@irdl_attr_definition
class RefType(ParametrizedAttribute, TypeAttribute):
    """A region of device memory that holds a tensor: `!tile.ref<tensor<?x64xf32>>`."""

    name = "tile.ref"
    tensor: Tensor = param_def()


class TileOp(SupertileOp, ABC):
    """An op of the tile dialect."""


# ---- kernels -----------------------------------------------------------------------------------


@irdl_op_definition
class Kernel(TileOp):
    """A program for all cores of a device: grids that run one after the other.

    Arguments are references: `inputs` operands of a launch, then its results. `reuses[i]` is the
    operand that result i overwrites, -1 for a result of its own. `extents` are the run-time sizes
    of the results of its own, in order of results and axes.

    `places` are those of its tiles, in the order of `tile_places.placed_values`, and `peaks` the
    bytes that they take of each space; the pass `assign-memory` leaves both.
    """

    name = "tile.kernel"
    sym_name = prop_def(StringAttr)
    kind = prop_def(StringAttr)
    inputs = prop_def(Integer)
    reuses = prop_def(Integers)
    extents = prop_def(ArrayAttr[ExtentAttr])
    places = opt_prop_def(ArrayAttr[PlaceAttr])
    peaks = opt_prop_def(DictionaryAttr)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove())

    def verify_(self) -> None:
        arguments = self.body.block.args
        results = len(self.reuses.get_values())
        if len(arguments) != self.inputs.value.data + results:
            raise VerifyException(f"{len(arguments)} arguments for {results} results and inputs")
        for argument in arguments:
            kind = argument.type
            if not isinstance(kind, RefType):
                raise VerifyException(f"an argument of a kernel is a reference, got {kind}")

    @property
    def results_(self) -> Sequence[SSAValue]:
        """The references that stand for the results of a launch."""
        return self.body.block.args[self.inputs.value.data :]


@irdl_op_definition
class Launch(TileOp):
    """A kernel run on tensors: its results are what the kernel left in their references."""

    name = "tile.launch"
    kernel = prop_def(StringAttr)
    values = opt_prop_def(ArrayAttr[StringAttr])
    """What each result is: its name, or its place in the model file, and the op that makes it."""
    operands_ = var_operand_def(Tensor)
    outputs = var_result_def(Tensor)


@irdl_op_definition
class Alloc(TileOp):
    """Scratch in device memory, live until the kernel ends; its contents are undefined."""

    name = "tile.alloc"
    extents = prop_def(ArrayAttr[ExtentAttr])
    result = result_def(RefType)


# ---- grids and loops ---------------------------------------------------------------------------


@irdl_op_definition
class Grid(TileOp):
    """Blocks that may run in any order, at once; the body is the program of one.

    Dimension d covers `axes[d]` of refs[d] in steps of steps[d] and gives the body one index, the
    start of its step. With ragged[d] = 1, refs[d] are counts of consecutive rows of groups; with 2,
    ascending sequence numbers of rows. Then a block has rows of one group or sequence only, and the
    body gets three indices: the group, its first row, the end of its rows.
    """

    name = "tile.grid"
    refs = var_operand_def(RefType)
    axes = prop_def(Integers)
    steps = prop_def(Integers)
    ragged = prop_def(Integers)
    body = region_def("single_block")
    traits = traits_def(RecursiveMemoryEffect())

    def verify_(self) -> None:
        ragged = self.ragged.get_values()
        if not len(self.refs) == len(ragged) == len(self.steps) == len(self.axes):
            raise VerifyException("axes, steps and ragged have one number for each dimension")
        if any(step < 1 for step in self.steps.get_values()):
            raise VerifyException("steps are at least 1")
        expected = sum(3 if kind else 1 for kind in ragged)
        if [argument.type for argument in self.body.block.args] != [IndexType()] * expected:
            raise VerifyException(f"the body takes {expected} indices")


@irdl_op_definition
class Loop(TileOp):
    """Steps along an axis of a reference, in order, with values carried from one to the next.

    The body takes the start of the step and the carried values. `stages` steps may be in flight:
    loads of later steps may overlap the arithmetic of earlier ones.
    """

    name = "tile.loop"
    ref = operand_def(RefType)
    carried = var_operand_def(Tensor)
    axis = prop_def(Integer)
    step = prop_def(Integer)
    stages = prop_def(Integer)
    body = region_def("single_block")
    outputs = var_result_def(Tensor)
    traits = traits_def(RecursiveMemoryEffect())

    def verify_(self) -> None:
        kinds = [value.type for value in self.carried]
        if self.step.value.data < 1 or self.stages.value.data < 1:
            raise VerifyException("a loop has steps and stages of at least 1")
        if [argument.type for argument in self.body.block.args] != [IndexType(), *kinds]:
            raise VerifyException("the body takes an index and the carried values")
        if [value.type for value in self.outputs] != kinds:
            raise VerifyException("a loop gives back what it carries")
        last = self.body.block.last_op
        if not isinstance(last, End) or [value.type for value in last.values] != kinds:
            raise VerifyException("the body ends with the values for the next step")
        for number, value in enumerate(last.values):
            others = [*self.body.block.args[1 : number + 1], *self.body.block.args[number + 2 :]]
            if value in others:
                raise VerifyException("a step hands on no carried value in the place of another")


@irdl_op_definition
class End(TileOp):
    """The end of a kernel, a grid or a step of a loop, with the values that a loop carries on."""

    name = "tile.end"
    values = var_operand_def(Tensor)
    traits = traits_def(IsTerminator(), Pure())


# ---- movement ----------------------------------------------------------------------------------


class Movement(TileOp, ABC):
    """Between a reference and a tile.

    `select` picks one index of the first axes, which the tile lacks. Axes are counted behind those:
    `offsets` say where the tile begins on `axes`; of the others it has everything.
    """


@irdl_op_definition
class Load(Movement):
    """A tile of a reference; rows from `limit` on, and all beyond the reference, are `pad`."""

    name = "tile.load"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    ref = operand_def(RefType)
    select = var_operand_def(IndexType)
    offsets = var_operand_def(IndexType)
    limit = opt_operand_def(IndexType)
    axes = prop_def(Integers)
    pad = prop_def(FloatAttr)
    space = prop_def(StringAttr)
    result = result_def(Tensor)

    def verify_(self) -> None:
        _check_place(self.ref, self.select, self.offsets, self.axes, self.result, self.space)


@irdl_op_definition
class Gather(Movement):
    """Rows of a reference by their numbers: tile[i, ..] = ref[select, rows[i], ..]; -1 gives pad.

    With `owner` the rows have one more axis in front: tile[i, ..] = ref[select, owner[i], rows[i],
    ..]; -1 in either gives pad. An owner [m] is that of all of rows [m, n].
    """

    name = "tile.gather"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    ref = operand_def(RefType)
    select = var_operand_def(IndexType)
    rows = operand_def(Tensor)
    owner = opt_operand_def(Tensor)
    offsets = var_operand_def(IndexType)
    axes = prop_def(Integers)
    pad = prop_def(FloatAttr)
    space = prop_def(StringAttr)
    result = result_def(Tensor)

    def verify_(self) -> None:
        _check_rows(self.ref, self.select, self.rows, self.owner, self.result)
        _check_space(self.space)


@irdl_op_definition
class Store(Movement):
    """A tile into a reference; what lies beyond the reference, or from `limit` on, is dropped."""

    name = "tile.store"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    value = operand_def(Tensor)
    ref = operand_def(RefType)
    select = var_operand_def(IndexType)
    offsets = var_operand_def(IndexType)
    limit = opt_operand_def(IndexType)
    axes = prop_def(Integers)

    def verify_(self) -> None:
        _check_place(self.ref, self.select, self.offsets, self.axes, self.value, None)


@irdl_op_definition
class Scatter(Movement):
    """Rows of a tile into a reference: ref[select, rows[i], ..] = tile[i, ..]; -1 goes nowhere.

    With `owner`: ref[select, owner[i], rows[i], ..] = tile[i, ..], as in a gather.
    """

    name = "tile.scatter"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    value = operand_def(Tensor)
    ref = operand_def(RefType)
    select = var_operand_def(IndexType)
    rows = operand_def(Tensor)
    owner = opt_operand_def(Tensor)
    offsets = var_operand_def(IndexType)
    axes = prop_def(Integers)

    def verify_(self) -> None:
        _check_rows(self.ref, self.select, self.rows, self.owner, self.value)


# ---- arithmetic that tensors do not need -------------------------------------------------------


@irdl_op_definition
class Fill(TileOp):
    """A tile of equal numbers."""

    name = "tile.fill"
    value = prop_def(FloatAttr)
    space = prop_def(StringAttr)
    result = result_def(Tensor)
    traits = traits_def(Pure())

    def verify_(self) -> None:
        _check_space(self.space)


@irdl_op_definition
class Mma(TileOp):
    """A product added to a sum: y[.., n] = sum_k x[.., k] w[n, k] + accumulator[.., n], in float32.

    Scaled x and w multiply block by block, as in `graph.linear`.
    """

    name = "tile.mma"
    x = operand_def(Tensor)
    w = operand_def(Tensor)
    accumulator = operand_def(Tensor)
    result = result_def(Tensor)
    traits = traits_def(Pure())

    def verify_(self) -> None:
        (*rows, k), (n, depth) = shape_of(self.x), shape_of(self.w)
        if k != depth:
            raise VerifyException(f"the product sums over {k} of x and {depth} of w")
        if shape_of(self.accumulator) != (*rows, n) or shape_of(self.result) != (*rows, n):
            raise VerifyException(f"the product is {[*rows, n]}, got {self.result.type}")


@irdl_op_definition
class MergeTopK(TileOp):
    """The k best of what is carried and of a tile of scores, as (scores, indices), best first.

    scores [m, n] are those of indices start .. start + n - 1; only indices below count[m] take
    part. Ties go to the smaller index; -1 with a score of -inf pads.
    """

    name = "tile.merge_top_k"
    best = operand_def(Tensor)
    index = operand_def(Tensor)
    scores = operand_def(Tensor)
    start = operand_def(IndexType)
    count = operand_def(Tensor)
    best_scores = result_def(Tensor)
    best_index = result_def(Tensor)
    traits = traits_def(Pure())


@irdl_op_definition
class Mask(TileOp):
    """Scores of keys that are not there become -inf.

    There are the keys whose index is not -1; or, with a start and counts, key start + n of row m
    while that is below count[m].
    """

    name = "tile.mask"
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    scores = operand_def(Tensor)
    index = opt_operand_def(Tensor)
    start = opt_operand_def(IndexType)
    count = opt_operand_def(Tensor)
    result = result_def(Tensor)
    traits = traits_def(Pure())


@irdl_op_definition
class Rescale(TileOp):
    """Where a tile begins on an axis of other units: y = x * factor // divisor + offset."""

    name = "tile.rescale"
    x = operand_def(IndexType)
    factor = prop_def(Integer)
    divisor = prop_def(Integer)
    offset = prop_def(Integer)
    result = result_def(IndexType)
    traits = traits_def(Pure())


@irdl_op_definition
class Locate(TileOp):
    """Row numbers by a formula of `runtime/tile_locate.py`, from tiles and indices; -1 for none.

    The formula is one of index arithmetic on sequences, positions, lengths and chosen experts:
    where a row of a state or of a call lies, or how many rows lie before it.
    """

    name = "tile.locate"
    inputs = var_operand_def()
    formula = prop_def(StringAttr)
    parameters_ = opt_prop_def(Integers)
    result = result_def(Tensor)
    traits = traits_def(Pure())


OPS: tuple[type[SupertileOp], ...] = (
    Kernel, Launch, Alloc, Grid, Loop, End,
    Load, Gather, Store, Scatter,
    Fill, Mma, MergeTopK, Mask, Rescale, Locate,
)  # fmt: skip

TILE = Dialect("tile", list(OPS), [RefType, ExtentAttr, PlaceAttr])


def _check_place(
    ref: SSAValue,
    select: Sequence[SSAValue],
    offsets: Sequence[SSAValue],
    axes: Integers,
    tile: SSAValue,
    space: StringAttr | None,
) -> None:
    """A tile has the axes of the reference behind the selected ones, and a static shape."""
    assert isinstance(ref.type, RefType)
    assert isinstance(tile.type, TensorType)
    whole, part = ref.type.tensor.get_shape()[len(select) :], tile.type.get_shape()
    named: tuple[int, ...] = python_value(axes)
    if len(whole) != len(part) or len(named) != len(offsets):
        raise VerifyException(f"a tile of {list(part)} does not lie in {list(whole)}")
    in_place = space is not None and space.data == DEVICE
    if space is not None:
        _check_space(space)
    if DYNAMIC in part and not in_place:
        raise VerifyException(f"a tile has a static shape, got {list(part)}")
    for axis, (size, length) in enumerate(zip(whole, part, strict=True)):
        if axis not in named and size != length:
            raise VerifyException(f"axis {axis} of {size} needs an offset for a tile of {length}")


def _check_space(space: StringAttr) -> None:
    """Any name: machine files name their memories as they like."""
    if not space.data:
        raise VerifyException("a tile lies in a memory that has a name")


def _check_rows(
    ref: SSAValue,
    select: Sequence[SSAValue],
    rows: SSAValue,
    owner: SSAValue | None,
    tile: SSAValue,
) -> None:
    """A tile has the axes of its row numbers, then those of the reference behind its rows."""
    assert isinstance(ref.type, RefType)
    taken = len(select) + (1 if owner is None else 2)
    rest = ref.type.tensor.get_shape()[taken:]
    numbers, whole = shape_of(rows), shape_of(tile)
    if whole[: len(numbers)] != numbers or len(whole) != len(numbers) + len(rest):
        raise VerifyException(f"{list(numbers)} rows of {list(rest)} are no {list(whole)}")
    if owner is not None and shape_of(owner) != numbers[: len(shape_of(owner))]:
        raise VerifyException(f"{list(shape_of(owner))} owners of {list(numbers)} rows")
