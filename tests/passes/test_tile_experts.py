"""Kernels of dispatch and combine against the ops on whole tensors, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from kernel_of_op import (
    argument,
    blocks_backwards,
    function_of,
    kernel_of,
    kernels_of,
    sizes_of,
)
from xdsl.ir import Block, Region

from supertile.ir import graph
from supertile.ir.types import DYNAMIC, bf16, f8e4m3, f32, i32, i64, tensor
from supertile.runtime import graph_ops
from supertile.runtime.numerics import Scaled, quantize

quick = settings(max_examples=50, deadline=None)
EXPERTS = 5
tokens_and_choices = st.tuples(st.integers(1, 13), st.integers(1, 4), st.integers(0, 999))
tiles = st.builds(sizes_of, st.sampled_from([1, 2, 3, 64]), st.sampled_from([1, 2, 3, 64]))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def choices_of(tokens, choices, seed):
    """Different experts of each token; some experts are never chosen."""
    rng = np.random.default_rng(seed)
    liked = rng.permuted(np.tile(np.arange(EXPERTS), (tokens, 1)), axis=1)[:, :choices]
    return liked.astype(np.int32)


def arguments_of(x, choices, index=i32):
    return [
        argument(x, "T"),
        argument(tensor([DYNAMIC, choices], index), "T"),
        argument(tensor([DYNAMIC, choices], f32), "T"),
    ]


def parts(value):
    return (value.codes, value.scales) if isinstance(value, Scaled) else (value,)


def check(kernel, operands, expected):
    """The kernel gives these results, also when its blocks run in another order."""
    _equal(kernel.launch(operands), expected)
    with blocks_backwards():
        _equal(kernel.launch(operands), expected)


def _equal(found, expected):
    for got, wanted in zip(found, expected, strict=True):
        for one, other in zip(parts(got), parts(wanted), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


# ---- to the experts ----------------------------------------------------------------------------


def dispatch_kernel(x, choices, sizes, index=i32):
    arguments = arguments_of(x, choices, index)
    return kernel_of(graph.Dispatch, arguments, sizes, experts=EXPERTS)


@quick
@given(tokens_and_choices, tiles, st.sampled_from([(7,), (3, 4)]))
def test_rows_go_to_their_experts_in_order(case, sizes, channels):
    tokens, choices, seed = case
    kernel = dispatch_kernel(tensor([DYNAMIC, *channels], f32), choices, sizes)
    operands = [normal(tokens, *channels), choices_of(*case), normal(tokens, choices, seed=seed)]
    check(kernel, operands, graph_ops.dispatch(*operands, experts=EXPERTS))


@quick
@given(tokens_and_choices, tiles)
def test_scaled_rows_keep_their_scales(case, sizes):
    tokens, choices, seed = case
    kernel = dispatch_kernel(graph.scaled_type([DYNAMIC, 8], f8e4m3, (4,)), choices, sizes)
    x = quantize(normal(tokens, 8, seed=seed), "f8e4m3", 4)
    operands = [x, choices_of(*case), normal(tokens, choices)]
    check(kernel, operands, graph_ops.dispatch(*operands, experts=EXPERTS))


def test_choices_of_a_table_have_64_bits():
    kernel = dispatch_kernel(tensor([DYNAMIC, 2], f32), 2, sizes_of(2), i64)
    operands = [normal(5, 2), choices_of(5, 2, 0).astype(np.int64), normal(5, 2)]
    check(kernel, operands, graph_ops.dispatch(*operands, experts=EXPERTS))


def test_all_rows_of_one_expert():
    kernel = dispatch_kernel(tensor([DYNAMIC, 3], f32), 1, sizes_of(2))
    operands = [normal(7, 3), np.full((7, 1), 3, dtype=np.int32), normal(7, 1)]
    rows, _, counts, order = kernel.launch(operands)
    assert counts.tolist() == [0, 0, 0, 7, 0] and order.tolist() == list(range(7))
    np.testing.assert_array_equal(rows, operands[0])


# ---- and back ----------------------------------------------------------------------------------


def routed(x, chosen, weight, choices):
    """Rows to the experts and straight back."""
    there = graph.create(graph.Dispatch, [x, chosen, weight], experts=EXPERTS)
    back = graph.create(graph.Combine, [there.rows, there.order], choices=choices)
    return there, back


def combine_kernel(choices, sizes, channels, element=f32):
    def body(*values):
        ops = routed(*values, choices)
        return ops, ops[1].results

    arguments = arguments_of(tensor([DYNAMIC, *channels], element), choices)
    return kernels_of(function_of(arguments, body), sizes)[1]


@quick
@given(tokens_and_choices, tiles, st.sampled_from([(7,), (3, 4)]))
def test_rows_of_a_token_are_added_by_ascending_expert(case, sizes, channels):
    tokens, choices, seed = case
    order = np.argsort(choices_of(*case).ravel(), kind="stable").astype(np.int32)
    rows = 1e4 * normal(tokens * choices, *channels, seed=seed)  # so that order shows in the sum
    expected = [graph_ops.combine(rows.copy(), order, choices)]
    check(combine_kernel(choices, sizes, channels), [rows, order], expected)


@pytest.mark.parametrize("choices", [1, 2])
def test_rows_in_bf16_are_added_in_float32(choices):
    rows = normal(6, 4)
    kernel = combine_kernel(choices, sizes_of(2), (4,), bf16)
    order = np.arange(6, dtype=np.int32)
    check(kernel, [rows, order], [graph_ops.combine(rows.copy(), order, choices)])


def test_rows_within_a_group_need_no_result():
    """What goes from dispatch to combine in one kernel is scratch; row weights are not stored."""

    def body(*values):
        inner = Block()
        there, back = routed(*values, 2)
        inner.add_ops([there, back, graph.Yield.create(operands=[back.result])])
        fused = graph.Fused.create(
            properties={"kind": graph.attribute_of("experts")},
            regions=[Region([inner])],
            result_types=[back.result.type],
        )
        return [fused], fused.results

    arguments = arguments_of(tensor([DYNAMIC, 6], f32), 2)
    (kernel,) = kernels_of(function_of(arguments, body), sizes_of(3, 4))
    x = normal(7, 6)
    check(kernel, [x, choices_of(7, 2, 1), normal(7, 2)], [x + x])
