"""Every op as a kernel against its NumPy function; texts of small kernels; what kernels share."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from fusion_checks import apply, fused_of
from kernel_of_op import argument, blocks_backwards, function_of
from pass_checks import module_of, run, text_of
from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.irdl import OptOperandDef

from supertile.ir import graph, tile
from supertile.ir.errors import UserError
from supertile.ir.locations import name_of
from supertile.ir.op import attribute_of, python_value, shape_of
from supertile.ir.text import parse_module
from supertile.ir.types import DYNAMIC, RopeAttr, f8e4m3, f32, i1, i32, tensor
from supertile.passes.tile_sizes import SIZES
from supertile.runtime.graph_ops import FUNCTIONS
from supertile.runtime.numerics import Scaled, quantize
from supertile.runtime.tile_execute import KernelPlan

TILED = "choose-tiles{force=test},lower-to-tile"
ROPE = RopeAttr.of(
    pairs="halves",
    scaling="default",
    **dict.fromkeys(RopeAttr.NUMBERS, 1.0) | {"dims": 4.0, "theta": 100.0},
)
ROWS = 7

# ---- every op ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """An operand with the rows of a call: all axes but the first have sizes in types."""

    array: object


ELEMENTS = {"float32": f32, "int32": i32, "bool": i1}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def integers(below, *shape):
    return np.random.default_rng(1).integers(0, below, shape).astype(np.int32)


X, Y = Rows(normal(ROWS, 5)), Rows(normal(ROWS, 5, seed=1))
DEEP = Rows(normal(ROWS, 3, 5))
WIDE = Rows(normal(ROWS, 16))
POSITIVE = Rows(np.abs(normal(ROWS, 5)) + 0.5)
CHOSEN = Rows(np.argsort(normal(ROWS, 5))[:, :2].astype(np.int32))
POSITION = Rows(np.array([0, 1, 2, 3, 0, 1, 2], dtype=np.int32))
SEQUENCE = Rows(np.array([0, 0, 0, 0, 1, 1, 1], dtype=np.int32))
MASK = Rows(normal(ROWS, 5) > 0)
CODES = Rows(quantize(normal(ROWS, 16), "f8e4m3", 8))

# op, operands by group, properties
OPS = [
    (graph.Cast, [Rows(integers(9, ROWS, 5))], {}),
    (graph.Transpose, [DEEP], {"permutation": [0, 2, 1]}),
    (graph.Slice, [X], {"axis": 1, "start": 1, "size": 3}),
    (graph.Split, [X], {"axis": 1, "sizes": [2, 3]}),
    (graph.Concat, [[X, Rows(normal(ROWS, 3))]], {"axis": 1}),
    (graph.Repeat, [X], {"axis": 1, "count": 3}),
    (graph.Gather, [normal(11, 5), Rows(integers(11, ROWS))], {}),
    (graph.Take, [X, CHOSEN], {}),
    (graph.Member, [CHOSEN], {"size": 5}),
    (graph.Select, [MASK, X, Y], {}),
    *[(op, [X], {}) for op in (graph.Negate, graph.Exp, graph.Sigmoid, graph.Softplus)],
    *[(op, [X], {}) for op in (graph.Silu, graph.Relu, graph.Gelu, graph.Tanh, graph.Softmax)],
    *[(op, [POSITIVE], {}) for op in (graph.Sqrt, graph.Rsqrt)],
    *[(op, [X, Y], {}) for op in (graph.Add, graph.Subtract, graph.Multiply)],
    (graph.Divide, [X, POSITIVE], {}),
    (graph.Minimum, [X, normal(5)], {}),
    (graph.Maximum, [DEEP, normal(3, 1)], {}),
    (graph.Clamp, [X], {"low": -0.5, "high": 0.5}),
    (graph.ReduceSum, [DEEP], {"axis": 1}),
    (graph.ReduceMax, [DEEP], {"axis": 2}),
    (graph.Linear, [X, normal(9, 5)], {}),
    (graph.Linear, [DEEP, normal(9, 5)], {}),
    (graph.GroupedLinear, [X, normal(4, 3, 5), np.array([2, 0, 4, 1], dtype=np.int32)], {}),
    (graph.Einsum, [[DEEP, normal(3, 7, 5)], []], {"equation": "tgd,grd->tgr"}),
    (graph.Einsum, [[DEEP, Rows(normal(ROWS, 3))], []], {"equation": "tgd,tg->td"}),
    (graph.Einsum, [[DEEP, normal(2, 6, 5)], [SEQUENCE]], {"equation": "thc,bsc->ths"}),
    (graph.RmsNorm, [X, [normal(5)]], {"eps": 1e-6}),
    (graph.Rope, [DEEP, POSITION], {"rope": ROPE}),
    (graph.Hadamard, [WIDE], {}),
    (graph.Dequantize, [CODES], {}),
    (graph.Sinkhorn, [Rows(normal(ROWS, 3, 3))], {"iterations": 2, "eps": 1e-6}),
    (graph.VisibleCount, [POSITION], {"ratio": 2}),
    (graph.TopK, [X, []], {"k": 2}),
    (graph.TopK, [X, [POSITION]], {"k": 3}),
    (
        graph.Attend,
        [DEEP, [normal(2, 6, 5)], [], [Rows(integers(6, ROWS, 4))], [normal(3)], SEQUENCE],
        {"scale": 0.5, "value_width": 4},
    ),
    (
        graph.Attend,
        [DEEP, [normal(2, 6, 5)], [], [POSITION], [], SEQUENCE],
        {"scale": 0.5, "value_width": 5},
    ),
]

# Of state, windows and experts: with ragged batches in test_tile_state.py and test_tile_experts.py.
ELSEWHERE = {
    *(graph.Append, graph.CompletedWindows, graph.PoolWindows, graph.WindowIndex),
    *(graph.Dispatch, graph.Combine),
}
# Alone it is a view; in groups it is in every model.
VIEWS = {graph.Reshape}
# Its result type is stated, not inferred.
STATED = {graph.Quantize}


def test_every_op_that_computes_is_here():
    held = {op for op, _, _ in OPS} | STATED | ELSEWHERE | VIEWS
    assert held == set(FUNCTIONS)


def type_of_array(operand):
    array = operand.array if isinstance(operand, Rows) else operand
    shape = [DYNAMIC, *array.shape[1:]] if isinstance(operand, Rows) else list(array.shape)
    if isinstance(array, Scaled):
        return graph.scaled_type(shape, f8e4m3, array.block[-1:])
    return tensor(shape, ELEMENTS[array.dtype.name])


def plain(operand):
    return operand.array if isinstance(operand, Rows) else operand


def kernels_of_module(module):
    return [op for op in module.ops if isinstance(op, tile.Kernel)]


def kernel_on(operands, make):
    """The kernel, with tiles smaller than all sizes, of one op on these operands."""
    kinds = [type_of_array(operand) for operand in operands]
    axes = ["T" if isinstance(operand, Rows) else "N" for operand in operands]
    arguments = [argument(kind, axis) for kind, axis in zip(kinds, axes, strict=True)]

    def body(*values):
        made = make(values)
        return [made], made.results

    module = ModuleOp([function_of(arguments, body)])
    apply(module, TILED)
    (kernel,) = kernels_of_module(module)
    kernel.verify()
    return KernelPlan(kernel)


def same(kernel, operands, expected):
    """The kernel gives these results, in whatever order its blocks run."""
    for found in (kernel.launch(list(operands)), _backwards(kernel, operands)):
        for got, wanted in zip(found, expected, strict=True):
            if isinstance(wanted, Scaled):
                got, wanted = got.values(), wanted.values()
            assert got.dtype == wanted.dtype and got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def _backwards(kernel, operands):
    with blocks_backwards():
        return kernel.launch(list(operands))


def _given(definition, group):
    """What the NumPy function takes for an operand, a list of them, or one that may be missing."""
    if not isinstance(group, list):
        return plain(group)
    if isinstance(definition, OptOperandDef):
        return plain(group[0]) if group else None
    return [plain(operand) for operand in group]


@pytest.mark.parametrize(
    ("op", "groups", "properties"),
    OPS,
    ids=[f"{op.__name__}-{n}" for n, (op, *_) in enumerate(OPS)],
)
def test_a_kernel_is_its_function(op, groups, properties):
    flat = [x for group in groups for x in (group if isinstance(group, list) else [group])]

    def make(values):
        rest = iter(values)
        held = [[next(rest) for _ in g] if isinstance(g, list) else next(rest) for g in groups]
        return graph.create(op, held, **properties)

    kernel = kernel_on(flat, make)
    named = {key: python_value(attribute_of(value)) for key, value in properties.items()}
    definitions = op.get_irdl_definition().operands
    given = [_given(held, group) for (_, held), group in zip(definitions, groups, strict=True)]
    expected = FUNCTIONS[op](*given, **named)
    results = expected if isinstance(expected, tuple | list) else (expected,)
    same(kernel, [plain(x) for x in flat], results)


def test_rounding_to_codes():
    x = Rows(normal(ROWS, 16))
    codes = graph.scaled_type([DYNAMIC, 16], f8e4m3, (8,))

    def make(values):
        return graph.Quantize.create(operands=list(values), result_types=[codes])

    same(kernel_on([x], make), [x.array], [quantize(x.array, "f8e4m3", 8)])


# ---- the text ----------------------------------------------------------------------------------

X_KIND, W_KIND, Y_KIND = "tensor<?x6xf32>", "tensor<5x6xf32>", "tensor<?x5xf32>"
NORM_AND_LINEAR = f"""
(%x : {X_KIND} {{graph.sizes = ["T"]}}, %w : {W_KIND}) -> ({Y_KIND}, {Y_KIND})
    %n = graph.rms_norm %x {{eps = 0.5 : f64}} : ({X_KIND}) -> {X_KIND}
    %y = graph.linear %n, %w : ({X_KIND}, {W_KIND}) -> {Y_KIND}
    %z = graph.linear %x, %w : ({X_KIND}, {W_KIND}) -> {Y_KIND}
    func.return %y, %z : {Y_KIND}, {Y_KIND}
"""


def lowered(snippet, pipeline=TILED):
    module = module_of(snippet)
    apply(module, pipeline)
    return module


def outline(op, indent=""):
    """The ops of a kernel, a line each: name, steps or where a tile lies, shape of the result."""
    lines = []
    for inner in op.regions[0].block.ops:
        name, held = inner.name.removeprefix("tile."), inner.properties
        words = [name]
        if name == "grid":
            words += map(str, held["steps"].get_values())
        if name == "loop":
            words.append(str(held["step"].value.data))
        words += ["x".join(map(str, shape_of(value))) for value in inner.results]
        if name != "end":
            lines.append(indent + " ".join(words))
        if inner.regions:
            lines += outline(inner, indent + "  ")
    return lines


def test_small_kernels():
    norm, linear = kernels_of_module(lowered(NORM_AND_LINEAR))
    assert [list(one.reuses.get_values()) for one in (norm, linear)] == [[-1], [-1]]
    assert outline(norm) == [
        "grid 2",
        "  load 2x6",
        "  graph.rms_norm 2x6",
        "  store",
    ]
    assert outline(linear) == [
        "grid 2 2",
        "  fill 2x2",
        "  loop 2 2x2",
        "    load 2x2",
        "    load 2x2",
        "    mma 2x2",
        "  store",
    ]


def test_equal_groups_share_a_kernel():
    module = lowered(NORM_AND_LINEAR)
    launched = [op.kernel.data for op in module.walk() if isinstance(op, tile.Launch)]
    assert launched == ["rms_norm_1", "linear_1", "linear_1"]
    assert [op.sym_name.data for op in kernels_of_module(module)] == ["rms_norm_1", "linear_1"]


def test_other_sizes_are_another_kernel():
    """The kind of a value is part of what makes groups equal."""
    other = NORM_AND_LINEAR.replace("%z = graph.linear %x, %w", "%z = graph.linear %n, %v").replace(
        f"%w : {W_KIND})", f"%w : {W_KIND}, %v : tensor<4x6xf32>)"
    )
    other = other.replace(
        f"%n, %v : ({X_KIND}, {W_KIND}) -> {Y_KIND}",
        f"%n, %v : ({X_KIND}, tensor<4x6xf32>) -> tensor<?x4xf32>",
    )
    other = other.replace(f"({Y_KIND}, {Y_KIND})", f"({Y_KIND}, tensor<?x4xf32>)")
    other = other.replace(f"%y, %z : {Y_KIND}, {Y_KIND}", f"%y, %z : {Y_KIND}, tensor<?x4xf32>")
    names = [op.sym_name.data for op in kernels_of_module(lowered(other))]
    assert names == ["rms_norm_1", "linear_1", "linear_2"]


def test_what_is_left_parses_and_verifies():
    """`run_passes` verifies behind every pass; the text is read back and verified again."""
    text, _ = run(NORM_AND_LINEAR, f"{TILED},pipeline-loops,assign-memory")
    assert text_of(parse_module(text)) == text


def test_groups_in_groups_are_one_kernel():
    nested = """
    (%x : tensor<?x6xf32> {graph.sizes = ["T"]}) -> tensor<?x6xf32>
      %y = graph.fused {kind = "outer"} : () -> tensor<?x6xf32> {
        %a = graph.fused {kind = "inner"} : () -> tensor<?x6xf32> {
          %e = graph.exp %x : (tensor<?x6xf32>) -> tensor<?x6xf32>
          graph.yield %e : (tensor<?x6xf32>) -> ()
        }
        %n = graph.negate %a : (tensor<?x6xf32>) -> tensor<?x6xf32>
        graph.yield %n : (tensor<?x6xf32>) -> ()
      }
      func.return %y : tensor<?x6xf32>
    """
    (kernel,) = kernels_of_module(lowered(nested))
    assert (kernel.kind.data, outline(kernel)) == (
        "outer",
        ["grid 2 2", "  load 2x2", "  graph.exp 2x2", "  graph.negate 2x2", "  store"],
    )
    x = normal(5, 6)
    np.testing.assert_allclose(KernelPlan(kernel).launch([x])[0], -np.exp(x), rtol=1e-6)


# ---- sizes that are not there ------------------------------------------------------------------


def test_lowering_needs_sizes():
    with pytest.raises(UserError) as caught:
        lowered(NORM_AND_LINEAR, "lower-to-tile")
    assert caught.value.code == "pass.no_tiles"


def test_lowering_needs_the_sizes_of_this_function():
    module = lowered(NORM_AND_LINEAR, "choose-tiles")
    (function,) = module.ops
    function.attributes[SIZES] = ArrayAttr(list(function.attributes[SIZES])[1:])
    with pytest.raises(UserError) as caught:
        apply(module, "lower-to-tile")
    assert caught.value.code == "pass.other_tiles"


# ---- a whole model -----------------------------------------------------------------------------


def test_kernels_of_a_large_model_are_few():
    """No loop is unrolled: the IR does not grow with layers, experts or sizes."""
    module = fused_of("pro", "deployed")
    apply(module, "choose-tiles,lower-to-tile")
    assert sum(1 for _ in module.walk()) <= 3000
    assert len(kernels_of_module(module)) <= 60
    left = {op.name for f in module.ops if isinstance(f, FuncOp) for op in f.walk()}
    stay = {"graph.weight", "graph.layers", "graph.reshape", "graph.constant"}
    assert left <= {"tile.launch", "func.func", "func.return"} | stay


def test_a_launch_bears_the_name_of_its_first_result():
    snippet = NORM_AND_LINEAR
    for value, line in (("n", 2), ("y", 3), ("z", 4)):
        snippet = re.sub(
            rf"(    %{value} = .*)\n", rf'\1 loc("{value} of m"("m.st":{line}:1))\n', snippet
        )
    (function,) = [op for op in lowered(snippet).ops if isinstance(op, FuncOp)]
    launches = [op for op in function.body.block.ops if isinstance(op, tile.Launch)]
    assert [name_of(op.location) for op in launches] == ["n of m", "y of m", "z of m"]
