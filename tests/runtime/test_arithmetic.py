"""Ops in exact arithmetic: a row has the bits it has alone, in every place and in every chunk.

The product of a library is replaced by one that adds in another order for each row of a call, so
that every machine finds what only some libraries do.
"""

import numpy as np
import pytest
from shifting_product import shifting_product
from small_models import Array

from supertile.ir import graph
from supertile.runtime import exact_sums, graph_ops
from supertile.runtime.graph_ops import ADDING, EXACT_FUNCTIONS, FUNCTIONS
from supertile.runtime.numerics import quantize, quantize_blocks

COUNTS = (1, 2, 3, 7, 15, 16, 17, 31, 33, 40)
MOST = max(COUNTS)
SIZES = {"n": 4, "d": 64, "k": 6, "c": 64, "r": 16, "h": 4, "p": 24, "i": 4, "j": 4}
linear, grouped_linear, einsum, attend, pool_windows = (
    EXACT_FUNCTIONS[kind]
    for kind in (graph.Linear, graph.GroupedLinear, graph.Einsum, graph.Attend, graph.PoolWindows)
)


@pytest.fixture(autouse=True, params=["BLAS", "an order for each row"])
def product(request, monkeypatch):
    if request.param != "BLAS":
        monkeypatch.setattr(exact_sums, "multiply", shifting_product)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


SHAPES = [(64, 24), (24, 64), (512, 16), (16, 16), (8, 8), (24, 32), (32, 24), (128, 16)]
"""Of matrices for which some kernels of BLAS give a row other bits in another place of a block."""


@pytest.mark.parametrize("inner, outer", SHAPES)
def test_a_row_has_the_same_bits_in_every_place(inner, outer):
    x, w = numbers(MOST, inner), numbers(outer, inner, seed=1)
    whole = linear(x, w)
    assert np.allclose(whole, graph_ops.linear(x, w), rtol=1e-4, atol=1e-4)
    for count in COUNTS:
        assert same_bits(linear(x[:count], w), whole[:count])
        assert same_bits(linear(x[MOST - count :], w), whole[MOST - count :])
    assert np.unique(linear(x[:1].repeat(MOST, axis=0), w), axis=0).tolist() == [whole[0].tolist()]


@pytest.mark.parametrize("element", ["f8e4m3", "f4e2m1", "i8"])
def test_rows_of_codes_too(element):
    x, w = numbers(MOST, 128), quantize_blocks(numbers(48, 128, seed=1), element, (32, 32))
    whole = linear(quantize(x, element, 32), w)
    usual = graph_ops.linear(quantize(x, element, 32), w)
    assert np.allclose(whole, usual, rtol=1e-4, atol=1e-4)
    for count in COUNTS:
        assert same_bits(linear(quantize(x[:count], element, 32), w), whole[:count])
        assert same_bits(linear(quantize(x[MOST - count :], element, 32), w), whole[MOST - count :])


def test_rows_of_experts_have_the_bits_of_one_expert_alone():
    x, w = numbers(MOST, 32), numbers(3, 24, 32, seed=1)
    result = grouped_linear(x, w, np.array([19, 0, MOST - 19]))
    assert same_bits(result[:19], linear(x[:19], w[0]))
    assert same_bits(result[19:], linear(x[19:], w[2]))


@pytest.mark.parametrize(
    "equation",
    [
        *("tk,tk->t", "tn,tnd->td", "tkc,krc->tkr", "thp,hpr->thr", "tnk,tnd->tkd", "kt,k->t"),
        *("tij,tid->tjd", "tn,nd,dk->tk", "tkc->tk", "tii->ti"),
    ],
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
    more = np.concatenate([keys, numbers(3, 5, 16, seed=2)], axis=1)
    assert same_bits(einsum([q, more], sequence, "thc,bsc->ths")[..., :11].copy(), whole)


@pytest.mark.parametrize("rounded", [None, "bf16"])
def test_attention_of_a_token_sees_its_own_keys_alone(rounded):
    """With more keys behind those that are seen, other numbers where none is seen, and another
    sequence beside."""
    generator = np.random.default_rng(0)
    q, keys = numbers(12, 4, 16), numbers(2, 30, 16, seed=1)
    index = generator.integers(-1, 20, (12, 8)).astype(np.int32)
    count = generator.integers(0, 9, 12).astype(np.int32)
    sequence = np.repeat([0, 1], [7, 5])
    options = {"sink": numbers(4, seed=2), "scale": 0.25, "value_width": 16, "round": rounded}

    def attended(function, rows, keys, size):
        sources, lists = [keys[:, :size], keys[:, :21]], [index[rows], count[rows]]
        return function(q[rows], sources, [], lists, sequence=sequence[rows], **options)

    whole = attended(attend, slice(0, 12), keys, 30)
    usual = attended(FUNCTIONS[graph.Attend], slice(0, 12), keys, 30)
    assert np.allclose(whole, usual, rtol=1e-2 if rounded else 1e-4, atol=1e-4)
    for rows in (slice(0, 1), slice(2, 7), slice(6, 9), slice(11, 12)):
        assert same_bits(attended(attend, rows, keys, 20), whole[rows])
        seen = np.unique(np.concatenate([index[rows].ravel(), np.arange(count[rows].max())]))
        hidden = np.delete(np.arange(30), seen[seen >= 0])
        other = keys.copy()
        other[:, hidden] *= 1e6
        assert same_bits(attended(attend, rows, other, 20), whole[rows])


def test_windows_have_the_bits_of_any_chunks():
    ratio, overlap, total = 4, 1, 22
    values, scores = numbers(total, 12), numbers(total, 12, seed=1)
    bias = numbers(ratio, 12, seed=2)

    def pooled(*sizes):
        state, parts, start = np.zeros((1, 2 * ratio, 2, 12), np.float32), [], 0
        for size in sizes:
            rows = slice(start, start + size)
            place = np.zeros(size, np.int64), np.arange(start, start + size), np.array([start])
            part, state = pool_windows(
                state, values[rows], scores[rows], bias, *place, ratio=ratio, overlap=overlap
            )
            parts.append(part)
            start += size
        return np.concatenate(parts)

    whole = pooled(total)
    assert len(whole) == total // ratio
    for sizes in ((1,) * total, (3, 9, 2, 8), (21, 1)):
        assert same_bits(pooled(*sizes), whole)


# ---- ops without products ----------------------------------------------------------------------

SCALING = dict.fromkeys(("factor", "beta_fast", "beta_slow", "low_frequency"), 1.0)
SCALING |= {"scaling": "default", "original": 4096.0, "high_frequency": 4.0}
ROPE = {"pairs": "halves", "dims": 16, "theta": 1e4, "magnitude": 1.0, **SCALING}
ROW_BY_ROW = {
    "rms_norm": (graph.RmsNorm, (64,), {"gain": None, "eps": 1e-6}),
    "softmax": (graph.Softmax, (4, 33), {}),
    "exp": (graph.Exp, (33,), {}),
    "sigmoid": (graph.Sigmoid, (33,), {}),
    "silu": (graph.Silu, (33,), {}),
    "gelu": (graph.Gelu, (33,), {}),
    "tanh": (graph.Tanh, (33,), {}),
    "softplus": (graph.Softplus, (33,), {}),
    "sum of the last": (graph.ReduceSum, (9,), {"axis": 1}),
    "sum of another": (graph.ReduceSum, (16, 7), {"axis": 1}),
    "sinkhorn": (graph.Sinkhorn, (4, 4), {"iterations": 20, "eps": 1e-6}),
    "sinkhorn of many": (graph.Sinkhorn, (9, 9), {"iterations": 20, "eps": 1e-6}),
}


@pytest.mark.parametrize("kind, shape, options", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_other_ops_keep_the_bits_of_rows(kind, shape, options):
    """Alone, among others, and however the numbers lie in memory."""
    x = numbers(MOST, *shape)
    before, whole = x.copy(), EXACT_FUNCTIONS[kind](x, **options)
    assert np.allclose(whole, FUNCTIONS[kind](x, **options), rtol=1e-5, atol=1e-6)
    assert same_bits(EXACT_FUNCTIONS[kind](np.asfortranarray(x), **options), whole)
    for count in COUNTS:
        assert same_bits(EXACT_FUNCTIONS[kind](x[:count], **options), whole[:count])
    assert same_bits(x, before)


def test_rotations_do_too():
    x, position = numbers(MOST, 3, 24), np.arange(MOST) * 1000
    whole = EXACT_FUNCTIONS[graph.Rope](x, position, rope=ROPE)
    assert np.allclose(whole, FUNCTIONS[graph.Rope](x, position, rope=ROPE), atol=1e-6)
    for count in COUNTS:
        few = EXACT_FUNCTIONS[graph.Rope](x[:count], position[:count], rope=ROPE)
        assert same_bits(few, whole[:count])


def test_every_op_is_known_as_adding_or_not():
    """An op whose function multiplies matrices, adds along an axis or takes an elementary function
    has an arithmetic; its table entry passes one."""
    import inspect

    takes = {
        kind
        for kind, function in FUNCTIONS.items()
        if not isinstance(function, np.ufunc)
        and "arithmetic" in inspect.signature(function).parameters
    }
    assert takes == set(ADDING)
    assert set(EXACT_FUNCTIONS) == set(FUNCTIONS)
