"""The executor is the definition: the NumPy function of every graph op.

A function takes the operands in the order of their definitions (a variadic group as a list, an
absent operand as None) and the properties by name. Floats are float32 arrays, also where the type
is narrower: rounding results to their type is the executor's. Block-scaled tensors are
`numerics.Scaled`. No function modifies its operands but `append` and `pool_windows`, which update
the state that they return. A result may share memory with an operand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import Operation

from supertile.ir import graph
from supertile.ir.tables import Table
from supertile.runtime import numerics, sequence_ops
from supertile.runtime.arithmetic import EXACT, LIBRARY, Arithmetic
from supertile.runtime.numerics import F32, Scaled
from supertile.runtime.rope import rope
from supertile.runtime.sequence_ops import I32, Index, Mask, tiles

Array = npt.NDArray[Any]
Weights = Sequence[F32 | Scaled] | F32


def plain(x: Array | Scaled) -> Array:
    """The numbers of a tensor, scaled or not."""
    return x.dequantize() if isinstance(x, Scaled) else x


def take_rows(x: Any, rows: slice | Index) -> Any:
    """Some rows of a tensor whose scales, if any, belong to single rows."""
    if not isinstance(x, Scaled):
        return x[rows]
    if len(x.block) == len(x.shape) and x.block[0] != 1:
        raise ValueError(f"rows of blocks of {x.block} cannot be taken apart")
    return replace(x, codes=x.codes[rows], scales=x.scales[rows])


def copied(x: Any) -> Any:
    """A tensor of its own; what is no array is one anyway."""
    if isinstance(x, Scaled):
        return replace(x, codes=x.codes.copy(), scales=x.scales.copy())
    return x.copy() if isinstance(x, np.ndarray) else x


# ---- moving data -------------------------------------------------------------------------------


def cast(x: Array) -> F32:
    """Floats stay: the executor rounds. Integers and masks become floats."""
    return x.astype(np.float32, copy=False)


def reshape(x: Array | Scaled, shape: tuple[int, ...]) -> Array:
    """Dynamic sizes, the -1 of `shape`, lead both shapes; all but the last are those of x."""
    array = plain(x)
    unknown = [i for i, size in enumerate(shape) if size == -1]
    sizes = list(shape)
    # NumPy infers one size, and that only of arrays with elements.
    known = unknown[:-1] if array.size or len(unknown) == 1 else unknown
    for i, size in zip(known, array.shape, strict=False):
        sizes[i] = size
    return array.reshape(sizes)


def transpose(x: Array, permutation: tuple[int, ...]) -> Array:
    return x.transpose(permutation)


def slice_(x: Array, axis: int, start: int, size: int) -> Array:
    return x[(slice(None),) * axis + (slice(start, start + size),)]


def split(x: Array | Scaled, axis: int, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Views of x; scaled weights that the executor holds as plain numbers come as these."""
    ends = np.cumsum(sizes)
    return tuple(np.split(plain(x), ends[:-1], axis=axis))


def clamp(x: F32, low: float, high: float) -> F32:
    """NaN stays NaN."""
    return np.maximum(np.minimum(x, np.float32(high)), np.float32(low))


def concat(parts: list[Array], axis: int) -> Array:
    return np.concatenate(parts, axis=axis)


def repeat(x: Array, axis: int, count: int) -> Array:
    expanded = np.expand_dims(x, axis)
    shape = (*expanded.shape[:axis], count, *expanded.shape[axis + 1 :])
    return np.broadcast_to(expanded, shape)


def gather(table: Array, ids: Index) -> Array:
    _refuse_negative(ids)
    return table[ids]


def take(x: Array, chosen: Index) -> Array:
    _refuse_negative(chosen)
    return np.take_along_axis(x, chosen, axis=-1)


def _refuse_negative(index: Index) -> None:
    """NumPy counts negative indices from the end; here they are errors."""
    if index.size and index.min() < 0:
        raise IndexError(f"index {index.min()} is negative")


def member(chosen: Index, size: int) -> Mask:
    """Entries of -1 choose nothing."""
    mask = np.zeros((*chosen.shape[:-1], size + 1), dtype=np.bool_)
    np.put_along_axis(mask, chosen, True, axis=-1)  # -1 falls on the last item, which is dropped
    return mask[..., :size]


def select(mask: Mask, a: Array, b: Array) -> Array:
    return np.where(mask, a, b)


# ---- elementwise -------------------------------------------------------------------------------


def rsqrt(x: F32) -> F32:
    return np.reciprocal(np.sqrt(x))


def exp(x: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    return arithmetic.exp(np.copy(x))


def sigmoid(x: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    small = arithmetic.exp(-np.abs(x))  # never overflows
    result: F32 = np.divide(np.where(x >= 0, np.float32(1), small), np.float32(1) + small)
    return result


def softplus(x: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    return relu(x) + arithmetic.log1p(arithmetic.exp(-np.abs(x)))


def silu(x: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    return x * sigmoid(x, arithmetic)


def relu(x: F32) -> F32:
    return np.maximum(x, np.float32(0))


def gelu(x: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    return np.float32(0.5) * x * (np.float32(1) + arithmetic.erf(x * np.float32(math.sqrt(0.5))))


def tanh(x: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    return arithmetic.tanh(x)


# ---- reductions and products -------------------------------------------------------------------


def reduce_sum(x: F32, axis: int, arithmetic: Arithmetic = LIBRARY) -> F32:
    return arithmetic.total(x, axis)


def reduce_max(x: F32, axis: int) -> F32:
    top: F32 = x.max(axis=axis)
    return top


def softmax(x: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    with np.errstate(invalid="ignore"):  # of a row of -inf only: NaN, as the equation says
        weight = arithmetic.exp(x - x.max(axis=-1, keepdims=True))
    weight /= arithmetic.total(weight, -1)[..., None]
    return weight


def linear(x: F32 | Scaled, w: F32 | Scaled, arithmetic: Arithmetic = LIBRARY) -> F32:
    """[.., K] and [N, K] -> [.., N]."""
    lead, width = x.shape[:-1], x.shape[-1]
    if isinstance(x, Scaled) and isinstance(w, Scaled):
        product = numerics.scaled_product(matrix_of(x), w, arithmetic.product)
    else:
        product = arithmetic.linear(plain(x).reshape(-1, width), plain(w))
    return product.reshape(*lead, w.shape[0])


def matrix_of(x: Scaled) -> Scaled:
    """[.., K] with scales for each row -> [M, K]."""
    codes = x.codes.reshape(-1, x.codes.shape[-1])
    scales = x.scales.reshape(-1, x.scales.shape[-1])
    return replace(x, codes=codes, scales=scales, block=(1, x.block[-1]))


def grouped_linear(
    x: F32 | Scaled, w: Weights, counts: Index, arithmetic: Arithmetic = LIBRARY
) -> F32:
    """x [R, K], w [E, N, K] -> [R, N]; experts without rows are not looked at."""
    result = np.empty((x.shape[0], w[0].shape[0]), dtype=np.float32)
    stop = 0
    for expert in np.flatnonzero(counts).tolist():
        start, stop = stop, stop + int(counts[expert])
        result[start:stop] = linear(take_rows(x, slice(start, stop)), w[expert], arithmetic)
    return result


def einsum(
    inputs: list[F32 | Scaled],
    sequence: Index | None,
    equation: str,
    arithmetic: Arithmetic = LIBRARY,
) -> F32:
    """Letter t is the token. An operand with letter b is taken once for each run of a sequence.

    Where every token is of another sequence, as in decoding, b is t: one product for all.
    """
    operands = [plain(x) for x in inputs]
    left, result = equation.split("->")
    terms = left.split(",")
    if "b" not in left:
        return contract(operands, terms, result, arithmetic)
    assert sequence is not None, f"{equation} needs the sequence of each token"
    pieces = []
    for tokens, sequences in tiles(sequence, max(len(sequence), 1)) or [(slice(0, 0), slice(0, 0))]:
        one = sequences.stop - sequences.start == 1
        at = {"b": sequences.start if one else sequences, "t": tokens}
        parts = [part_of(x, term, at) for x, term in zip(operands, terms, strict=True)]
        bare = [t.replace("b", "" if one else "t") for t in terms]
        pieces.append(contract(parts, bare, result, arithmetic))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=result.index("t"))


def part_of(x: Array, term: str, at: dict[str, Any]) -> Array:
    """x with an index for some of its letters."""
    part: Array = x[tuple(at.get(letter, slice(None)) for letter in term)]
    return part


def contract(
    operands: list[Array], terms: list[str], result: str, arithmetic: Arithmetic = LIBRARY
) -> F32:
    """Two operands as one batch of matrix products where possible: np.einsum is slow."""
    if not arithmetic.order_matters:
        return _contract_in_turn(operands, terms, result, arithmetic)
    alone = len(terms) == 2 and set(terms[0]) ^ set(terms[1]) <= set(result)
    if alone and all(len(set(term)) == len(term) for term in terms):
        return _matrix_products(operands, terms, result, arithmetic)
    summed: F32 = np.einsum(f"{','.join(terms)}->{result}", *operands, optimize=True)
    return summed


def _contract_in_turn(
    operands: list[Array], terms: list[str], result: str, arithmetic: Arithmetic
) -> F32:
    """From left to right: letters are summed over as soon as nothing behind them has these."""
    left, term = _summed(operands[0], terms[0], set(result).union(*terms[1:]), arithmetic)
    for number in range(1, len(terms)):
        later = set(result).union(*terms[number + 1 :])
        right, other = _summed(operands[number], terms[number], later | set(term), arithmetic)
        letters = "".join(dict.fromkeys(letter for letter in term + other if letter in later))
        left = _matrix_products([left, right], [term, other], letters, arithmetic)
        term = letters
    return left.transpose([term.index(letter) for letter in result])


def _summed(x: Array, term: str, needed: set[str], arithmetic: Arithmetic) -> tuple[Array, str]:
    """x summed over the letters that nothing else needs; of repeated letters the diagonal."""
    letters = "".join(dict.fromkeys(term))
    x = np.einsum(f"{term}->{letters}", x)  # a view: nothing is added
    for letter in [letter for letter in letters if letter not in needed]:
        x, letters = arithmetic.total(x, letters.index(letter)), letters.replace(letter, "")
    return x, letters


def _matrix_products(
    operands: list[Array], terms: list[str], result: str, arithmetic: Arithmetic
) -> F32:
    x, y = terms
    batch = [letter for letter in result if letter in x and letter in y]
    rows = [letter for letter in x if letter not in y]
    columns = [letter for letter in y if letter not in x]
    inner = [letter for letter in x if letter in y and letter not in result]
    sizes = dict(zip(x + y, operands[0].shape + operands[1].shape, strict=True))

    def stack(which: int, *axes: list[str]) -> Array:
        """The operand with these groups of letters as its last axes, the batch before them."""
        order = [terms[which].index(letter) for group in (batch, *axes) for letter in group]
        merged = [prod(sizes[letter] for letter in group) for group in axes]
        lead = [sizes[letter] for letter in batch]
        return operands[which].transpose(order).reshape(*lead, *merged)

    product = arithmetic.product(stack(0, rows, inner), stack(1, inner, columns))
    letters = [*batch, *rows, *columns]
    spread: F32 = product.reshape([sizes[letter] for letter in letters])
    return spread.transpose([letters.index(letter) for letter in result])


# ---- normalisation, formats --------------------------------------------------------------------


def rms_norm(x: F32, gain: F32 | None, eps: float, arithmetic: Arithmetic = LIBRARY) -> F32:
    mean = arithmetic.square_sum(x) * np.float32(1 / x.shape[-1])
    result: F32 = x * rsqrt(mean + np.float32(eps))[..., None]
    if gain is not None:
        result *= gain
    return result


def dequantize(x: F32 | Scaled) -> F32:
    """Weights that the executor holds as plain numbers already pass through."""
    return plain(x)


def sinkhorn(x: F32, iterations: int, eps: float, arithmetic: Arithmetic = LIBRARY) -> F32:
    """[.., n, n], rows the last axis but one. See `graph.Sinkhorn` for the order of the steps."""
    n = x.shape[-1]
    # Matrices side by side, [row, column, matrix]: small sums run across matrices.
    start = softmax(x, arithmetic) + np.float32(eps)
    a = np.ascontiguousarray(start.reshape(-1, n, n).transpose(1, 2, 0))
    smallest, beside = np.array(eps, dtype=np.float32), (np.s_[None], np.s_[:, None])
    for axis in (0, *(1, 0) * (iterations - 1)):
        total = arithmetic.short_total(a, axis)
        np.add(total, smallest, out=total)
        np.divide(a, total[beside[axis]], out=a)
    result: F32 = a.transpose(2, 0, 1).reshape(x.shape)
    return result


# ---- choosing, experts -------------------------------------------------------------------------

_SORTED = 4096  # so many scores, in all rows, are sorted faster than partitioned


def top_k(scores: F32, count: Index | None, k: int) -> I32:
    """[.., N] -> [.., k], the largest first, of the first count[t] scores; NaN ranks last."""
    size, rows = scores.shape[-1], prod(scores.shape[:-1])
    limit = np.full(rows, size)
    if count is not None:
        limit = np.repeat(count, rows // max(len(count), 1))
        size = min(size, int(count.max(initial=0)))  # scores of a state reach to its capacity
    flat = np.fmax(scores[..., :size], np.float32(-np.inf)).reshape(rows, size)
    if count is not None:
        flat[np.arange(size) >= limit[:, None]] = -np.inf
    few = flat.size <= _SORTED or size <= 2 * k
    best = _best_sorted(flat, k) if few else _best_of_many(flat, k)
    # Where candidates run out, indices beyond them follow: these rank after every candidate, also
    # after candidates of -inf, because their indices are larger.
    result = np.full((rows, k), -1, dtype=np.int32)
    result[:, : best.shape[1]] = np.where(best < limit[:, None], best, -1)
    return result.reshape(*scores.shape[:-1], k)


def _best_sorted(scores: F32, k: int) -> Index:
    return np.argsort(-scores, axis=-1, kind="stable")[:, :k]


def _best_of_many(scores: F32, k: int) -> Index:
    """As `_best_sorted`, sorting k scores instead of all.

    A partition gives the k-th largest score. All above it are chosen, and of those equal to it the
    first ones, as many as are missing: so ties fall as in a stable sort.
    """
    size = scores.shape[1]
    limit = np.partition(scores, size - k, axis=-1)[:, size - k, None]
    chosen, equal = scores > limit, scores == limit
    missing = k - np.count_nonzero(chosen, axis=-1)
    tied = np.flatnonzero(np.count_nonzero(equal, axis=-1) > missing)
    equal[tied] &= np.cumsum(equal[tied], axis=-1) <= missing[tied, None]
    candidates = np.flatnonzero(chosen | equal).reshape(len(scores), k) % size
    order = _best_sorted(np.take_along_axis(scores, candidates, axis=-1), k)
    return np.take_along_axis(candidates, order, axis=-1)


def dispatch(
    x: F32 | Scaled, chosen: Index, weight: F32, experts: int
) -> tuple[F32 | Scaled, F32, I32, I32]:
    """(rows [T K, ..], row_weight [T K], counts [experts], order [T K]), experts ascending."""
    flat = chosen.reshape(-1)
    counts = np.bincount(flat, minlength=experts)
    if len(counts) > experts:
        raise IndexError(f"expert {len(counts) - 1} of {experts}")
    order = np.argsort(flat, kind="stable")
    rows = take_rows(x, order // chosen.shape[1])
    return rows, weight.reshape(-1)[order], counts.astype(np.int32), order.astype(np.int32)


def combine(rows: F32, order: Index, choices: int) -> F32:
    """[T K, ..] -> [T, ..], the rows of a token added one after the other in float32."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    # Rows of a token by ascending row, which is ascending expert.
    own = np.sort(place.reshape(-1, choices), axis=1)
    total: F32 = rows[own[:, 0]]
    for choice in range(1, choices):
        total += rows[own[:, choice]]
    return total


# ---- the table ---------------------------------------------------------------------------------

FUNCTIONS: dict[type[Operation], Callable[..., Any]] = Table(
    __name__,
    "FUNCTIONS",
    {
        graph.Cast: cast,
        graph.Reshape: reshape,
        graph.Transpose: transpose,
        graph.Slice: slice_,
        graph.Split: split,
        graph.Concat: concat,
        graph.Repeat: repeat,
        graph.Gather: gather,
        graph.Take: take,
        graph.Member: member,
        graph.Select: select,
        graph.Negate: np.negative,
        graph.Exp: exp,
        graph.Sqrt: np.sqrt,
        graph.Rsqrt: rsqrt,
        graph.Sigmoid: sigmoid,
        graph.Softplus: softplus,
        graph.Silu: silu,
        graph.Relu: relu,
        graph.Gelu: gelu,
        graph.Tanh: tanh,
        graph.Add: np.add,
        graph.Subtract: np.subtract,
        graph.Multiply: np.multiply,
        graph.Divide: np.divide,
        graph.Minimum: np.minimum,
        graph.Maximum: np.maximum,
        graph.Clamp: clamp,
        graph.ReduceSum: reduce_sum,
        graph.ReduceMax: reduce_max,
        graph.Softmax: softmax,
        graph.Linear: linear,
        graph.GroupedLinear: grouped_linear,
        graph.Einsum: einsum,
        graph.RmsNorm: rms_norm,
        graph.Rope: rope,
        graph.Hadamard: numerics.hadamard,
        graph.Quantize: numerics.quantize,
        graph.Dequantize: dequantize,
        graph.Sinkhorn: sinkhorn,
        graph.Append: sequence_ops.append,
        graph.CompletedWindows: sequence_ops.completed_windows,
        graph.PoolWindows: sequence_ops.pool_windows,
        graph.WindowIndex: sequence_ops.window_index,
        graph.VisibleCount: sequence_ops.visible_count,
        graph.TopK: top_k,
        graph.Attend: sequence_ops.attend,
        graph.Dispatch: dispatch,
        graph.Combine: combine,
    },
)

ADDING = (
    *(graph.Exp, graph.Sigmoid, graph.Softplus, graph.Silu, graph.Softmax, graph.Sinkhorn),
    *(graph.Gelu, graph.Tanh),
    *(graph.ReduceSum, graph.Linear, graph.GroupedLinear, graph.Einsum, graph.RmsNorm),
    *(graph.Rope, graph.PoolWindows, graph.Attend),
)
"""Ops whose last bits follow the arithmetic, which they take. Others have the same bits anyway."""

EXACT_FUNCTIONS: dict[type[Operation], Callable[..., Any]] = Table(
    __name__,
    "EXACT_FUNCTIONS",
    {
        **FUNCTIONS,
        **{kind: partial(FUNCTIONS[kind], arithmetic=EXACT) for kind in ADDING},
    },
)


def functions(arithmetic: Arithmetic) -> dict[type[Operation], Callable[..., Any]]:
    """The function of every op, in an arithmetic."""
    return FUNCTIONS if arithmetic is LIBRARY else EXACT_FUNCTIONS
