"""Every rule of the verifier, by a module that breaks it."""

import pytest

from supertile.ir.levels import LEVELS, later, level_of
from supertile.ir.text import HEADER, parse_module
from supertile.ir.verify import CONTEXT_LINES, VerifyError, verify_module

F, S, N = "tensor<?x4xf32>", "tensor<?x8x4xf32>", "tensor<?xi32>"
KIND = '#graph.state<"ring", "recent", [8]>'
APPEND = f"{{kind = {KIND}}} : ({S}, {F}, {N}, {N}, {N}) -> (tensor<?x?x4xf32>, {S})"
STATE = f"%s: {S} {{graph.state = {KIND}}}"


def module_of(text: str):
    return parse_module(f"{HEADER}\n{text}", "test.mlir", verify=False)


def function(body: str, arguments: str = f"%x: {F}", results: str = F) -> str:
    return f"func.func @f({arguments}) -> {results} {{\n{body}\n}}"


def fails(text: str, level: str | None = "fused", changed: set[str] | None = None) -> VerifyError:
    module = module_of(text)
    with pytest.raises(VerifyError) as caught:
        verify_module(module, level, changed)
    return caught.value


SILU = f"%y = graph.silu %x : ({F}) -> {F}"
GROUP = f"""%g = graph.fused {{kind = "x"}} : () -> {F} {{
    {SILU}
    graph.yield %y : ({F}) -> ()
  }}"""
RETURN = f"func.return %y : {F}"
RETURN_X = f"func.return %x : {F}"


def test_sound_ir():
    verify_module(module_of(function(f"{SILU}\n{RETURN}")), "graph")
    verify_module(module_of(function(f"{GROUP}\nfunc.return %g : {F}")), "fused")


def test_the_error_says_what_where_and_shows_the_ir():
    wrong = f'%y = graph.silu %x : ({F}) -> tensor<?x5xf32> loc("q"("m.st":3:4))'
    many = "\n".join(f"%e{i} = graph.exp %x : ({F}) -> {F}" for i in range(50))
    error = fails(function(f"{many}\n{wrong}\n{many.replace('%e', '%d')}\n{RETURN_X}"))
    assert (error.op, error.function, error.location) == ("graph.silu", "f", "m.st:3:4 (q)")
    assert error.message == "result 0 of graph.silu has shape [?, 5], the operands give [?, 4]"
    lines = str(error).splitlines()
    assert lines[0].startswith("graph.silu in @f, from m.st:3:4 (q): result 0")
    assert len(lines) == CONTEXT_LINES + 1
    (marked,) = [line for line in lines if line.startswith(">")]
    assert "graph.silu" in marked


@pytest.mark.parametrize(
    "body",
    [
        f"{SILU.replace('%x', '%z')}\n%z = graph.exp %x : ({F}) -> {F}\n{RETURN}",
        f"{SILU.replace('%x', '%y')}\n{RETURN}",
        f"{GROUP.replace('%x', '%z')}\n%z = graph.exp %x : ({F}) -> {F}\nfunc.return %g : {F}",
        f"{GROUP.replace('%x', '%g')}\nfunc.return %g : {F}",
    ],
    ids=["used above", "used by itself", "used in a group above", "a group's own result"],
)
def test_order(body):
    assert "is not defined above" in fails(function(body)).message


def test_values_of_a_group_are_not_seen_outside():
    module = module_of(function(f"{GROUP}\n%z = graph.exp %g : ({F}) -> {F}\nfunc.return %z : {F}"))
    group, outside, _ = next(iter(module.ops)).body.block.ops
    outside.operands[0] = group.body.block.first_op.results[0]
    with pytest.raises(VerifyError, match="%y, is not defined above"):
        verify_module(module, "fused")


def test_levels():
    text = function(f"{GROUP}\nfunc.return %g : {F}")
    error = fails(text, "graph")
    assert (error.op, error.message) == ("graph.fused", "the level graph does not hold this op")
    verify_module(module_of(text), None)
    assert level_of(module_of(text)) == "fused"
    assert level_of(module_of(function(f"{SILU}\n{RETURN}"))) == "graph"
    assert later("fused", "graph") == "fused"
    assert list(LEVELS) == ["graph", "placed", "fused", "tiled", "scheduled"]


TWICE = f"""%v, %k = graph.append %s, %x, %i, %i, %i {APPEND}
  %w, %l = graph.append @, %x, %i, %i, %i {APPEND}
  func.return %k, %l : {S}, {S}"""


@pytest.mark.parametrize(("value", "uses"), [("%s", "%s"), ("%k", "%k")])
def test_state_is_used_once(value, uses):
    arguments = f"%x: {F}, %i: {N}, {STATE}"
    error = fails(function(TWICE.replace("@", value), arguments, f"({S}, {S})"))
    assert error.message == f"{uses} is a version of the state and is used 2 times"


def test_a_use_in_a_group_counts():
    body = f"""%g, %h = graph.fused {{kind = "x"}} : () -> ({S}, {S}) {{
        %v, %k = graph.append %s, %x, %i, %i, %i {APPEND}
        graph.yield %k, %k : ({S}, {S}) -> ()
      }}
      func.return %g, %h : {S}, {S}"""
    arguments = f"%x: {F}, %i: {N}, {STATE}"
    assert "%k is a version" in fails(function(body, arguments, f"({S}, {S})")).message
    twice = body.replace("%g, %h =", "%g =").replace("-> (" + S + ", " + S + ") {", f"-> {S} {{")
    twice = twice.replace(f"%k, %k : ({S}, {S})", f"%k : ({S})").replace("%g, %h :", "%g, %g :")
    assert "%g is a version" in fails(function(twice, arguments, f"({S}, {S})")).message


def test_locations():
    error = fails(function(f"{SILU} loc(unknown)\n{RETURN}"))
    assert (error.op, error.message) == ("graph.silu", "the op has no source location")
    assert fails(function(f'{SILU} loc("name")\n{RETURN}')).message == error.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (function(SILU), "a region is one block with a terminator"),
        (function(""), "a region is one block with a terminator"),
        (f"func.func @f() -> {F}", "a region is one block with a terminator"),
        (function(f"{SILU}\n{RETURN}") * 2, "two functions @f"),
        (
            "builtin.module {\nbuiltin.module {\n}\n}",
            "a module holds functions, kernels and programs only",
        ),
        (function(f"{SILU}\n{RETURN}", results="tensor<?x5xf32>"), "the function output types"),
    ],
    ids=["no return", "empty", "no body", "two of a name", "a module within", "return type"],
)
def test_structure(text, message):
    assert message in fails(text).message


def test_only_what_changed_is_looked_into():
    text = function(f"{SILU} loc(unknown)\n{RETURN}")
    verify_module(module_of(text), "graph", set())
    assert fails(text, "graph", {"f"})


# ---- graph.layers ------------------------------------------------------------------------------

CALL = f"""
func.func @layer(%x: {F}, %i: {N}, %l: index, {STATE}) -> ({F}, {S}) {{
  {SILU}
  func.return %y, %s : {F}, {S}
}}
func.func @main(%x: {F}, %i: {N}, %s: tensor<2x?x8x4xf32>) -> {F} {{
  %y, %t = graph.layers %x, %i, %s {{functions = [@layer], kinds = array<i64: 0, 0>, label = "l",
      uses = [array<i64: 0>], operandSegmentSizes = array<i32: 1, 1, 1>}}
    : ({F}, {N}, tensor<2x?x8x4xf32>) -> ({F}, tensor<2x?x8x4xf32>)
  func.return %y : {F}
}}"""


def test_a_sound_call():
    verify_module(module_of(CALL), "graph")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[@layer]", "[@leyer]", "there is no function @leyer"),
        ("[array<i64: 0>]", "[array<i64: 1>]", "uses name 1 stacks"),
        ("[array<i64: 0>]", "[]", "1 functions but 0 lists of uses"),
        ("[array<i64: 0>]", "[array<i64>]", "@layer has 4 arguments, the layers 3"),
        ("array<i64: 0, 0>", "array<i64: 0, 1>", "kinds are 0 to 0, got [0, 1]"),
        ("array<i64: 0, 0>", "array<i64: 0, 0, 0>", "stack 0 has 2 rows, 3 layers use it"),
        (f"@layer(%x: {F}, %i: {N}", f"@layer(%x: {F}, %i: tensor<?xf32>", "arguments 1 of @layer"),
        ("%l: index", "%l: tensor<1xi32>", "arguments 2 of @layer"),
    ],
)
def test_a_call_that_does_not_fit(old, new, message):
    assert old in CALL
    # The caller has not changed: it is looked at all the same.
    error = fails(CALL.replace(old, new), "graph", {"layer"})
    assert error.op == "graph.layers"
    assert message in error.message


def test_stack_results_are_states():
    stack = "tensor<?x?x8x4xf32>"
    text = CALL.replace("tensor<2x?x8x4xf32>", stack)
    text = text.replace(f"%s: {stack}) -> {F}", f"%s: {stack}) -> ({F}, {stack}, {stack})")
    text = text.replace(
        f"func.return %y : {F}\n", f"func.return %y, %t, %t : {F}, {stack}, {stack}\n"
    )
    assert "%t is a version of the state and is used 2 times" in fails(text, "graph").message
