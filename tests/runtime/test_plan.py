"""Plans: calls in order, registers that are used again, names, and what each entry reads."""

from itertools import pairwise

import pytest
from small_models import planned, small_module

from supertile.runtime.plan import FunctionPlan, Step, plan_module

F = "tensor<?x4xf32>"
UNARY = f"({F}) -> {F}"
BINARY = f"({F}, {F}) -> {F}"
ARGUMENT = f'%x: {F} {{graph.name = "x", graph.sizes = ["T", "4"]}}'


def function(body: str, result: str = "%y") -> FunctionPlan:
    text = f"func.func @f({ARGUMENT}) -> {F} {{\n{body}\nfunc.return {result} : {F}\n}}"
    return planned(text).functions["f"]


def shown(step: Step) -> str:
    """`%2 = add(%0, %1) free %0`"""
    inputs = ", ".join(f"%{register}" for register in step.inputs)
    outputs = " ".join(f"%{register}" for register in step.outputs)
    frees = "".join(f" %{register}" for register in step.frees)
    free = f" free{frees}" if frees else ""
    return f"{outputs} = {step.op.name.removeprefix('graph.')}({inputs}){free}"


CHAIN = f"""
%a = graph.exp %x : {UNARY}
%b = graph.silu %a : {UNARY}
%c = graph.add %b, %x : {BINARY}
%y = graph.relu %c : {UNARY}"""


def test_a_register_is_free_after_its_last_use() -> None:
    assert [shown(step) for step in function(CHAIN).steps] == [
        "%1 = exp(%0)",
        "%2 = silu(%1) free %1",
        "%1 = add(%2, %0) free %2 %0",
        "%2 = relu(%1) free %1",
    ]


def test_a_long_chain_needs_two_registers() -> None:
    names = ["%x", *(f"%v{i}" for i in range(30))]
    body = "\n".join(f"{b} = graph.exp {a} : {UNARY}" for a, b in pairwise(names))
    assert function(body, names[-1]).registers == 2


def test_a_value_that_nothing_uses_is_dropped_at_once() -> None:
    steps = function(f"%a = graph.exp %x : {UNARY}\n%y = graph.silu %x : {UNARY}").steps
    assert [shown(step) for step in steps] == ["%1 = exp(%0) free %1", "%1 = silu(%0) free %0"]


def test_results_are_kept_to_the_end() -> None:
    plan = function(f"%y = graph.exp %x : {UNARY}\n%a = graph.silu %y : {UNARY}")
    assert [shown(step) for step in plan.steps] == ["%1 = exp(%0) free %0", "%0 = silu(%1) free %0"]
    assert plan.results == (1,)


def test_an_operand_used_twice_is_freed_once() -> None:
    (step,) = function(f"%y = graph.multiply %x, %x : {BINARY}").steps
    assert shown(step) == "%1 = multiply(%0, %0) free %0"


def test_fused_groups_run_as_the_ops_in_them() -> None:
    body = f"""
    %g = graph.fused {{kind = "elementwise"}} : () -> {F} {{
      %a = graph.exp %x : {UNARY}
      %b = graph.silu %a : {UNARY}
      graph.yield %b : ({F}) -> ()
    }}
    %y = graph.relu %g : {UNARY}"""
    assert [shown(step) for step in function(body).steps] == [
        "%1 = exp(%0) free %0",
        "%0 = silu(%1) free %1",
        "%1 = relu(%0) free %0",
    ]


def test_steps_know_names_lines_and_roundings() -> None:
    narrow = "tensor<?x4xbf16>"
    body = f"""
    %a = graph.exp %x : {UNARY} loc("hidden"("m.st":3:4))
    %b = graph.cast %a : ({F}) -> {narrow} loc("m.st":5:6)
    %y = graph.cast %b : ({narrow}) -> {F}"""
    first, second, third = function(body).steps
    assert (first.name, first.source, first.rounds) == ("hidden", "m.st:3", None)
    assert (second.name, second.source, second.rounds) == (None, "m.st:5", "bf16")
    assert third.rounds is None


def test_what_is_copied_is_not_rounded_again() -> None:
    text = """func.func @f(%x: tensor<2x4xbf16>) -> tensor<8xbf16> {
      %y = graph.reshape %x {shape = array<i64: 8>} : (tensor<2x4xbf16>) -> tensor<8xbf16>
      func.return %y : tensor<8xbf16>
    }"""
    (step,) = planned(text).functions["f"].steps
    assert step.rounds is None


@pytest.fixture
def small(tmp_path_factory):  # type: ignore[no-untyped-def]
    return plan_module(small_module(tmp_path_factory.getbasetemp()))


def test_arguments_name_their_axes_and_state(small) -> None:  # type: ignore[no-untyped-def]
    logits = small.functions["logits"]
    assert [argument.name for argument in logits.states] == [
        "layers.recent",
        "layers.pool",
        "layers.pairs",
    ]
    assert [argument.axes[1:3] for argument in logits.states] == [
        ("B", "3"),
        ("B", "2"),
        ("B", "S:2"),
    ]
    assert logits.result_names == ("logits", "streams")


def test_weights_come_with_the_layers_that_read_them(small) -> None:  # type: ignore[no-untyped-def]
    weights = {use.pattern: layers for use, layers in small.weights_of("logits")}
    assert weights == {"embed": [], "layers.{l}.scale": [0, 1], "layers.{l}.gates": [0, 1]}
    assert [use.pattern for use, _ in small.weights_of("draft")] == ["embed"]


def test_names_of_values_tell_entries_and_layers_apart(small) -> None:  # type: ignore[no-untyped-def]
    logits, draft = (list(small.value_names(entry)) for entry in small.entries)
    assert logits[:3] == ["x", "layers.0.near", "layers.0.pooled"]
    assert logits[-2:] == ["streams", "logits"]
    assert draft == ["draft.x", "draft.keys", "draft.seen", "draft.logits"]
