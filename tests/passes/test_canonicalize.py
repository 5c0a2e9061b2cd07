"""What canonicalize rewrites, and what it must leave: each case is before -> after."""

import pytest
from pass_checks import check, check_kept, module_of, text_of

from supertile.ir.locations import name_of
from supertile.ir.shapes import NEXT_RUN_TIME_SIZE
from supertile.ir.text import context
from supertile.passes.canonicalize import PATTERNS
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline
from supertile.passes.rewriting import rewrite

# f, b: a matrix of f32 and of bf16; s: a scalar; open sizes as a reshape spells them.
F, B, S, OPEN = "tensor<?x8xf32>", "tensor<?x8xbf16>", "tensor<f32>", NEXT_RUN_TIME_SIZE


def one(op: str) -> str:
    """A function of %x that returns the result %y of the ops."""
    return f"(%x: {F}) -> {F}\n{op}\nfunc.return %y : {F}"


IDENTITY = f"(%x: {F}) -> {F}\nfunc.return %x : {F}"

TO_X = {
    "cast to its own format": f"%y = graph.cast %x : ({F}) -> {F}",
    "reshape to its own shape": f"""
        %y = graph.reshape %x {{shape = array<i64: {OPEN}, 8>}} : ({F}) -> {F}""",
    "transpose of no axis": f"""
        %y = graph.transpose %x {{permutation = array<i64: 0, 1>}} : ({F}) -> {F}""",
    "two transposes that cancel": f"""
        %t = graph.transpose %x {{permutation = array<i64: 1, 0>}} : ({F}) -> tensor<8x?xf32>
        %y = graph.transpose %t {{permutation = array<i64: 1, 0>}} : (tensor<8x?xf32>) -> {F}""",
    "two reshapes that cancel": f"""
        %t = graph.reshape %x {{shape = array<i64: {OPEN}, 2, 4>}} : ({F}) -> tensor<?x2x4xf32>
        %y = graph.reshape %t {{shape = array<i64: {OPEN}, 8>}} : (tensor<?x2x4xf32>) -> {F}""",
    "slice of the whole axis": f"""
        %y = graph.slice %x {{axis = 1, start = 0, size = 8}} : ({F}) -> {F}""",
    "concat of one": f"%y = graph.concat %x {{axis = 0}} : ({F}) -> {F}",
    "times one": f"""
        %c = graph.constant {{value = 1.0 : f64}} : () -> {S}
        %y = graph.multiply %x, %c : ({F}, {S}) -> {F}""",
    "one times": f"""
        %c = graph.constant {{value = 1.0 : f64}} : () -> {S}
        %y = graph.multiply %c, %x : ({S}, {F}) -> {F}""",
    "over one": f"""
        %c = graph.constant {{value = 1.0 : f64}} : () -> {S}
        %y = graph.divide %x, %c : ({F}, {S}) -> {F}""",
    "plus minus zero": f"""
        %c = graph.constant {{value = -0.0 : f64}} : () -> {S}
        %y = graph.add %x, %c : ({F}, {S}) -> {F}""",
    "minus zero": f"""
        %c = graph.constant {{value = 0.0 : f64}} : () -> {S}
        %y = graph.subtract %x, %c : ({F}, {S}) -> {F}""",
    "half of a concat": f"""
        %c = graph.concat %x, %x {{axis = 1}} : ({F}, {F}) -> tensor<?x16xf32>
        %y = graph.slice %c {{axis = 1, start = 8, size = 8}} : (tensor<?x16xf32>) -> {F}""",
    "one that a folded number makes": f"""
        %a = graph.constant {{value = 0.5 : f64}} : () -> {S}
        %c = graph.add %a, %a : ({S}, {S}) -> {S}
        %y = graph.multiply %x, %c : ({F}, {S}) -> {F}""",
}


@pytest.mark.parametrize("ops", TO_X.values(), ids=TO_X)
def test_identities(ops):
    check(one(ops), "canonicalize", IDENTITY)


KEPT = {
    "plus zero: -0 + 0 is +0": f"""
        %c = graph.constant {{value = 0.0 : f64}} : () -> {S}
        %y = graph.add %x, %c : ({F}, {S}) -> {F}""",
    "one over": f"""
        %c = graph.constant {{value = 1.0 : f64}} : () -> {S}
        %y = graph.divide %c, %x : ({S}, {F}) -> {F}""",
    "zero minus": f"""
        %c = graph.constant {{value = 0.0 : f64}} : () -> {S}
        %y = graph.subtract %c, %x : ({S}, {F}) -> {F}""",
    "a slice over two parts": f"""
        %c = graph.concat %x, %x {{axis = 1}} : ({F}, {F}) -> tensor<?x16xf32>
        %y = graph.slice %c {{axis = 1, start = 4, size = 8}} : (tensor<?x16xf32>) -> {F}""",
    "a slice along another axis": f"""
        %c = graph.concat %x, %x {{axis = 0}} : ({F}, {F}) -> {F}
        %s = graph.slice %c {{axis = 1, start = 0, size = 4}} : ({F}) -> tensor<?x4xf32>
        %y = graph.concat %s, %s {{axis = 1}} : (tensor<?x4xf32>, tensor<?x4xf32>) -> {F}""",
    "a number that overflows": f"""
        %a = graph.constant {{value = 3.0e38 : f64}} : () -> {S}
        %c = graph.add %a, %a : ({S}, {S}) -> {S}
        %y = graph.multiply %x, %c : ({F}, {S}) -> {F}""",
    "a cast that rounds and comes back": f"""
        %b = graph.cast %x : ({F}) -> {B}
        %y = graph.cast %b : ({B}) -> {F}""",
    "one with another rounding": f"""
        %c = graph.constant {{value = 1.0 : f64}} : () -> {S}
        %b = graph.multiply %x, %c : ({F}, {S}) -> {B}
        %y = graph.cast %b : ({B}) -> {F}""",
}


@pytest.mark.parametrize("ops", KEPT.values(), ids=KEPT)
def test_kept(ops):
    check_kept(one(ops), "canonicalize")


def test_zero_is_dropped_where_no_negative_zero_can_be():
    before = one(f"""
        %e = graph.exp %x : ({F}) -> {F}
        %c = graph.constant {{value = 0.0 : f64}} : () -> {S}
        %y = graph.add %e, %c : ({F}, {S}) -> {F}""")
    check(before, "canonicalize", one(f"%y = graph.exp %x : ({F}) -> {F}").replace("%y", "%e"))


def test_dead_ops_go():
    before = one(f"""
        %d = graph.exp %x : ({F}) -> {F}
        %g = graph.fused {{kind = "x"}} : () -> {F} {{
          %h = graph.exp %d : ({F}) -> {F}
          graph.yield %h : ({F}) -> ()
        }}
        %y = graph.silu %x : ({F}) -> {F}""")
    check(before, "canonicalize", one(f"%y = graph.silu %x : ({F}) -> {F}"))


# ---- rounding ----------------------------------------------------------------------------------

ROUNDED = f"(%x: {F}) -> {B}\n%y = graph.silu %x : ({F}) -> {B}\nfunc.return %y : {B}"


def rounded(middle: str = "", location: str = "") -> str:
    return f"""(%x: {F}) -> {B}
        %s = graph.silu %x : ({F}) -> {F} {location}
        {middle}
        %y = graph.cast %s : ({F}) -> {B} loc("gate"("m.st":7:3))
        func.return %y : {B}"""


def test_a_cast_of_a_computed_value_is_folded_and_bears_its_name():
    check(rounded(), "canonicalize", ROUNDED)
    module = module_of(rounded())
    run_passes(module, parse_pipeline("canonicalize"))
    (op, _) = list(next(iter(module.ops)).body.block.ops)
    assert name_of(op.location) == "gate"


def test_a_named_f32_value_stays():
    check_kept(rounded(location='loc("scores"("m.st":6:3))'), "canonicalize")


def test_a_value_with_two_uses_stays():
    check_kept(
        f"""(%x: {F}) -> ({F}, {B})
        %s = graph.silu %x : ({F}) -> {F}
        %y = graph.cast %s : ({F}) -> {B}
        func.return %s, %y : {F}, {B}""",
        "canonicalize",
    )


@pytest.mark.parametrize(
    "ops",
    [
        f"%s = graph.reshape %x {{shape = array<i64: 8, {OPEN}>}} : ({F}) -> tensor<8x?xf32>",
        "%s = graph.constant {value = 0.1 : f64} : () -> tensor<f32>",
        "%s = graph.cast %n : (tensor<?xi32>) -> tensor<?xf32>",
    ],
    ids=["an op that copies", "a number with more digits", "integers"],
)
def test_not_rounded_at_once(ops):
    shape = ops.rpartition("tensor<")[2].removesuffix("f32>")
    kind = f"tensor<{shape}bf16>"
    check_kept(
        f"""(%x: {F}, %n: tensor<?xi32>) -> {kind}
        {ops}
        %y = graph.cast %s : (tensor<{shape}f32>) -> {kind}
        func.return %y : {kind}""",
        "canonicalize",
    )


def test_rounding_stays_in_its_group():
    check_kept(
        f"""(%x: {F}) -> {B}
        %s = graph.silu %x : ({F}) -> {F}
        %y = graph.fused {{kind = "x"}} : () -> {B} {{
          %c = graph.cast %s : ({F}) -> {B}
          graph.yield %c : ({B}) -> ()
        }}
        func.return %y : {B}""",
        "canonicalize",
    )


# ---- order of visits ---------------------------------------------------------------------------


@pytest.mark.parametrize("ops", [*TO_X.values(), *KEPT.values()], ids=[*TO_X, *KEPT])
def test_the_order_of_visits_does_not_matter(ops):
    results = []
    for reverse in (False, True):
        module = module_of(one(ops))
        rewrite(context(), module, [pattern() for pattern in PATTERNS], reverse=reverse)
        results.append(text_of(module))
    assert results[0] == results[1]


def test_patterns_are_counted():
    report = check(one(TO_X["two transposes that cancel"]), "canonicalize", IDENTITY)
    patterns = report.passes[0].patterns
    assert patterns == {"SameOrder": 1, "TransposeOfTranspose": 1, "remove dead op": 1}
