"""Along which axis the rows of a phase fall into parts, and what keeps them whole."""

import pytest
from fusion_checks import fused_of
from kernel_of_op import argument, function_of

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC, f8e4m3, f32, tensor
from supertile.passes.inner_axis import inner_axis
from supertile.passes.tiling import Phase, row_spaces, stored_values, units_of


def chain(width, *steps):
    """A phase of ops one after the other, on rows of `width` numbers; its results, its axis."""

    def body(x):
        ops, value = [], x
        for op, properties in steps:
            ops.append(graph.create(op, [value], **properties))
            value = ops[-1].results[0]
        return ops, [value]

    function = function_of([argument(tensor([DYNAMIC, width], f32), "T")], body)
    *ops, end = function.body.block.ops
    return inner_axis(Phase("rows", "T", ops), list(end.operands), row_spaces(function))


HEADS = (graph.Reshape, {"shape": [-1, 8, 16]})
NORM = (graph.Softmax, {})
FLAT = (graph.Reshape, {"shape": [-1, 128]})
TURNED = (graph.Transpose, {"permutation": [0, 2, 1]})

# ops -> how many parts
PARTS = {
    "each number for itself": ([(graph.Exp, {})], 128),
    "by heads": ([HEADS, NORM], 8),
    "by heads, joined again": ([HEADS, NORM, FLAT], 8),
    "through a transposition": ([HEADS, NORM, TURNED], 8),
    "copies": ([HEADS, NORM, (graph.Repeat, {"axis": 1, "count": 3})], 8),
    "all of a row": ([NORM], None),
    "a row of heads": ([HEADS, NORM, FLAT, NORM], None),
    "a slice of what would be cut": ([(graph.Slice, {"axis": 1, "start": 3, "size": 5})], None),
    "channels of heads, which lie apart": ([HEADS, (graph.ReduceSum, {"axis": 1})], None),
    "heads that a sum joins": (
        [HEADS, NORM, (graph.ReduceSum, {"axis": 1}), (graph.Exp, {})],
        None,
    ),
}


@pytest.mark.parametrize(("steps", "parts"), PARTS.values(), ids=PARTS)
def test_parts(steps, parts):
    found = chain(128, *steps)
    assert (found and found.parts) == parts


def test_every_value_holds_a_stretch_for_each_part():
    found = chain(128, HEADS, NORM, FLAT)
    cuts = {shape_of(value)[1:]: cut for value, cut in found.cuts.items()}
    assert cuts == {(128,): (1, 16), (8, 16): (1, 1)}


def test_scale_blocks_stay_whole():
    def body(x):
        plain = graph.create(graph.Dequantize, [x])
        return [plain], plain.results

    kind = graph.scaled_type([DYNAMIC, 64], f8e4m3, (16,))
    function = function_of([argument(kind, "T")], body)
    op, end = function.body.block.ops
    found = inner_axis(Phase("rows", "T", [op]), list(end.operands), row_spaces(function))
    assert found is None or found.parts <= 4


def test_queries_of_a_large_model_are_cut_by_heads():
    function = next(
        op
        for op in fused_of("pro", "deployed").ops
        if op.sym_name.data == "layers_csa_score_router"
    )
    spaces = row_spaces(function)
    unit = next(u for u in units_of(function, spaces) if u.kind == "query_norm_rope")
    (phase,) = unit.phases
    found = inner_axis(phase, stored_values(phase, unit), spaces)
    assert found.parts == 128
