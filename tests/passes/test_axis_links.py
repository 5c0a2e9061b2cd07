"""Each link by running its op: slices of what it links give a slice of the result, or of a sum."""

from itertools import product

import numpy as np
import pytest
from xdsl.ir import Operation, SSAValue
from xdsl.utils.test_value import create_ssa_value

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC, RopeAttr, StateAttr, f32, i32, is_integer, tensor, type_of
from supertile.passes.axis_links import LINKS, links_of
from supertile.runtime.graph_ops import FUNCTIONS
from supertile.runtime.plan import call_properties, operand_groups

ROPE = RopeAttr.of(
    pairs="halves", scaling="default", dims=4, theta=100, factor=1, original=64, beta_fast=32,
    beta_slow=1, low_frequency=1, high_frequency=4, magnitude=1,
)  # fmt: skip
ROWS, IDS, TOKENS = (4, 6, 8), tensor((4,), i32), tensor((4,), i32)


def floats(*shape):
    return tensor(shape, f32)


def op(made, /, *groups, **properties) -> Operation:
    values = [
        [create_ssa_value(each) for each in group]
        if isinstance(group, list)
        else create_ssa_value(group)
        for group in groups
    ]
    return graph.create(made, values, **properties)


BLOCKS = StateAttr.of("blocks", "kept", [1])
CASES = {
    "cast": op(graph.Cast, floats(*ROWS)),
    "add": op(graph.Add, floats(*ROWS), floats(*ROWS)),
    "add of a vector": op(graph.Add, floats(*ROWS), floats(8)),
    "multiply by one a row": op(graph.Multiply, floats(4, 1, 1), floats(*ROWS)),
    "silu": op(graph.Silu, floats(*ROWS)),
    "gelu": op(graph.Gelu, floats(*ROWS)),
    "tanh": op(graph.Tanh, floats(*ROWS)),
    "transpose": op(graph.Transpose, floats(*ROWS), permutation=[2, 0, 1]),
    "slice": op(graph.Slice, floats(*ROWS), axis=1, start=1, size=2),
    "split": op(graph.Split, floats(*ROWS), axis=2, sizes=[2, 6]),
    "concat": op(graph.Concat, [floats(*ROWS), floats(4, 2, 8)], axis=1),
    "repeat": op(graph.Repeat, floats(*ROWS), axis=1, count=3),
    "gather": op(graph.Gather, floats(4, 8), IDS),
    "take": op(graph.Take, floats(4, 6, 8), tensor((4, 6, 2), i32)),
    "reduce_sum": op(graph.ReduceSum, floats(*ROWS), axis=1),
    "reduce_max": op(graph.ReduceMax, floats(*ROWS), axis=1),
    "softmax": op(graph.Softmax, floats(*ROWS)),
    "linear": op(graph.Linear, floats(*ROWS), floats(10, 8)),
    "einsum": op(graph.Einsum, [floats(4, 6, 8), floats(6, 2, 8)], [], equation="thc,hrc->thr"),
    "rms_norm": op(graph.RmsNorm, floats(*ROWS), [floats(8)], eps=1e-6),
    "rope": op(graph.Rope, floats(*ROWS), TOKENS, rope=ROPE),
    "hadamard": op(graph.Hadamard, floats(*ROWS)),
    "sinkhorn": op(graph.Sinkhorn, floats(4, 6, 2, 2), iterations=2, eps=1e-6),
    "top_k": op(graph.TopK, floats(*ROWS), [], k=2),
    "append": op(
        graph.Append, floats(1, 6, 2, 8), floats(4, 2, 8), TOKENS, TOKENS, tensor((1,), i32),
        kind=BLOCKS,
    ),
    "attend": op(
        graph.Attend, floats(4, 6, 8), [floats(1, 5, 8)], [], [TOKENS], [floats(6)], TOKENS,
        scale=0.5, value_width=6,
    ),
}  # fmt: skip
LINKED = [(name, number) for name, held in CASES.items() for number in range(len(links_of(held)))]


def value_of(value: SSAValue, number: int):
    """Numbers of a value; of integers, small enough for any index or count."""
    kind = type_of(value)
    generator = np.random.default_rng(number)
    if is_integer(kind.element_type):
        count = np.arange(np.prod(kind.get_shape())).reshape(kind.get_shape())
        return (count % kind.get_shape()[-1]).astype(np.int32) % 4
    return generator.standard_normal(kind.get_shape()).astype(np.float32)


def run(held: Operation, values: dict[SSAValue, object]) -> list[np.ndarray]:
    groups = operand_groups(held, lambda value: value)  # type: ignore[arg-type,return-value]
    inputs = [
        [values[v] for v in group] if isinstance(group, list) else values.get(group)
        for group in groups
    ]
    found = FUNCTIONS[type(held)](*inputs, **call_properties(held))
    return list(found) if isinstance(found, tuple) else [found]


def values_for(held: Operation) -> dict[SSAValue, object]:
    values = {value: value_of(value, number) for number, value in enumerate(held.operands)}
    if isinstance(held, graph.Append | graph.Attend):  # one sequence, empty before the call
        values[held.sequence] = np.zeros(4, np.int32)
    if isinstance(held, graph.Append):
        values[held.length] = np.zeros(1, np.int32)
    return values


@pytest.mark.parametrize(("name", "number"), LINKED)
def test_slices_give_a_slice_of_the_result_or_parts_of_its_sum(name, number):
    held = CASES[name]
    link = links_of(held)[number]
    cut = dict(link.axes)
    whole = run(held, values_for(held))
    halves = []
    for half in range(2):
        values = values_for(held)
        for value in held.operands:
            if value in cut:
                values[value] = np.split(values[value], 2, cut[value])[half]
        halves.append(run(held, values))
    for result, wanted, *parts in zip(held.results, whole, *halves, strict=True):
        found = sum(parts) if link.is_summed else np.concatenate(parts, cut[result])
        assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5), result


def test_what_is_not_sliced_is_whole():
    """Blocked axes: channels that a norm or a rope mixes, keys that a softmax compares."""
    for name, value, axis in [
        ("rms_norm", 0, 2),
        ("rope", 0, 2),
        ("softmax", 0, 2),
        ("hadamard", 0, 2),
        ("top_k", 0, 2),
        ("attend", 0, 2),
        ("gather", 0, 0),
    ]:
        held = CASES[name]
        assert not [link for link in links_of(held) if (held.operands[value], axis) in link.axes]


RESHAPES = [
    ((6, 8), (6, 4, 2), [(0, 0), (1, 1)]),
    ((6, 4, 2), (6, 8), [(0, 0), (1, 1)]),
    ((6, 4, 8), (6, 2, 16), [(0, 0), (1, 1)]),
    ((6,), (6, 1), [(0, 0)]),
    ((6, 1, 4), (6, 4), [(0, 0), (2, 1)]),
    ((2, 3, 4), (6, 4), [(0, 0), (2, 1)]),
    ((6, 4), (1, 6, 4), [(0, 1), (1, 2)]),
]


@pytest.mark.parametrize(("before", "after", "expected"), RESHAPES)
def test_a_reshape_keeps_slices_of_what_leads_each_group(before, after, expected):
    held = op(graph.Reshape, floats(*before), shape=list(after))
    pairs = [(link.axes[0][1], link.axes[1][1]) for link in links_of(held)]
    assert pairs == expected
    x = np.arange(np.prod(before)).reshape(before)
    for (old, new), half in product(expected, range(2)):
        if before[old] % 2 or after[new] % 2:
            continue
        smaller = [size // 2 if axis == new else size for axis, size in enumerate(after)]
        found = np.split(x, 2, old)[half].reshape(smaller)
        assert np.array_equal(found, np.split(x.reshape(after), 2, new)[half])


def test_run_time_sizes_lead():
    held = op(graph.Reshape, tensor((DYNAMIC, 8), f32), shape=[-1, 4, 2])
    axes = [(link.axes[0][1], link.axes[1][1]) for link in links_of(held)]
    assert axes == [(0, 0), (1, 1)]


def test_rules_are_in_the_order_of_the_dialect():
    assert list(LINKS) == [kind for kind in graph.OPS if kind in LINKS]


def test_shapes_of_the_examples_are_those_of_their_values():
    assert all(shape_of(held.results[0]) for held in CASES.values())
