"""Sizes that specialize fixes, and how they travel through ops, groups, calls and returns."""

import pytest
from pass_checks import check, check_kept, module_of, run, text_of

from supertile.ir.errors import UserError
from supertile.ir.text import parse_module, print_module

BODY = """func.func @f(%x: tensor<?x8xf32> {graph.sizes = ["T", "D"]},
           %s: tensor<?x?x8xf32> {graph.sizes = ["B", "S:4", "D"]}) -> tensor<?x16xf32> {
    %g = graph.fused {kind = "x"} : () -> tensor<?x8xf32> {
      %e = graph.exp %x : (tensor<?x8xf32>) -> tensor<?x8xf32>
      graph.yield %e : (tensor<?x8xf32>) -> ()
    }
    %r = graph.reshape %g {shape = array<i64: -1, 2, 4>} : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
    %n = graph.negate %s : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %t = graph.transpose %n {permutation = array<i64: 1, 0, 2>}
      : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %m = graph.reshape %t {shape = array<i64: -1, -1, 8>} : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %w = graph.weight {checkpoint = "w"} : () -> tensor<16x8xf32>
    %y = graph.linear %g, %w : (tensor<?x8xf32>, tensor<16x8xf32>) -> tensor<?x16xf32>
    func.return %y : tensor<?x16xf32>
}"""


def test_nothing_without_options():
    check_kept(BODY, "specialize")


def test_tokens_reach_groups_reshapes_and_the_result():
    after = (
        BODY.replace("tensor<?x8xf32>", "tensor<5x8xf32>")
        .replace("tensor<?x16xf32>", "tensor<5x16xf32>")
        .replace("tensor<?x2x4xf32>", "tensor<5x2x4xf32>")
        .replace("-1, 2, 4", "5, 2, 4")
    )
    check(BODY, "specialize{tokens=5}", after)


def test_one_of_two_open_sizes():
    """The open size that is left stands where the transpose moved it."""
    text, _ = run(BODY, "specialize{batch=3}")
    assert "%n = graph.negate %s : (tensor<3x?x8xf32>) -> tensor<3x?x8xf32>" in text
    assert "array<i64: -1, 3, 8>} : (tensor<?x3x8xf32>) -> tensor<?x3x8xf32>" in text


@pytest.mark.parametrize(("context", "capacity"), [(1, 1), (8, 2), (9, 3)])
def test_capacity_is_rounded_up(context, capacity):
    text, _ = run(BODY, f"specialize{{context={context}}}")
    assert f"%s: tensor<?x{capacity}x8xf32>" in text


def test_twice_is_once():
    once, _ = run(BODY, "specialize{tokens=5 batch=2 context=64}")
    twice, report = run(BODY, "specialize{tokens=5 batch=2 context=64}," * 2 + "canonicalize")
    assert report.passes[1].changed == []
    assert text_of(parse_module(print_module(module_of(BODY)))) != once
    assert run(BODY, "specialize{tokens=5 batch=2 context=64},canonicalize")[0] == twice


LAYERS = """
func.func @layer(%x: tensor<?x8xf32> {graph.sizes = ["T", "D"]},
                 %p: tensor<?xi32> {graph.sizes = ["T"]}, %l: index,
                 %s: tensor<?x8x8xf32> {graph.sizes = ["B", "W", "D"],
                   graph.state = #graph.state<"ring", "recent", [8]>})
    -> (tensor<?x8xf32>, tensor<?x8x8xf32>) {
  %y = graph.exp %x : (tensor<?x8xf32>) -> tensor<?x8xf32>
  func.return %y, %s : tensor<?x8xf32>, tensor<?x8x8xf32>
}
func.func @logits(%ids: tensor<?x8xf32> {graph.sizes = ["T", "D"]},
                  %p: tensor<?xi32> {graph.sizes = ["T"]},
                  %s: tensor<2x?x8x8xf32> {graph.sizes = ["L", "B", "W", "D"],
                    graph.state = #graph.state<"ring", "recent", [8]>})
    -> (tensor<?x8xf32>, tensor<2x?x8x8xf32>) {
  %y, %t = graph.layers %ids, %p, %s {functions = [@layer], kinds = array<i64: 0, 0>,
      uses = [array<i64: 0>], label = "layers",
      operandSegmentSizes = array<i32: 1, 1, 1>}
    : (tensor<?x8xf32>, tensor<?xi32>, tensor<2x?x8x8xf32>)
    -> (tensor<?x8xf32>, tensor<2x?x8x8xf32>)
  func.return %y, %t : tensor<?x8xf32>, tensor<2x?x8x8xf32>
}"""


def test_layers_and_their_functions():
    after = (
        LAYERS.replace("tensor<?x8xf32>", "tensor<4x8xf32>")
        .replace("tensor<?xi32>", "tensor<4xi32>")
        .replace("tensor<?x8x8xf32>", "tensor<3x8x8xf32>")
        .replace("tensor<2x?x8x8xf32>", "tensor<2x3x8x8xf32>")
    )
    check(LAYERS, "specialize{tokens=4 batch=3}", after)


def test_locations_of_arguments_stay():
    module = module_of(
        '(%x: tensor<?xf32> {graph.sizes = ["T"]} loc("m.st":3:4)) -> tensor<?xf32>'
        "\nfunc.return %x : tensor<?xf32>"
    )
    from supertile.passes.driver import run_passes
    from supertile.passes.specialize import Specialize

    run_passes(module, [Specialize(tokens=2)])
    assert '%x: tensor<2xf32> {graph.sizes = ["T"]} loc("m.st":3:4)' in print_module(module)


@pytest.mark.parametrize(
    ("pipeline", "code"),
    [
        ("specialize{tokens=0}", "pass.option_value"),
        ("specialize{batch=-1}", "pass.option_value"),
        ("specialize{tokens=2},specialize{tokens=3}", "pass.size_conflict"),
    ],
)
def test_wrong_sizes(pipeline, code):
    with pytest.raises(UserError) as caught:
        run(BODY, pipeline)
    assert caught.value.code == code


def test_sizes_that_an_op_cannot_take():
    body = """(%x: tensor<?x?xf32> {graph.sizes = ["T", "S:1"]}) -> tensor<?x8xi32>
        %y = graph.top_k %x {k = 8} : (tensor<?x?xf32>) -> tensor<?x8xi32> loc("k"("m.st":9:5))
        func.return %y : tensor<?x8xi32>"""
    with pytest.raises(UserError) as caught:
        run(body, "specialize{context=4}")
    assert caught.value.code == "pass.size_fit"
    assert "graph.top_k at m.st:9:5 (k)" in str(caught.value)
