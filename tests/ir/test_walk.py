"""The walker sees through groups; `captured` finds what a group reads from above."""

from supertile.ir.text import HEADER, parse_module
from supertile.ir.walk import captured, is_state, operations

F, S = "tensor<?x4xf32>", "tensor<?x8x4xf32>"
N = "tensor<?xi32>"
KIND = '#graph.state<"ring", "recent", [8]>'
TEXT = f"""{HEADER}
func.func @f(%x: {F}, %y: {F}, %i: {N}, %s: {S} {{graph.state = {KIND}}}) -> ({F}, {S}) {{
  %a = graph.exp %x : ({F}) -> {F}
  %g, %k = graph.fused {{kind = "outer"}} : () -> ({F}, {S}) {{
    %b = graph.add %y, %a : ({F}, {F}) -> {F}
    %h = graph.fused {{kind = "inner"}} : () -> {F} {{
      %c = graph.add %b, %x : ({F}, {F}) -> {F}
      %d = graph.add %c, %y : ({F}, {F}) -> {F}
      graph.yield %d : ({F}) -> ()
    }}
    %v, %t = graph.append %s, %h, %i, %i, %i {{kind = {KIND}}}
      : ({S}, {F}, {N}, {N}, {N}) -> (tensor<?x?x4xf32>, {S})
    graph.yield %h, %t : ({F}, {S}) -> ()
  }}
  %e = graph.silu %g : ({F}) -> {F}
  func.return %e, %k : {F}, {S}
}}"""


def function():
    return next(iter(parse_module(TEXT).ops))


def names(values) -> str:
    return " ".join(value.name_hint for value in values)


def op_names(ops) -> str:
    return " ".join(op.name.split(".")[1] for op in ops)


def groups():
    return {op.kind.data: op for op in operations(function(), groups=True) if "fused" in op.name}


def test_groups_read_as_their_ops():
    assert op_names(operations(function())) == "exp add add add append silu return"


def test_groups_are_seen_when_asked_for():
    assert op_names(operations(function(), groups=True)) == (
        "exp fused add fused add add yield append yield silu return"
    )


def test_a_group_itself_can_be_walked():
    assert op_names(operations(groups()["inner"])) == "add add"


def test_captured_values_in_the_order_of_first_use():
    assert names(captured(groups()["outer"])) == "y a x s i"
    assert names(captured(groups()["inner"])) == "b x y"


def test_states():
    f = function()
    results = [value for op in operations(f, groups=True) for value in op.results]
    states = [value for value in [*f.body.block.args, *results] if is_state(value)]
    assert names(states) == "s k t"
