"""Work rules by example: one hand-computed case for each op, then groups, functions, the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, TensorType, bf16, f32, i1, i32
from xdsl.dialects.func import Func, FuncOp
from xdsl.ir import Attribute, Operation
from xdsl.parser import Parser
from xdsl.utils.test_value import create_ssa_value

from supertile.ir import comm, graph, work
from supertile.ir.formula import symbol
from supertile.ir.op import attribute_of
from supertile.ir.placement import PlacementAttr, place
from supertile.ir.types import DYNAMIC, RopeAttr, StateAttr, f4e2m1, f8e4m3, tensor
from supertile.ir.work import TOUCHED, WORK, Work, bytes_of, function_work, work_of

Kind = TensorType[Attribute]
T, B = symbol("T"), symbol("B")

ROPE = RopeAttr.of(
    pairs="halves",
    scaling="default",
    **dict.fromkeys(RopeAttr.NUMBERS, 1.0) | {"dims": 4.0},
)
RING = StateAttr.of("ring", "recent", [8])
BLOCKS = StateAttr.of("blocks", "entries", [4])
PLACEMENT = PlacementAttr.of(place(9, 3))


def kind(*parts: Any) -> Kind:
    """A tensor type: sizes, then the element."""
    return tensor(parts[:-1], parts[-1])


def op(name: type[Any], *groups: Kind | list[Kind], **properties: Any) -> Operation:
    values = [
        [create_ssa_value(each) for each in group]
        if isinstance(group, list)
        else create_ssa_value(group)
        for group in groups
    ]
    return graph.create(name, values, **properties)  # type: ignore[arg-type]


def declared(name: type[Operation], result: Kind, *operands: Kind, **properties: Any) -> Operation:
    """An op whose result type is stated, not inferred."""
    return name.create(
        operands=[create_ssa_value(each) for each in operands],
        result_types=[result],
        properties={key: attribute_of(value) for key, value in properties.items()},
    )


X = kind(4, 8, f32)  # 32 elements, 128 bytes
ROW = kind(8, f32)
PER_TOKEN = kind(4, i32)  # 16 bytes
SEQUENCES = kind(2, i32)
CALL = (PER_TOKEN, PER_TOKEN, SEQUENCES)  # sequence, position, length
FP4 = graph.scaled_type([4, 64], f4e2m1, (1, 32))  # 128 bytes of codes, 8 of scales

# An op -> FLOPs, transcendentals, bytes read, bytes written.
CASES: list[tuple[Operation, tuple[int, int, int, int]]] = [
    (op(graph.Constant, value=2.0), (0, 0, 0, 0)),
    (declared(graph.Weight, X, checkpoint="w"), (0, 0, 0, 0)),
    (graph.create(graph.Cast, [create_ssa_value(X)], element=bf16), (0, 0, 128, 64)),
    (op(graph.Reshape, X, shape=[2, 16]), (0, 0, 0, 0)),
    (op(graph.Transpose, X, permutation=[1, 0]), (0, 0, 128, 128)),
    (op(graph.Slice, X, axis=1, start=2, size=4), (0, 0, 64, 64)),
    (op(graph.Split, X, axis=1, sizes=[3, 5]), (0, 0, 128, 128)),
    (op(graph.Concat, [X, X, X], axis=0), (0, 0, 384, 384)),
    (op(graph.Repeat, X, axis=1, count=3), (0, 0, 128, 384)),
    # 4 of 1000 rows of 32 bytes, and 4 ids
    (op(graph.Gather, kind(1000, 8, f32), PER_TOKEN), (0, 0, 128 + 16, 128)),
    (op(graph.Take, kind(4, 100, f32), kind(4, 2, i32)), (0, 0, 32 + 32, 32)),
    (op(graph.Member, kind(4, 2, i32), size=8), (0, 0, 32, 32)),
    (op(graph.Select, kind(4, 8, i1), X, kind(f32)), (32, 0, 32 + 128 + 4, 128)),
    (op(graph.Negate, X), (32, 0, 128, 128)),
    (op(graph.Exp, X), (0, 32, 128, 128)),
    (op(graph.Sqrt, X), (0, 32, 128, 128)),
    (op(graph.Rsqrt, X), (0, 32, 128, 128)),
    (op(graph.Sigmoid, X), (0, 32, 128, 128)),
    (op(graph.Softplus, X), (0, 32, 128, 128)),
    (op(graph.Silu, X), (32, 32, 128, 128)),
    (op(graph.Relu, X), (32, 0, 128, 128)),
    (op(graph.Gelu, X), (128, 32, 128, 128)),
    (op(graph.Tanh, X), (0, 32, 128, 128)),
    (op(graph.Add, X, ROW), (32, 0, 160, 128)),
    (op(graph.Subtract, kind(4, 1, f32), ROW), (32, 0, 16 + 32, 128)),
    (op(graph.Multiply, X, X), (32, 0, 256, 128)),
    (op(graph.Divide, X, X), (32, 0, 256, 128)),
    (op(graph.Minimum, X, kind(f32)), (32, 0, 132, 128)),
    (op(graph.Maximum, X, kind(f32)), (32, 0, 132, 128)),
    (op(graph.Clamp, X, low=-1.0, high=1.0), (64, 0, 128, 128)),
    (op(graph.ReduceSum, X, axis=1), (32, 0, 128, 16)),
    (op(graph.ReduceMax, X, axis=0), (32, 0, 128, 32)),
    (op(graph.Softmax, X), (128, 32, 128, 128)),
    (op(graph.Linear, X, kind(16, 8, bf16)), (2 * 4 * 16 * 8, 0, 128 + 256, 256)),
    # 4 rows meet at most 4 of 100 experts, each 3 x 8 bf16; and 100 counts
    (
        op(graph.GroupedLinear, X, kind(100, 3, 8, bf16), kind(100, i32)),
        (2 * 4 * 3 * 8, 0, 128 + 4 * 48 + 400, 48),
    ),
    # 6 rows of 2 sequences are read once, not once for each of 4 tokens; b adds no FLOPs
    (
        op(
            graph.Einsum,
            [kind(4, 2, 8, f32), kind(2, 6, 8, f32)],
            [PER_TOKEN],
            equation="thc,bsc->ths",
        ),
        (2 * 4 * 2 * 8 * 6, 0, 256 + 384 + 16, 192),
    ),
    # for each element square, sum, scale, gain; for each row divide, eps
    (op(graph.RmsNorm, X, [ROW], eps=1e-6), (4 * 32 + 2 * 4, 4, 128 + 32, 128)),
    # 2 of 4 pairs turn, 6 FLOPs each; one sine and cosine for each token and pair
    (op(graph.Rope, X, PER_TOKEN, rope=ROPE), (4 * 2 * 6, 4 * 2 * 2, 128 + 16, 128)),
    (op(graph.Hadamard, X), (32 * 3, 0, 128, 128)),
    (declared(graph.Quantize, FP4, kind(4, 64, f32)), (3 * 256, 0, 1024, 128 + 8)),
    (op(graph.Dequantize, FP4), (256, 0, 128 + 8, 1024)),
    # softmax and eps, 5 each; 3 scalings of 4 matrices: 16 sums, 16 divides, 4 eps
    (
        op(graph.Sinkhorn, kind(4, 4, 4, f32), iterations=2, eps=1e-6),
        (5 * 64 + 3 * 4 * 36, 64, 256, 256),
    ),
    # 4 rows go into a state of 2 x 64; the state itself is not read
    (op(graph.Append, kind(2, 64, 8, f32), X, *CALL, kind=BLOCKS), (0, 0, 128 + 40, 128)),
    # sizes that only a run determines are 2 in these cases: 2 windows
    (op(graph.CompletedWindows, *CALL, ratio=4), (4, 0, 40, 16)),
    # 2 windows of 8 slots with 3 of 6 channels; 4 tokens, each a slot with values and scores
    (
        op(
            graph.PoolWindows,
            kind(2, 8, 2, 6, f32),
            *[kind(4, 6, f32)] * 2,
            kind(4, 6, f32),
            *CALL,
            ratio=4,
            overlap=1,
        ),
        (24 + 6 * 48, 48, 2 * 8 * 2 * 3 * 4 + 3 * 96 + 40, 2 * 3 * 4 + 4 * 2 * 6 * 4),
    ),
    (op(graph.WindowIndex, *CALL, window=8), (32, 0, 40, 128)),
    (op(graph.VisibleCount, PER_TOKEN, ratio=4), (4, 0, 16, 16)),
    (op(graph.TopK, kind(4, 100, f32), [PER_TOKEN], k=3), (400, 0, 1600 + 16, 48)),
    # 5 keys by index and all 20 of the second source, for each of 4 tokens and 2 heads
    (
        op(
            graph.Attend,
            kind(4, 2, 8, f32),
            [kind(2, 50, 8, bf16), kind(2, 20, 8, bf16)],
            [],
            [kind(4, 5, i32), PER_TOKEN],
            [kind(2, f32)],
            PER_TOKEN,
            scale=0.5,
            value_width=6,
        ),
        (
            2 * 4 * 2 * 25 * (8 + 6),
            4 * 2 * 25 + 4 * 2,
            256 + 4 * 25 * 16 + (80 + 16) + 8 + 16,
            4 * 2 * 6 * 4,
        ),
    ),
    # 8 rows of 32 bytes, their weights and order, 100 counts
    (
        op(graph.Dispatch, X, kind(4, 2, i32), kind(4, 2, f32), experts=100),
        (8, 0, 128 + 64, 256 + 32 + 400 + 32),
    ),
    (op(graph.Combine, kind(8, 8, f32), kind(8, i32), choices=2), (32, 0, 256 + 32, 128)),
    # 2 rows arrive, of 32 bytes, their weights and origins, 3 counts
    (
        op(comm.Dispatch, X, kind(4, 2, i32), kind(4, 2, f32), placement=PLACEMENT),
        (8, 0, 128 + 64, 64 + 8 + 12 + 16),
    ),
    (
        op(comm.Combine, kind(8, 8, f32), kind(8, 2, i32), kind(4, 2, i32)),
        (32, 0, 256 + 64 + 32, 128),
    ),
    (op(comm.Share, X, ranks=2), (0, 0, 0, 0)),
    # 2 of the 4 rows are the rank's own; all are there in the end
    (op(comm.AllGather, kind(2, 8, f32), X, ranks=2), (0, 0, 64, 128)),
    (op(comm.AllReduce, X, ranks=3), (64, 0, 128, 128)),
]


def at_two(held: Operation) -> dict[Any, tuple[int, ...]]:
    """Shapes of the results, run-time sizes being 2."""
    return {
        value: tuple(2 if size == DYNAMIC else size for size in value.type.get_shape())  # type: ignore[attr-defined]
        for value in held.results
    }


@pytest.mark.parametrize(("held", "expected"), CASES, ids=lambda case: getattr(case, "name", ""))
def test_work_of_each_op(held: Operation, expected: tuple[int, int, int, int]) -> None:
    assert work_of(held, at_two(held)) == Work(*expected)


def test_every_op_has_a_rule_and_an_example_in_the_order_of_the_dialect() -> None:
    structure = (graph.Layers, graph.Fused, graph.Yield)
    ruled = [each for each in (*graph.OPS, *comm.OPS) if each not in structure]
    assert list(WORK) == ruled
    assert [type(held) for held, _ in CASES] == ruled
    assert list(TOUCHED) == [each for each in ruled if each in TOUCHED]


def test_a_ring_keeps_no_more_rows_than_its_window() -> None:
    rows = kind(100, 8, f32)
    held = op(graph.Append, kind(2, 8, 8, f32), rows, *[kind(100, i32)] * 2, SEQUENCES, kind=RING)
    assert work_of(held, at_two(held)).bytes_written == 2 * 8 * 32


def test_scaled_states_move_scales_with_their_rows() -> None:
    state = graph.scaled_type([2, 64, 96], f8e4m3, (1, 64))
    rows = graph.scaled_type([4, 96], f8e4m3, (1, 64))
    held = graph.Append.create(
        operands=[create_ssa_value(each) for each in (state, rows, *CALL)],
        result_types=[state, state],
        properties={"kind": BLOCKS},
    )
    assert work_of(held) == Work(0, 0, 4 * (96 + 2) + 40, 4 * (96 + 2))


def test_separate_values_are_read_beside_the_keys() -> None:
    keys, values = kind(2, 50, 1, 8, bf16), kind(2, 50, 1, 6, bf16)
    index = kind(4, 5, i32)
    q = kind(4, 2, 8, f32)
    groups: list[Any] = [q, [keys], [values], [index], [], PER_TOKEN]
    work = work_of(op(graph.Attend, *groups, scale=1.0, value_width=4))
    assert work.bytes_read == 256 + 4 * 5 * (16 + 8) + 80 + 16
    assert work.transcendentals == 4 * 2 * 5


# ---- sizes of the published model --------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "size"),
    [
        (graph.scaled_type([3072, 7168], f4e2m1, (1, 32)), 3072 * 3584 + 3072 * 224),
        (graph.scaled_type([384, 3072, 7168], f4e2m1, (1, 32)), 384 * 3072 * (3584 + 224)),
        (graph.scaled_type([1536, 7168], f8e4m3, (128, 128)), 1536 * 7168 + 12 * 56),
        (graph.scaled_type([576, 7168], f8e4m3, (128, 128)), 576 * 7168 + 5 * 56),  # 4.5 blocks
        (kind(3, f4e2m1), 2),  # three nibbles
        (kind(f32), 4),
        (kind(5, i1), 5),
    ],
)
def test_bytes_of_formats(weight: Kind, size: int) -> None:
    assert bytes_of(weight, weight.get_shape()) == size


def test_bytes_over_symbols() -> None:
    codes = graph.scaled_type([DYNAMIC, 7168], f8e4m3, (1, 128))
    assert bytes_of(codes, (T, 7168)) == (7168 + 56) * T
    assert str(bytes_of(kind(DYNAMIC, f4e2m1), (T,))) == "1/2*T"


def test_all_experts_are_read_while_rows_are_a_name() -> None:
    weights = graph.scaled_type([384, 3072, 7168], f4e2m1, (1, 32))
    held = op(graph.GroupedLinear, kind(DYNAMIC, 7168, bf16), weights, kind(384, i32))
    x, _, _ = held.operands
    known = work_of(held, {x: (12, 7168), held.results[0]: (12, 3072)})
    assert known.bytes_read == 12 * 14336 + 12 * 3072 * 3808 + 384 * 4
    named = work_of(held, {x: (T, 7168), held.results[0]: (T, 3072)})
    assert named.bytes_read == 14336 * T + 384 * 3072 * 3808 + 384 * 4


def test_attention_of_the_published_model_at_a_million_tokens() -> None:
    """Per token: 76.7 G for core attention of 30 CSA and 31 HCA layers, 128.8 G for the indexer."""
    context, heads, channels = 1 << 20, 128, 512

    def core(second: Kind, entries: int) -> Any:
        keys = [kind(1, 4096, channels, bf16), kind(1, entries, channels, bf16)]
        index = [kind(1, 128, i32), second]
        groups: list[Any] = [kind(1, heads, channels, bf16), keys, [], index]
        held = op(graph.Attend, *groups, [], kind(1, i32), scale=1.0, value_width=channels)
        return work_of(held).flops

    csa = core(kind(1, 1024, i32), context // 4)
    hca = core(kind(1, i32), context // 128)
    assert round((30 * csa + 31 * hca) / 1e9, 1) == 76.7
    scores = op(
        graph.Einsum,
        [kind(1, 64, 128, f32), kind(1, context // 4, 128, f32)],
        [kind(1, i32)],
        equation="thc,bsc->ths",
    )
    assert round(30 * work_of(scores).flops / 1e9, 1) == 128.8


# ---- functions ---------------------------------------------------------------------------------


def function(text: str) -> FuncOp:
    context = Context()
    for dialect in (Builtin, Func, graph.GRAPH):
        context.load_dialect(dialect)
    module = Parser(context, text.replace("i64: ?", "i64: -1")).parse_module()
    module.verify()
    first = module.body.block.first_op
    assert isinstance(first, FuncOp)
    return first


NORM = """
func.func @norm(%x: tensor<?x8xbf16> {graph.sizes = ["T", "D"]}, %l: index) -> tensor<?x4xf32> {
  %w = graph.weight %l {checkpoint = "{l}.w"} : (index) -> tensor<4x8xbf16>
  %y = graph.linear %x, %w : (tensor<?x8xbf16>, tensor<4x8xbf16>) -> tensor<?x4xf32>
  %n = graph.rms_norm %y {eps = 1.0e-6 : f64} : (tensor<?x4xf32>) -> tensor<?x4xf32>
  func.return %n : tensor<?x4xf32>
}
"""


def test_function_as_formulas() -> None:
    works, total = function_work(function(NORM))
    assert [(each.name, str(work.flops)) for each, work in works] == [
        ("graph.weight", "0"),
        ("graph.linear", "64*T"),
        ("graph.rms_norm", "14*T"),
    ]
    assert [str(count) for count in total.counts] == ["78*T", "T", "32*T + 64", "32*T"]


def test_function_with_numbers_and_other_names() -> None:
    assert function_work(function(NORM), {"T": 4})[1] == Work(312, 4, 192, 128)
    renamed = function_work(function(NORM), {"T": 2 * B})[1]
    assert str(renamed.bytes_read) == "64*B + 64"


def test_a_sweep_evaluates_arrays() -> None:
    total = function_work(function(NORM))[1].evaluate({"T": np.array([1, 100, 1 << 40])})
    assert total.flops.tolist() == [78.0, 7800.0, 78.0 * 2**40]
    assert total.bytes_read.tolist() == [96.0, 3264.0, 32.0 * 2**40 + 64]


def test_reshape_keeps_names_and_takes_numbers() -> None:
    text = """
    func.func @f(%x: tensor<?x8xf32> {graph.sizes = ["T", "8"]}) -> tensor<?x8xf32> {
      %h = graph.reshape %x {shape = array<i64: ?, 2, 4>} : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
      %q = graph.quantize %h : (tensor<?x2x4xf32>) ->
        tensor<?x2x4xf8E4M3FN, #graph.mx<[1, 1, 4], f8E8M0FNU>>
      %d = graph.dequantize %q :
        (tensor<?x2x4xf8E4M3FN, #graph.mx<[1, 1, 4], f8E8M0FNU>>) -> tensor<?x2x4xf32>
      %y = graph.reshape %d {shape = array<i64: ?, 8>} : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
      func.return %y : tensor<?x8xf32>
    }
    """
    named = function_work(function(text))[1]
    assert [str(count) for count in named.counts] == ["32*T", "0", "42*T", "42*T"]
    assert function_work(function(text), {"T": 3})[1] == Work(96, 0, 126, 126)


def test_sizes_that_ops_make_are_names() -> None:
    text = """
    func.func @f(%state: tensor<?x8x4xf32> {graph.sizes = ["B", "8", "4"]},
                 %rows: tensor<?x4xf32> {graph.sizes = ["T", "4"]},
                 %t: tensor<?xi32> {graph.sizes = ["T"]},
                 %length: tensor<?xi32> {graph.sizes = ["B"]}) -> tensor<?x?xf32> {
      %seen, %kept = graph.append %state, %rows, %t, %t, %length
        {kind = #graph.state<"ring", "r", [8]>} :
        (tensor<?x8x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>)
        -> (tensor<?x?x4xf32>, tensor<?x8x4xf32>)
      %ws, %wp = graph.completed_windows %t, %t, %length {ratio = 4 : i64} :
        (tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) -> (tensor<?xi32>, tensor<?xi32>)
      %y = graph.reduce_sum %seen {axis = 2 : i64} : (tensor<?x?x4xf32>) -> tensor<?x?xf32>
      func.return %y : tensor<?x?xf32>
    }
    """
    works, _ = function_work(function(text))
    assert str(works[0][1].bytes_written) == "16*T"
    assert str(works[1][1].bytes_written) == "8*windows4"
    assert str(works[2][1].flops) == "4*B*seen8"


def test_a_run_time_size_without_a_name_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"argument 0 needs graph\.sizes"):
        function_work(function(NORM.replace('{graph.sizes = ["T", "D"]}', "")))
    with pytest.raises(ValueError, match="without a name"):
        work_of(op(graph.Exp, kind(DYNAMIC, f32)))


# ---- fused groups ------------------------------------------------------------------------------

FUSED = """
func.func @f(%x: tensor<?x8xbf16> {graph.sizes = ["T", "8"]},
             %g: tensor<4xf32>) -> tensor<?x2x2xf32> {
  %w = graph.weight {checkpoint = "w"} : () -> tensor<4x8xbf16>
  %y = graph.fused {kind = "norm"} : () -> tensor<?x2x2xf32> {
    INSIDE
    %a = graph.linear %x, %w : (tensor<?x8xbf16>, tensor<4x8xbf16>) -> tensor<?x4xf32>
    %n = graph.rms_norm %a, %g {eps = 1.0e-6 : f64} : (tensor<?x4xf32>, tensor<4xf32>)
      -> tensor<?x4xf32>
    %s = graph.multiply %n, %g : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
    %r = graph.reshape %s {shape = array<i64: ?, 2, 2>} : (tensor<?x4xf32>) -> tensor<?x2x2xf32>
    graph.yield %r : (tensor<?x2x2xf32>) -> ()
  }
  func.return %y : tensor<?x2x2xf32>
}
"""
WEIGHT = '%w = graph.weight {checkpoint = "w"} : () -> tensor<4x8xbf16>'
LINEAR = "graph.linear %x, %w : (tensor<?x8xbf16>, tensor<4x8xbf16>) -> tensor<?x4xf32>"
NESTED = f"""graph.fused {{kind = "product"}} : () -> tensor<?x4xf32> {{
      %p = {LINEAR}
      graph.yield %p : (tensor<?x4xf32>) -> ()
    }}"""


@pytest.mark.parametrize(
    "text",
    [
        FUSED.replace("INSIDE", ""),
        FUSED.replace(WEIGHT, "").replace("INSIDE", WEIGHT),
        FUSED.replace("INSIDE", "").replace(LINEAR, NESTED),
    ],
    ids=["weight captured", "weight inside", "group in the group"],
)
def test_a_fused_group_reads_what_it_captures_and_writes_what_it_yields(text: str) -> None:
    """x 16 T, w 64 and g 16, once though two ops use it; the result 16 T, behind a reshape."""
    _, total = function_work(function(text))
    assert [str(count) for count in total.counts] == ["86*T", "T", "16*T + 80", "16*T"]


def test_a_fused_group_reads_states_by_row_and_writes_new_rows() -> None:
    text = """
    func.func @f(%state: tensor<2x64x8xf32>, %rows: tensor<4x8xf32>, %q: tensor<4x2x8xf32>,
                 %t: tensor<4xi32>, %length: tensor<2xi32>, %i: tensor<4x3xi32>)
                 -> tensor<4x2x8xf32> {
      %o, %k = graph.fused {kind = "attention"} : () -> (tensor<4x2x8xf32>, tensor<2x64x8xf32>) {
        %seen, %kept = graph.append %state, %rows, %t, %t, %length
          {kind = #graph.state<"blocks", "e", [4]>} :
          (tensor<2x64x8xf32>, tensor<4x8xf32>, tensor<4xi32>, tensor<4xi32>, tensor<2xi32>)
          -> (tensor<2x64x8xf32>, tensor<2x64x8xf32>)
        %a = graph.attend %q, %seen, %i, %t
          {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 1>, scale = 1.0 : f64,
           value_width = 8 : i64} :
          (tensor<4x2x8xf32>, tensor<2x64x8xf32>, tensor<4x3xi32>, tensor<4xi32>)
          -> tensor<4x2x8xf32>
        graph.yield %a, %kept : (tensor<4x2x8xf32>, tensor<2x64x8xf32>) -> ()
      }
      func.return %o : tensor<4x2x8xf32>
    }
    """
    _, total = function_work(function(text))
    assert total.flops == 2 * 4 * 2 * 3 * 16
    rows, q, gathered, index = 128, 256, 4 * 3 * 32, 16 + 8 + 48
    assert total.bytes_read == rows + q + gathered + index
    assert total.bytes_written == 256 + 128


@pytest.mark.parametrize("gain", [(), ((6,),)])
def test_a_norm_of_heads_counts_every_row(gain: tuple[tuple[int, ...], ...]) -> None:
    """Tokens times heads rows of six: square, sum, scale, gain; mean, eps and a root a row."""
    flops, transcendental = work.rms_norm({}, [(5, 4, 6), *gain], [(5, 4, 6)])
    assert flops == (3 + len(gain)) * 5 * 4 * 6 + 2 * 5 * 4 and transcendental == 5 * 4
