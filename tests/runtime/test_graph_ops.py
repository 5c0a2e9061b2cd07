"""Each op against a loop that follows its docstring; the table against the list of ops."""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from supertile.ir import graph
from supertile.runtime import graph_ops as ops, numerics
from supertile.runtime.numerics import F32, Scaled

Array = npt.NDArray[Any]


def normal(*shape: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def floats(*values: float) -> F32:
    return np.array(values, dtype=np.float32)


def test_the_table_has_every_op_that_computes_in_the_order_of_the_dialect() -> None:
    structure = (
        graph.Constant,
        graph.Weight,
        graph.Layers,
        graph.Fused,
        graph.Yield,
    )
    assert list(ops.FUNCTIONS) == [op for op in graph.OPS if op not in structure]


# ---- moving data ---------------------------------------------------------------------------------


def test_cast_makes_floats() -> None:
    x = normal(3)
    assert ops.cast(x) is x
    assert ops.cast(np.array([1, 2])).dtype == np.float32
    assert ops.cast(np.array([True, False])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("before", "shape", "after"),
    [
        ((6, 4), (2, 12), (2, 12)),
        ((6, 4), (-1, 2, 2), (6, 2, 2)),
        ((6, 5, 8), (-1, -1, 4, 2), (6, 5, 4, 2)),
        ((0, 8), (-1, 4, 2), (0, 4, 2)),
        ((0, 5, 8), (-1, -1, 2, 4), (0, 5, 2, 4)),
    ],
)
def test_reshape_fills_in_run_time_sizes(
    before: tuple[int, ...], shape: tuple[int, ...], after: tuple[int, ...]
) -> None:
    x = np.arange(prod(before)).reshape(before)
    got = ops.reshape(x, shape=shape)
    assert got.shape == after and np.array_equal(got.ravel(), x.ravel())


def test_transpose_slice_concat_repeat() -> None:
    x = normal(2, 3, 4)
    assert ops.transpose(x, permutation=(2, 0, 1))[3, 1, 2] == x[1, 2, 3]
    assert np.array_equal(ops.slice_(x, axis=2, start=1, size=2), x[:, :, 1:3])
    assert np.array_equal(ops.concat([x[:, :1], x[:, 1:]], axis=1), x)
    copies = ops.repeat(x, axis=1, count=5)
    assert copies.shape == (2, 5, 3, 4) and all(np.array_equal(copies[:, n], x) for n in range(5))


def test_gather_and_take_choose_and_refuse_negative_indices() -> None:
    table, ids = normal(5, 3), np.array([4, 0, 4])
    assert np.array_equal(ops.gather(table, ids), [table[4], table[0], table[4]])
    assert ops.take(floats(5, 6, 7)[None], np.array([[2, 0]])).tolist() == [[7, 5]]
    assert ops.gather(table, np.zeros(0, dtype=np.int32)).shape == (0, 3)
    for index in (-1, 5):
        with pytest.raises(IndexError):
            ops.gather(table, np.array([index]))
        with pytest.raises(IndexError):
            ops.take(table, np.full((5, 1), index))


def test_member_marks_what_was_chosen_and_ignores_padding() -> None:
    got = ops.member(np.array([[2, 0], [-1, 1]]), size=3)
    assert got.tolist() == [[True, False, True], [False, True, False]]


def test_select_broadcasts() -> None:
    got = ops.select(np.array([True, False]), normal(3, 2), floats(0))
    assert not got[:, 1].any() and got[:, 0].all() and got.dtype == np.float32


# ---- elementwise, reductions ---------------------------------------------------------------------

EQUATIONS = {
    ops.rsqrt: lambda x: np.abs(x) ** -0.5,
    ops.sigmoid: lambda x: 1 / (1 + np.exp(-x)),
    ops.softplus: lambda x: np.log(1 + np.exp(x)),
    ops.silu: lambda x: x / (1 + np.exp(-x)),
    ops.relu: lambda x: np.maximum(x, 0),
}


@pytest.mark.parametrize("function", EQUATIONS, ids=lambda f: f.__name__)
def test_elementwise_equations(function: Any) -> None:
    x = 3 * normal(50)
    got = function(np.abs(x) if function is ops.rsqrt else x)
    np.testing.assert_allclose(got, EQUATIONS[function](x.astype(np.float64)), rtol=2e-6, atol=1e-7)
    assert got.dtype == np.float32


def test_extreme_inputs_give_limits_without_warnings() -> None:
    x = floats(-1000, 1000)
    with np.errstate(all="raise", under="ignore"):
        assert ops.sigmoid(x).tolist() == [0, 1]
        assert ops.softplus(x).tolist() == [0, 1000]
        assert ops.silu(x).tolist() == [0, 1000]
        assert ops.softmax(x).tolist() == [0, 1]
        assert ops.softmax(floats(-np.inf, 3)).tolist() == [0, 1]


def test_reductions_drop_their_axis() -> None:
    x = normal(2, 3, 4)
    np.testing.assert_allclose(ops.reduce_sum(x, axis=1), x[:, 0] + x[:, 1] + x[:, 2], rtol=1e-5)
    assert np.array_equal(ops.reduce_max(x, axis=0), np.maximum(x[0], x[1]))


# ---- products ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(1,), (5,), (40,), (2, 3), (0,)])
def test_linear_sums_over_input_channels(lead: tuple[int, ...]) -> None:
    x, w = normal(*lead, 6), normal(4, 6, seed=1)
    expected = np.einsum("...k,nk->...n", x, w)
    np.testing.assert_allclose(ops.linear(x, w), expected, rtol=1e-5, atol=1e-6)


def test_linear_of_scaled_operands() -> None:
    x, w = normal(2, 3, 256), normal(8, 256, seed=1)
    codes, weight = numerics.quantize(x, "f8e4m3", 128), numerics.quantize_blocks(w, "f8e4m3")
    expected = codes.dequantize() @ weight.dequantize().T
    np.testing.assert_allclose(ops.linear(codes, weight), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        ops.linear(x, weight), x @ weight.dequantize().T, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(ops.linear(codes, w), codes.dequantize() @ w.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["array", "list", "scaled"])
def test_grouped_linear_gives_each_row_its_expert(kind: str) -> None:
    counts = np.array([2, 0, 1, 3])
    x, w = normal(6, 64), normal(4, 5, 64, seed=1)
    if kind == "scaled":
        rows: F32 | Scaled = numerics.quantize(x, "f8e4m3", 32)
        held: Any = [numerics.quantize_blocks(expert, "f4e2m1", (1, 32)) for expert in w]
    else:
        rows, held = x, w if kind == "array" else list(w)
    got = ops.grouped_linear(rows, held, counts)
    for row, expert in enumerate(np.repeat(np.arange(4), counts)):
        expected = ops.plain(held[expert]) @ ops.plain(rows)[row]
        np.testing.assert_allclose(got[row], expected, rtol=1e-4, atol=1e-4)


def test_grouped_linear_of_no_rows() -> None:
    got = ops.grouped_linear(normal(0, 3), normal(2, 4, 3), np.array([0, 0]))
    assert got.shape == (0, 4)


@pytest.mark.parametrize(
    "equation",
    ["tgc,grc->tgr", "thn,hnr->thr", "tn,tnd->td", "tij,tid->tjd", "ti,tj->tij", "tc,c->t",
     "tc,nc->tn", "tc,nc->nt", "tij->tj", "tc,tc,tc->t", "tii->ti", "tij,tk->tk"],
)  # fmt: skip
def test_einsum_is_the_sum_over_letters(equation: str) -> None:
    sizes = {"t": 5, "g": 2, "c": 3, "r": 4, "h": 2, "n": 6, "d": 3, "i": 4, "j": 4, "k": 2}
    terms = equation.split("->")[0].split(",")
    inputs = [normal(*(sizes[x] for x in term), seed=i) for i, term in enumerate(terms)]
    got = ops.einsum(inputs, None, equation=equation)
    expected = np.einsum(equation, *(x.astype(np.float64) for x in inputs))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert got.dtype == np.float32


@pytest.mark.parametrize("sequence", [[0, 0, 0], [0, 1, 2], [1, 2], [0, 2], [0, 0, 2, 2, 2], []])
@pytest.mark.parametrize("equation", ["thc,bsc->ths", "thc,bsc->hts", "thc,bshc->ths", "th,bh->th"])
def test_letter_b_of_an_operand_is_the_sequence_of_the_token(
    sequence: list[int], equation: str
) -> None:
    sizes = {"t": len(sequence), "b": 3, "h": 2, "c": 4, "s": 5}
    terms, result = equation.split("->")
    x, y = (normal(*(sizes[letter] for letter in term)) for term in terms.split(","))
    got = ops.einsum([x, y], np.array(sequence, dtype=np.int32), equation=equation)
    copied = np.einsum(equation.replace("b", "t"), x, y[sequence])
    assert got.shape == tuple(sizes[letter] for letter in result)
    np.testing.assert_allclose(got, copied, rtol=1e-5, atol=1e-5)


def test_einsum_reads_scaled_operands() -> None:
    x, w = normal(3, 32), numerics.quantize(normal(4, 32, seed=1), "f4e2m1", 32)
    expected = x @ w.dequantize().T
    np.testing.assert_allclose(
        ops.einsum([x, w], None, "tc,nc->tn"), expected, rtol=1e-5, atol=1e-5
    )


# ---- normalisation, formats ----------------------------------------------------------------------


def test_rms_norm_has_mean_square_one_times_the_gain() -> None:
    x, gain = 7 * normal(2, 3, 16), normal(16, seed=1)
    plain = ops.rms_norm(x, None, eps=0.0)
    np.testing.assert_allclose((plain**2).mean(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(ops.rms_norm(x, gain, eps=0.0), plain * gain, rtol=1e-6)
    assert ops.rms_norm(np.zeros((1, 4), np.float32), None, eps=1e-6).tolist() == [[0] * 4]


def test_formats_are_those_of_numerics() -> None:
    x = normal(2, 64)
    codes = ops.FUNCTIONS[graph.Quantize](x, element="f8e4m3", group=32)
    assert np.array_equal(ops.dequantize(codes), numerics.round_trip(x, "f8e4m3", 32))
    assert ops.FUNCTIONS[graph.Hadamard](x).shape == x.shape


@pytest.mark.parametrize("lead", [(1,), (5,), (2, 3), (0,)])
def test_sinkhorn_follows_the_released_order(lead: tuple[int, ...]) -> None:
    x, eps = normal(*lead, 4, 4), 1e-6
    a = np.exp(x.astype(np.float64))
    a = a / a.sum(-1, keepdims=True) + eps
    a = a / (a.sum(-2, keepdims=True) + eps)
    for _ in range(19):
        a = a / (a.sum(-1, keepdims=True) + eps)
        a = a / (a.sum(-2, keepdims=True) + eps)
    got = ops.sinkhorn(x, iterations=20, eps=eps)
    np.testing.assert_allclose(got, a, rtol=1e-4)
    np.testing.assert_allclose(got.sum(-2), 1, atol=1e-5)
    np.testing.assert_allclose(got.sum(-1), 1, atol=1e-3)


# ---- choosing ------------------------------------------------------------------------------------


def best(scores: F32, count: int, k: int) -> list[int]:
    """By the rule: larger first, then the smaller index; -1 pads."""
    order = sorted(range(count), key=lambda i: (-scores[i], i))
    return [*order[:k], *[-1] * (k - len(order))]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_top_k_is_a_stable_sort_of_the_visible_scores(
    rows: int, size: int, k: int, counted: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (rows, size)).astype(np.float32)  # many ties, also zeros
    scores[rng.random((rows, size)) < 0.1] = -np.inf
    count = rng.integers(0, size + 1, rows) if counted else None
    got = ops.top_k(scores, count, k=k)
    limits = count if count is not None else [size] * rows
    assert got.tolist() == [best(row, n, k) for row, n in zip(scores, limits, strict=True)]
    assert got.dtype == np.int32 and got.shape == (rows, k)


@pytest.mark.parametrize("k", [1, 7, 64])
def test_top_k_of_long_rows_keeps_the_rule(k: int) -> None:
    rng = np.random.default_rng(0)
    scores = np.maximum(rng.integers(-9, 3, (20, 900)), 0).astype(np.float32)  # ties at the border
    scores[:10] += rng.standard_normal((10, 900), dtype=np.float32)
    count = rng.integers(0, 901, 20)
    expected = [best(row, n, k) for row, n in zip(scores, count, strict=True)]
    assert ops.top_k(scores, count, k=k).tolist() == expected


def test_top_k_takes_more_axes_and_puts_nan_last() -> None:
    scores = floats(np.nan, 1, 2, 3, np.nan, 5).reshape(1, 2, 3)
    assert ops.top_k(scores, None, k=3).tolist() == [[[2, 1, 0], [2, 0, 1]]]
    assert ops.top_k(scores, np.array([2]), k=2).tolist() == [[[1, 0], [0, 1]]]


# ---- experts -------------------------------------------------------------------------------------


def test_dispatch_sorts_rows_by_expert_and_keeps_the_order_of_tokens() -> None:
    x, weight = floats(10, 20, 30)[:, None], np.arange(6, dtype=np.float32).reshape(3, 2)
    chosen = np.array([[2, 0], [0, 3], [2, 3]])
    rows, row_weight, counts, order = ops.dispatch(x, chosen, weight, experts=5)
    assert rows[:, 0].tolist() == [10, 20, 10, 30, 20, 30]
    assert row_weight.tolist() == [1, 2, 0, 4, 3, 5] == order.tolist()
    assert counts.tolist() == [2, 0, 2, 2, 0]
    assert counts.dtype == order.dtype == np.int32


def test_dispatch_of_scaled_rows_keeps_their_scales() -> None:
    x = numerics.quantize(normal(3, 64), "f8e4m3", 32)
    chosen = np.array([[1, 0], [0, 1], [1, 0]])
    rows, *_, order = ops.dispatch(x, chosen, normal(3, 2), experts=2)
    assert np.array_equal(ops.plain(rows), x.dequantize()[order // 2])


def test_dispatch_refuses_an_expert_that_is_not_there() -> None:
    for expert in (-1, 4):
        with pytest.raises((IndexError, ValueError)):
            ops.dispatch(normal(1, 2), np.array([[0, expert]]), normal(1, 2), experts=4)


@pytest.mark.parametrize(("tokens", "choices"), [(7, 3), (1, 1), (0, 2)])
def test_combine_adds_in_ascending_expert_order(tokens: int, choices: int) -> None:
    rng = np.random.default_rng(0)
    chosen = np.argsort(rng.random((tokens, 6)), axis=1)[:, :choices]
    x, weight = normal(tokens, 4), normal(tokens, choices)
    _, _, _, order = ops.dispatch(x, chosen, weight, experts=6)
    rows = 1e3 * normal(tokens * choices, 4, seed=1)  # sums that depend on their order
    expected = np.zeros((tokens, 4), dtype=np.float32)
    for row, source in zip(rows, order, strict=True):
        expected[source // choices] += row
    assert np.array_equal(ops.combine(rows, order, choices=choices), expected)
