"""The shape rule of every graph op: result shapes and elements from the operands.

One table, in the order of `graph.OPS`. A rule reads sizes only through `+`, `*` and `same`, so
that sizes may be integers, `DYNAMIC`, or symbols (see `symbolic_shapes`). Builders infer with the
rules and the verifier compares with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xdsl.dialects.builtin import TensorType, f32, i1, i32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

from supertile.ir import comm, graph
from supertile.ir.op import fits, properties_of, shape_of
from supertile.ir.tables import Table
from supertile.ir.types import DYNAMIC, is_float, is_integer, is_scaled, tensor, type_of

Size = Any  # an int, DYNAMIC, or a symbol that supports + and *
Shape = tuple[Size, ...]
Fresh = Callable[[str], Size]  # names a size that only running the op determines
Rule = Callable[[dict[str, Any], list[Shape], Fresh], list[Shape]]

NEXT_RUN_TIME_SIZE = -1  # in the property of reshape


def same(a: Size, b: Size, what: str) -> Size:
    """The size that both are; an error naming both if they cannot be equal."""
    if _unknown(a):
        return b
    if _unknown(b) or a == b:
        return a
    raise VerifyException(f"{what} differ: {_show(a)} and {_show(b)}")


def _show(size: Size) -> str:
    return "?" if _unknown(size) else str(size)


def times(*sizes: Size) -> Size:
    result: Size = 1
    for size in sizes:
        result = DYNAMIC if _unknown(size) or _unknown(result) else result * size
    return result


def plus(a: Size, b: Size) -> Size:
    return DYNAMIC if _unknown(a) or _unknown(b) else a + b


def _unknown(size: Size) -> bool:
    return isinstance(size, int) and size == DYNAMIC


def _is_known(size: Size) -> bool:
    return isinstance(size, int) and size != DYNAMIC


def _rank(shape: Shape, rank: int, what: str) -> None:
    if len(shape) != rank:
        raise VerifyException(f"{what} has {rank} axes, got {len(shape)}: {list(shape)}")


def _axis(shape: Shape, axis: int) -> int:
    if not 0 <= axis < len(shape):
        raise VerifyException(f"axis {axis} of a tensor with {len(shape)} axes")
    return axis


# ---- rules -------------------------------------------------------------------------------------


def unary(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    return [shapes[0]]


def broadcast(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    """Axes align at the end; a size of 1 stretches."""
    rank = max(len(shape) for shape in shapes)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for i, size in enumerate(shape, start=rank - len(shape)):
            if size != 1:
                result[i] = size if result[i] == 1 else same(result[i], size, "sizes")
    return [tuple(result)]


def constant(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    return [()]


def reshape(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    unknown = [size for size in shapes[0] if not _is_known(size)]
    asked = p["shape"].count(NEXT_RUN_TIME_SIZE)
    if asked != len(unknown):
        raise VerifyException(f"{list(p['shape'])} takes {asked} run-time sizes of {len(unknown)}")
    rest = iter(unknown)
    result = tuple(next(rest) if size == NEXT_RUN_TIME_SIZE else size for size in p["shape"])
    for shape in (shapes[0], result):  # one can be told from the element count, several not
        lead = [_is_known(size) for size in shape]
        if len(unknown) > 1 and lead != sorted(lead):
            raise VerifyException(f"run-time sizes lead, got {[_show(size) for size in shape]}")
    known = [times(*(s for s in shape if _is_known(s))) for shape in (shapes[0], result)]
    same(known[0], known[1], "element counts")
    return [result]


def transpose(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    permutation = p["permutation"]
    if sorted(permutation) != list(range(len(shapes[0]))):
        raise VerifyException(f"{list(permutation)} does not permute {len(shapes[0])} axes")
    return [tuple(shapes[0][i] for i in permutation)]


def slice_(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    axis, end = _axis(shapes[0], p["axis"]), p["start"] + p["size"]
    if p["start"] < 0 or p["size"] < 0 or (_is_known(shapes[0][axis]) and end > shapes[0][axis]):
        raise VerifyException(f"{p['start']} to {end} of an axis of {shapes[0][axis]}")
    return [(*shapes[0][:axis], p["size"], *shapes[0][axis + 1 :])]


def split(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    axis = _axis(shapes[0], p["axis"])
    same(shapes[0][axis], sum(p["sizes"]), "the axis and its parts")
    return [(*shapes[0][:axis], size, *shapes[0][axis + 1 :]) for size in p["sizes"]]


def concat(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    result = list(shapes[0])
    axis = _axis(shapes[0], p["axis"])
    for shape in shapes[1:]:
        _rank(shape, len(result), "each part")
        for i, size in enumerate(shape):
            result[i] = plus(result[i], size) if i == axis else same(result[i], size, "parts")
    return [tuple(result)]


def repeat(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    axis = p["axis"]
    if not 0 <= axis <= len(shapes[0]):
        raise VerifyException(f"new axis {axis} of a tensor with {len(shapes[0])} axes")
    return [(*shapes[0][:axis], p["count"], *shapes[0][axis:])]


def gather(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    _rank(shapes[1], 1, "ids")
    return [(*shapes[1], *shapes[0][1:])]


def take(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    _rank(shapes[1], len(shapes[0]), "chosen")
    lead = tuple(same(a, b, "rows") for a, b in zip(shapes[0][:-1], shapes[1][:-1], strict=True))
    return [(*lead, shapes[1][-1])]


def member(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    return [(*shapes[0][:-1], p["size"])]


def reduce(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    axis = _axis(shapes[0], p["axis"])
    return [shapes[0][:axis] + shapes[0][axis + 1 :]]


def linear(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    x, w = shapes
    _rank(w, 2, "w")
    same(x[-1], w[1], "input channels of x and w")
    return [(*x[:-1], w[0])]


def grouped_linear(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    x, w, counts = shapes
    _rank(w, 3, "w")
    same(x[-1], w[2], "input channels of x and w")
    same(counts[0], w[0], "experts of counts and w")
    return [(x[0], w[1])]


def einsum(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    """Letters name sizes; a letter stands for one size everywhere."""
    joined, result = p["equation"].split("->")
    terms = joined.split(",")
    per_sequence = any("b" in term for term in terms)
    if len(shapes) != len(terms) + per_sequence:
        raise VerifyException(
            f"{p['equation']} takes {len(terms)} operands"
            + (" and the sequence" if per_sequence else "")
        )
    sizes: dict[str, Size] = {}
    for term, shape in zip(terms, shapes, strict=False):
        _rank(shape, len(term), f"the operand {term}")
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = same(sizes.get(letter, DYNAMIC), size, f"sizes of {letter}")
    missing = [letter for letter in result if letter not in sizes]
    if missing:
        raise VerifyException(f"{missing[0]} of the result is in no operand")
    if per_sequence:
        same(sizes[result[0]], shapes[-1][0], "tokens of the result and of sequence")
    return [tuple(sizes[letter] for letter in result)]


def rms_norm(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    if len(shapes) == 2:
        _rank(shapes[1], 1, "gain")
        same(shapes[0][-1], shapes[1][0], "channels of x and gain")
    return [shapes[0]]


def rope(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    same(shapes[0][0], shapes[1][0], "rows of x and position")
    if shapes[0][-1] < p["rope"]["dims"]:
        raise VerifyException(f"{p['rope']['dims']} channels turn, x has {shapes[0][-1]}")
    return [shapes[0]]


def hadamard(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    size = shapes[0][-1]
    if size & (size - 1):
        raise VerifyException(f"the last axis is a power of two, got {size}")
    return [shapes[0]]


def sinkhorn(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    same(shapes[0][-1], shapes[0][-2], "rows and columns")
    return [shapes[0]]


def append(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    state, rows = shapes[0], shapes[1]
    for a, b in zip(state[2:], rows[1:], strict=True):
        same(a, b, "channels of state and rows")
    if p["kind"].kind.data == "ring":
        return [(state[0], fresh(f"seen{state[1]}"), *state[2:]), state]
    return [state, state]


def completed_windows(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    windows = fresh(f"windows{p['ratio']}")
    return [(windows,), (windows,)]


def pool_windows(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    state, values, scores, bias = shapes[:4]
    parts, slots = 1 + p["overlap"], (1 + p["overlap"]) * p["ratio"]
    width = same(values[-1], scores[-1], "channels of values and scores")
    same(width, bias[-1], "channels of values and bias")
    same(bias[0], p["ratio"], "rows of bias and ratio")
    same(state[1], slots, "rows of state and slots")
    same(state[2], 2, "planes of state")
    same(state[3], width, "channels of state and values")
    if width % parts:
        raise VerifyException(f"{width} channels do not split into {parts} parts")
    return [(fresh(f"windows{p['ratio']}"), width // parts), state]


def window_index(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    return [(shapes[1][0], p["window"])]


def visible_count(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    return [shapes[0]]


def top_k(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    if len(shapes) == 2:
        same(shapes[0][0], shapes[1][0], "rows of scores and count")
    size = shapes[0][-1]
    if len(shapes) == 1 and _is_known(size) and size < p["k"]:
        raise VerifyException(f"{p['k']} of {size} scores")
    return [(*shapes[0][:-1], p["k"])]


def attend(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    q = shapes[0]
    _rank(q, 3, "q")
    return [(*q[:2], p["value_width"])]


def dispatch(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    x, chosen, weight = shapes
    same(x[0], chosen[0], "rows of x and chosen")
    same(chosen[1], weight[1], "choices of chosen and weight")
    rows = times(x[0], chosen[1])
    return [(rows, *x[1:]), (rows,), (p["experts"],), (rows,)]


def combine(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    rows, order = shapes
    count = same(rows[0], order[0], "rows and order")
    tokens = count // p["choices"] if not _unknown(count) else DYNAMIC
    return [(tokens, *rows[1:])]


def comm_dispatch(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    x, chosen, weight = shapes
    same(x[0], chosen[0], "rows of x and chosen")
    same(chosen[1], weight[1], "choices of chosen and weight")
    arrived = fresh("arrived")
    return [(arrived, *x[1:]), (arrived,), (p["placement"].width,), (arrived, 2)]


def comm_combine(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    rows, origin, chosen = shapes
    same(rows[0], origin[0], "rows and origin")
    _rank(chosen, 2, "chosen")
    return [(chosen[0], *rows[1:])]


def share(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    """How many rows a rank has of the tokens of its group, only running tells."""
    return [(fresh(f"share{p['ranks']}"), *shapes[0][1:])]


def all_gather(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    return [(shapes[1][0], *shapes[0][1:])]


def layers(p: dict[str, Any], shapes: list[Shape], fresh: Fresh) -> list[Shape]:
    """Carried values keep their shapes, stacks keep theirs."""
    carried, shared, _ = p["operandSegmentSizes"]
    return [*shapes[:carried], *shapes[carried + shared :]]


# ---- elements: what each result holds ----------------------------------------------------------

COMPUTED = "computed"  # f32 unless the op rounds to a narrower float
COPIED = "copied"  # as the first operand
INDEX = "index"  # i32
MASK = "mask"  # i1
Elements = tuple[str | int, ...]  # an int: as that operand; REPEATED: all results as the first
REPEATED = "repeated"

# op -> (shape rule, elements of the results). None: the result type is declared, not inferred.
RULES: dict[type[Operation], tuple[Rule | None, Elements]] = Table(
    __name__,
    "RULES",
    {
        graph.Constant: (constant, (COMPUTED,)),
        graph.Weight: (None, ()),
        graph.Cast: (unary, (COMPUTED,)),
        graph.Reshape: (reshape, (COPIED,)),
        graph.Transpose: (transpose, (COPIED,)),
        graph.Slice: (slice_, (COPIED,)),
        graph.Split: (split, (COPIED, REPEATED)),
        graph.Concat: (concat, (COPIED,)),
        graph.Repeat: (repeat, (COPIED,)),
        graph.Gather: (gather, (COPIED,)),
        graph.Take: (take, (COPIED,)),
        graph.Member: (member, (MASK,)),
        graph.Select: (broadcast, (COMPUTED,)),
        graph.Negate: (unary, (COMPUTED,)),
        graph.Exp: (unary, (COMPUTED,)),
        graph.Sqrt: (unary, (COMPUTED,)),
        graph.Rsqrt: (unary, (COMPUTED,)),
        graph.Sigmoid: (unary, (COMPUTED,)),
        graph.Softplus: (unary, (COMPUTED,)),
        graph.Silu: (unary, (COMPUTED,)),
        graph.Relu: (unary, (COMPUTED,)),
        graph.Gelu: (unary, (COMPUTED,)),
        graph.Tanh: (unary, (COMPUTED,)),
        graph.Add: (broadcast, (COMPUTED,)),
        graph.Subtract: (broadcast, (COMPUTED,)),
        graph.Multiply: (broadcast, (COMPUTED,)),
        graph.Divide: (broadcast, (COMPUTED,)),
        graph.Minimum: (broadcast, (COMPUTED,)),
        graph.Maximum: (broadcast, (COMPUTED,)),
        graph.Clamp: (unary, (COMPUTED,)),
        graph.ReduceSum: (reduce, (COMPUTED,)),
        graph.ReduceMax: (reduce, (COMPUTED,)),
        graph.Softmax: (unary, (COMPUTED,)),
        graph.Linear: (linear, (COMPUTED,)),
        graph.GroupedLinear: (grouped_linear, (COMPUTED,)),
        graph.Einsum: (einsum, (COMPUTED,)),
        graph.RmsNorm: (rms_norm, (COMPUTED,)),
        graph.Rope: (rope, (COMPUTED,)),
        graph.Hadamard: (hadamard, (COMPUTED,)),
        graph.Quantize: (unary, ()),
        graph.Dequantize: (unary, (COMPUTED,)),
        graph.Sinkhorn: (sinkhorn, (COMPUTED,)),
        graph.Append: (append, (COPIED, COPIED)),
        graph.CompletedWindows: (completed_windows, (INDEX, INDEX)),
        graph.PoolWindows: (pool_windows, (COMPUTED, COPIED)),
        graph.WindowIndex: (window_index, (INDEX,)),
        graph.VisibleCount: (visible_count, (INDEX,)),
        graph.TopK: (top_k, (INDEX,)),
        graph.Attend: (attend, (COMPUTED,)),
        graph.Dispatch: (dispatch, (COPIED, 2, INDEX, INDEX)),
        graph.Combine: (combine, (COMPUTED,)),
        graph.Layers: (layers, ()),
        comm.Dispatch: (comm_dispatch, (COPIED, 2, INDEX, INDEX)),
        comm.Combine: (comm_combine, (COMPUTED,)),
        comm.Share: (share, (COPIED,)),
        comm.AllGather: (all_gather, (COPIED,)),
        comm.AllReduce: (unary, (COMPUTED,)),
    },
)


def infer_results(op: Operation, element: Attribute | None = None) -> list[TensorType[Attribute]]:
    """The result types of an op by its rule; `element` is what its computed results round to."""
    rule, elements = RULES[type(op)]
    assert rule is not None, f"{op.name} declares its result type"
    shapes = rule(_properties(op), [shape_of(v) for v in op.operands], lambda _: DYNAMIC)
    assert not isinstance(op, graph.Quantize), "quantize declares its result type"
    if not elements:  # carried values and stacks keep their types
        carried, shared, _ = _properties(op)["operandSegmentSizes"]
        kept = [*op.operands[:carried], *op.operands[carried + shared :]]
        return [type_of(value) for value in kept]
    return [
        tensor(shape, _element(op, held, element), _encoding(op, held, shape))
        for shape, held in zip(shapes, _each(elements, len(shapes)), strict=True)
    ]


def _each(elements: Elements, count: int) -> Elements:
    """One entry for each result."""
    return elements[:1] * count if REPEATED in elements else elements


def _encoding(op: Operation, held: str | int, shape: Shape) -> Attribute | None:
    """Scales go along with copied codes, as long as the axes they belong to stay."""
    if held != COPIED and not isinstance(held, int):
        return None
    source = type_of(op.operands[held if isinstance(held, int) else 0])
    if not is_scaled(source):
        return None
    if len(shape) != len(source.get_shape()):
        raise VerifyException(f"{op.name} would tear scales from their codes; dequantize first")
    return source.encoding


def _element(op: Operation, held: str | int, rounded: Attribute | None) -> Attribute:
    if held == COMPUTED:
        return rounded or f32
    if held == INDEX:
        return i32
    if held == MASK:
        return i1
    return type_of(op.operands[0 if held == COPIED else int(held)]).element_type


def _properties(op: Operation) -> dict[str, Any]:
    properties = properties_of(op)
    if isinstance(op, graph.Layers):
        properties["operandSegmentSizes"] = tuple(
            op.properties["operandSegmentSizes"].get_values()  # type: ignore[attr-defined]
        )
    return properties


def check_results(op: Operation) -> None:
    """Raise unless the declared result types are what the rule allows."""
    rule, elements = RULES[type(op)]
    if isinstance(op, graph.Quantize):
        return _check_quantize(op)
    if isinstance(op, graph.Weight):
        return _check_weight(op)
    if rule is None:
        return None
    if isinstance(op, graph.Attend):
        _check_sources(op)
    shapes = rule(_properties(op), [shape_of(v) for v in op.operands], lambda _: DYNAMIC)
    if len(shapes) != len(op.results):
        raise VerifyException(f"{op.name} has {len(shapes)} results, got {len(op.results)}")
    for number, (value, shape) in enumerate(zip(op.results, shapes, strict=True)):
        if not fits(shape_of(value), shape):
            raise VerifyException(
                f"result {number} of {op.name} has shape {list(shape_of(value))}, "
                f"the operands give {list(shape)}"
            )
        if elements:
            _check_element(op, value, _each(elements, len(shapes))[number])
    return None


def _check_element(op: Operation, value: SSAValue, held: str | int) -> None:
    element = type_of(value).element_type
    if held == COMPUTED:
        if not is_float(element):
            raise VerifyException(f"{op.name} computes a float, its result holds {element}")
        return
    expected = _element(op, held, None)
    if element != expected:
        raise VerifyException(f"{op.name} gives {expected}, its result holds {element}")


def _check_quantize(op: graph.Quantize) -> None:
    if shape_of(op.result) != shape_of(op.x) or not is_scaled(type_of(op.result)):
        raise VerifyException("quantize keeps the shape and gives a scaled tensor")


def _check_weight(op: graph.Weight) -> None:
    if op.stored is None:
        return
    placed = int(op.placement is not None)  # a rank has as many experts as it has slots
    if op.stored.get_shape()[placed:] != shape_of(op.result)[placed:]:
        raise VerifyException("a weight is converted to the shape that is stored")


def _check_sources(op: graph.Attend) -> None:
    if not op.keys or len(op.keys) != len(op.index):
        raise VerifyException(f"{len(op.keys)} keys and {len(op.index)} index lists")
    if len(op.values) not in (0, len(op.keys)):
        raise VerifyException(f"{len(op.keys)} keys and {len(op.values)} values")
    tokens, heads, width = shape_of(op.q)
    for keys, chosen in zip(op.keys, op.index, strict=True):
        same(shape_of(keys)[-1], width, "channels of q and keys")
        same(shape_of(chosen)[0], tokens, "rows of q and index")
        if len(shape_of(chosen)) not in (1, 2) or not is_integer(type_of(chosen).element_type):
            raise VerifyException("an index is integers [T, n], a count integers [T]")
    for held in (*op.keys, *op.values):
        _check_heads(shape_of(held), heads)
    if any(shape_of(value)[-1] < op.value_width.value.data for value in op.values or op.keys):
        raise VerifyException(f"value_width {op.value_width.value.data} is more than the channels")
    if op.sink is not None:
        same(shape_of(op.sink)[0], heads, "heads of q and sink")
    if (op.round is None) != (op.block is None):
        raise VerifyException("round and block go together: the rounding depends on the blocks")


def _check_heads(keys: Shape, heads: Size) -> None:
    """Keys [B, S, C] serve all heads; of keys [B, S, heads, C] each serves an equal number."""
    if len(keys) not in (3, 4):
        raise VerifyException(f"keys have 3 or 4 axes, got {len(keys)}")
    if len(keys) == 4 and heads % keys[2]:
        raise VerifyException(f"{heads} heads of q do not share {keys[2]} heads of keys")


def symbolic_shapes(
    operands: Sequence[Shape], op: Operation, fresh: Fresh | None = None
) -> list[Shape]:
    """Result shapes over symbols: `fresh` names sizes that only a run determines."""
    rule, _ = RULES[type(op)]
    if rule is None:
        return [shape_of(value) for value in op.results]
    return rule(_properties(op), list(operands), fresh or (lambda name: name))
