"""Products in blocks of one size: each row has the bits it has alone, and about the usual value."""

import numpy as np
import pytest
from small_models import Array

from supertile.ir import graph
from supertile.runtime import graph_ops
from supertile.runtime.numerics import quantize, quantize_blocks
from supertile.runtime.row_invariant import FUNCTIONS, ROWS, einsum, grouped_linear, linear

COUNTS = (1, 2, 3, 7, 15, 16, 17, 31, 33, 40)
MOST = max(COUNTS)
SIZES = {"n": 4, "d": 64, "k": 6, "c": 64, "r": 16, "h": 4, "p": 24}


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def same_bits(a: Array, b: Array) -> bool:
    """And one number after the other in memory: what reads them adds by that."""
    flat = a.flags.c_contiguous and b.flags.c_contiguous
    return bool(flat and a.tobytes() == b.tobytes())


@pytest.mark.parametrize("inner, outer", [(64, 24), (24, 64), (32, 96), (1000, 257), (512, 16)])
def test_a_row_has_the_same_bits_among_any_others(inner, outer):
    x, w = numbers(MOST, inner), numbers(outer, inner, seed=1)
    whole = linear(x, w)
    assert np.allclose(whole, graph_ops.linear(x, w), rtol=1e-4, atol=1e-4)
    for count in COUNTS:
        assert same_bits(linear(x[:count], w), whole[:count])
        assert same_bits(linear(x[MOST - count :], w), whole[MOST - count :])


@pytest.mark.parametrize("element", ["f8e4m3", "i8"])
def test_rows_of_codes_too(element):
    x, w = numbers(MOST, 128), quantize_blocks(numbers(48, 128, seed=1), element, (32, 32))
    whole = linear(quantize(x, element, 32), w)
    usual = graph_ops.linear(quantize(x, element, 32), w)
    assert np.allclose(whole, usual, rtol=1e-4, atol=1e-4)
    for count in COUNTS:
        assert same_bits(linear(quantize(x[:count], element, 32), w), whole[:count])


def test_rows_of_experts_have_the_bits_of_one_expert_alone():
    x, w = numbers(MOST, 32), numbers(3, 24, 32, seed=1)
    counts = np.array([ROWS + 3, 0, MOST - ROWS - 3])
    found = grouped_linear(x, w, counts)
    assert same_bits(found[: ROWS + 3], linear(x[: ROWS + 3], w[0]))
    assert same_bits(found[ROWS + 3 :], linear(x[ROWS + 3 :], w[2]))


@pytest.mark.parametrize(
    "equation",
    ["tk,tk->t", "tn,tnd->td", "tkc,krc->tkr", "thp,hpr->thr", "tnk,tnd->tkd", "kt,k->t"],
)
def test_products_of_tokens(equation):
    terms = equation.split("->")[0].split(",")
    operands = [
        numbers(*(MOST if letter == "t" else SIZES[letter] for letter in term), seed=number)
        for number, term in enumerate(terms)
    ]
    whole = einsum(operands, None, equation)
    usual = graph_ops.einsum(operands, None, equation)
    assert np.allclose(whole, usual, rtol=1e-4, atol=1e-4)
    for count in COUNTS:
        few = [
            np.take(x, range(count), term.index("t")) if "t" in term else x
            for x, term in zip(operands, terms, strict=True)
        ]
        assert same_bits(einsum(few, None, equation), whole[:count])


def test_products_with_the_state_of_a_sequence():
    sequence = np.repeat([0, 1, 2], [9, 1, 4])
    q, keys = numbers(14, 4, 16), numbers(3, 11, 16, seed=1)
    whole = einsum([q, keys], sequence, "thc,bsc->ths")
    assert np.allclose(whole, graph_ops.einsum([q, keys], sequence, "thc,bsc->ths"), atol=1e-4)
    for rows in (slice(0, 1), slice(3, 9), slice(8, 11), slice(9, 14)):
        assert same_bits(einsum([q[rows], keys], sequence[rows], "thc,bsc->ths"), whole[rows])


@pytest.mark.parametrize("rounded", [None, "bf16"])
def test_attention_of_a_token_alone(rounded):
    """With more keys behind those that are seen, and another sequence beside."""
    attend = FUNCTIONS[graph.Attend]
    generator = np.random.default_rng(0)
    q, keys = numbers(12, 4, 16), numbers(2, 30, 16, seed=1)
    index = generator.integers(-1, 20, (12, 8)).astype(np.int32)
    count = generator.integers(0, 9, 12).astype(np.int32)
    sequence = np.repeat([0, 1], [7, 5])
    held = {"sink": numbers(4, seed=2), "scale": 0.25, "value_width": 16, "round": rounded}

    def attended(rows, size, **how):
        sources = [keys[:, :size], keys[:, :21]]
        return how["with_"](
            q[rows], sources, [], [index[rows], count[rows]], sequence=sequence[rows], **held
        )

    whole = attended(slice(0, 12), 30, with_=attend)
    usual = attended(slice(0, 12), 30, with_=graph_ops.FUNCTIONS[graph.Attend])
    assert np.allclose(whole, usual, rtol=1e-2 if rounded else 1e-4, atol=1e-4)
    for rows in (slice(0, 1), slice(2, 7), slice(6, 9), slice(11, 12)):
        assert same_bits(attended(rows, 20, with_=attend), whole[rows])


# ---- ops without products: row by row as they are ----------------------------------------------

ROW_BY_ROW = {
    "rms_norm": (lambda x: graph_ops.rms_norm(x, None, 1e-6), (64,)),
    "softmax": (graph_ops.softmax, (4, 33)),
    "silu": (graph_ops.silu, (33,)),
    "softplus": (graph_ops.softplus, (33,)),
    "sum of the last": (lambda x: graph_ops.reduce_sum(x, 1), (9,)),
    "sum of another": (lambda x: graph_ops.reduce_sum(x, 1), (16, 7)),
    "sinkhorn": (lambda x: graph_ops.sinkhorn(x, 20, 1e-6), (4, 4)),
}


@pytest.mark.parametrize("function, shape", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_other_ops_keep_the_bits_of_rows(function, shape):
    x = numbers(MOST, *shape)
    whole = np.ascontiguousarray(function(x))
    for count in COUNTS:
        assert same_bits(np.ascontiguousarray(function(x[:count])), whole[:count])
