"""IR text: exact round trips, and errors that point at the text."""

import pytest
from hypothesis import given, settings, strategies as st
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, bf16, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from supertile.ir import graph, text
from supertile.ir.errors import UserError
from supertile.ir.locations import at, location_text
from supertile.ir.text import HEADER, context, parse_module, print_module
from supertile.ir.types import DYNAMIC, StateAttr, f4e2m1, f8e8m0, tensor

F, G = "tensor<?x4xf32>", "tensor<?x5xf32>"
BODY = f"""builtin.module {{
  func.func @f(%x: {F} loc("m.st":1:2), %w: tensor<8x4xf32> {{graph.sizes = ["N", "D"]}}) -> {F} {{
    %q = graph.rms_norm %x {{eps = 1.000000e-06 : f64}} : ({F}) -> {F} loc("a.q"("m.st":3:4))
    %g = graph.fused {{kind = "x"}} : () -> {F} {{
      %z = graph.silu %q : ({F}) -> {F}
      graph.yield %z : ({F}) -> ()
    }}
    func.return %g : {F}
  }}
}}
"""
TEXT = f"{HEADER}\n{BODY}"


# ---- round trips -------------------------------------------------------------------------------


def test_text_round_trips_exactly():
    printed = print_module(parse_module(TEXT, "first.mlir"))
    assert print_module(parse_module(printed, "second.mlir")) == printed
    assert printed.startswith(HEADER + "\n")
    assert 'loc("a.q"("m.st":3:4))' in printed


def test_ops_without_a_location_stand_where_they_are_in_the_text():
    module = parse_module(TEXT, "hand.mlir")
    silu = next(op for op in module.walk() if op.name == "graph.silu")
    assert location_text(silu.location) == "hand.mlir:6:7"


def test_an_unknown_location_stays_unknown():
    with_unknown = TEXT.replace(f"({F}) -> {F}\n", f"({F}) -> {F} loc(unknown)\n")
    module = parse_module(with_unknown, verify=False)
    assert "loc(unknown)" in print_module(module)
    assert print_module(parse_module(print_module(module), verify=False)) == print_module(module)


def test_without_locations():
    bare = print_module(parse_module(TEXT), locations=False)
    assert "loc(" not in bare
    assert print_module(parse_module(bare), locations=False) == bare


def test_a_context_knows_our_dialects_alone():
    ours = {"graph", "comm", "tile", "sched"}
    assert {one.name for one in context().loaded_dialects} == {"builtin", "func", *ours}


UNARY = (graph.Exp, graph.Silu, graph.Negate, graph.Softmax, graph.Cast)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text("abcxyz.", min_size=1, max_size=6)


@st.composite
def modules(draw):
    """A module of one function: a chain of ops with drawn types, numbers, names and locations."""
    sizes = st.sampled_from([DYNAMIC, 1, 8])
    shape = draw(st.lists(sizes, max_size=3))
    state = StateAttr.of("ring", "recent", [draw(st.integers(1, 9))])
    kinds = [tensor(shape, f32), graph.scaled_type([8, 64], f4e2m1, (1, 32))]
    block = Block(arg_types=kinds)
    value = block.args[0]
    for _ in range(draw(st.integers(0, 5))):
        element = draw(st.sampled_from([f32, bf16]))
        if draw(st.booleans()):
            op = graph.create(draw(st.sampled_from(UNARY)), [value], element=element)
        else:
            op = graph.create(graph.RmsNorm, [value, []], element=element, eps=draw(NUMBERS))
        op.location = at("m.st", draw(st.integers(0, 99)), 1, draw(st.just("") | NAMES))
        op.results[0].name_hint = draw(st.none() | st.sampled_from(["x", "q", "a_1"]))
        block.add_op(op)
        value = op.results[0]
    last = ReturnOp(value)
    last.location = at("m.st", 100, 1)
    block.add_op(last)
    attributes = [DictionaryAttr({"graph.sizes": ArrayAttr([StringAttr("T")])}), DictionaryAttr({})]
    if draw(st.booleans()):
        attributes[1] = DictionaryAttr({"graph.state": state})
    function = FuncOp(
        draw(NAMES.filter(lambda name: name[0] != ".")),
        (kinds, [value.type]),
        Region(block),
        arg_attrs=ArrayAttr(attributes),
    )
    function.location = at("m.st", 1, 1)
    return ModuleOp([function])


@given(modules())
def test_any_module_round_trips(module):
    assert f8e8m0 in (module.body.block.first_op.body.block.args[1].type.encoding.scale,)
    printed = print_module(module)
    parsed = parse_module(printed)
    assert print_module(parsed) == printed
    assert parsed.is_structurally_equivalent(module)
    assert print_module(module.clone()) == printed


# ---- errors ------------------------------------------------------------------------------------

# old text -> new text, code, line and column of the caret, a part of the paragraph
MISTAKES = [
    (HEADER, "// supertile IR 99", "ir.version", 1, 1, "'// supertile IR 1'"),
    (HEADER + "\n", "", "ir.version", 1, 1, "builtin.module {"),
    ("rms_norm %x", "rms_norm %xx", "ir.undefined", 4, 25, "did you mean %x?"),
    ("graph.silu", "graph.sillu", "ir.syntax", 6, 24, "did you mean graph.silu?"),
    ("graph.silu %q", "graph.silu %g", "ir.invalid", 6, 7, "operand 0, %g, is not defined above"),
    ("1.000000e-06 : f64", "", "ir.syntax", 4, 35, "expected"),
    (f"silu %q : ({F}) -> {F}", f"silu %q : ({F}) -> {G}", "ir.syntax", 7, 0, "previously used"),
    (f"({F}) -> ()", f"({F}) -> {F}", "ir.invalid", 7, 7, "Expected 0"),
    ("graph.yield %z", "graph.yeld %z", "ir.syntax", 7, 18, "no op graph.yeld"),
    ("eps = 1.0", "eps = 1.0, eps = 1.0", "ir.syntax", 4, 0, "Duplicate key"),
    ('{kind = "x"}', "{}", "ir.invalid", 5, 5, "kind"),
    ("@f(", "@f(((", "ir.syntax", 3, 0, "type expected"),
    ("tensor<8x4xf32>", "tensor<8x4xf33>", "ir.syntax", 3, 0, "f33"),
    ('loc("m.st":1:2)', 'loc("m.st":1:)', "ir.syntax", 3, 0, ""),
    ("tensor<8x4xf32>", f"tensor<{'9' * 5000}x4xf32>", "ir.syntax", 3, 0, ""),
    (BODY, "", "ir.syntax", 2, 1, "an op is expected"),
    ('"m.st":3:4', '"' + "m" * 99, "ir.syntax", 4, 0, "quotes does not end"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(mistake):
    old, new, code, line, column, part = mistake
    assert old in TEXT
    with pytest.raises(UserError) as caught:
        parse_module(TEXT.replace(old, new, 1), "my.mlir")
    error = caught.value
    assert error.code == code
    assert (error.spot.file, error.spot.line) == ("my.mlir", line)
    assert error.spot.column == column or column == 0
    assert part in str(error)
    assert len(str(error).splitlines()) <= 6, "one paragraph, no module dump"


@pytest.mark.parametrize(
    "deep",
    [
        "builtin.module {" * 2000,
        "builtin.module attributes {a = " + "[" * 20000,
        'func.func @f() { %a = graph.fused {kind = "x"} : () -> () {' + "{" * 100,
    ],
)
def test_deep_nesting(deep):
    with pytest.raises(UserError):
        parse_module(f"{HEADER}\n{deep}")


def test_too_large(monkeypatch):
    monkeypatch.setattr(text, "SIZE_LIMIT", 10)
    with pytest.raises(UserError, match="at most 10 characters"):
        parse_module(TEXT)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_is_a_user_error(data):
    """Cut, doubled or replaced anywhere, the text is parsed or refused, never a traceback."""
    start = data.draw(st.integers(len(HEADER) + 1, len(TEXT)))
    end = data.draw(st.integers(start, min(len(TEXT), start + 30)))
    patch = data.draw(st.text('%@#!<>{}()[]:"xf3é\0\\-', max_size=5) | st.just(TEXT[start:end] * 2))
    try:
        parse_module(TEXT[:start] + patch + TEXT[end:])
    except UserError as error:
        assert len(str(error)) < 2500
