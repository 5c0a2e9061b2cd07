"""The NumPy plan as text: the calls that run, in order, with their registers and last uses."""

import re

import pytest

from supertile.cli.inputs import config_path, model_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config, shrink
from supertile.ir import graph
from supertile.ir.text import parse_module
from supertile.runtime.plan import plan_module
from supertile.targets.numpy.plan_text import plan_text

MODELS = {"llama": "llama_3_1_8b", "deepseek_v4": "deepseek_v4_pro"}
ROWS = "tensor<?x4xf32>"
MODULE = f"""// supertile IR 1
builtin.module attributes {{supertile.entries = ["logits"], supertile.numerics = "reference"}} {{
  func.func @logits(%x: {ROWS} {{graph.name = "x", graph.sizes = ["T", "4"]}}) -> {ROWS} {{
    %w = graph.weight {{checkpoint = "w"}} : () -> tensor<4x4xf32> loc("m.st":1:1)
    %two = graph.constant {{value = 2.0 : f64}} : () -> tensor<f32> loc("m.st":2:1)
    %y = graph.linear %x, %w : ({ROWS}, tensor<4x4xf32>) -> {ROWS} loc("y"("m.st":3:1))
    %z = graph.multiply %y, %two : ({ROWS}, tensor<f32>) -> {ROWS} loc("m.st":4:1)
    func.return %z : {ROWS} loc("m.st":5:1)
  }} loc("m.st":1:1)
}} loc("m.st":1:1)
"""
TEXT = """\
# NumPy plan, numerics reference, entries logits

function logits: 4 calls, 4 registers
  argument %0 x          f32[T, 4]
  %1 = weight w          f32[4, 4]  m.st:1
  %2 = 2.0                          m.st:2
  %3 = linear(%0, %1)    f32[T, 4]  m.st:3  y  free %0 %1
  %0 = multiply(%3, %2)  f32[T, 4]  m.st:4     free %3 %2
  return %0
"""


def test_text():
    assert plan_text(plan_module(parse_module(MODULE))) == TEXT


@pytest.mark.parametrize("model, config", MODELS.items())
def test_a_model(model, config):
    """Every call is on a line of its own, and reads registers that hold something."""
    module = build_model(model_path(model), shrink(read_config(config_path(config))))
    plan = plan_module(module)
    text = plan_text(plan)
    functions = text.split("\n\n")[1:]
    assert len(functions) == len(plan.functions)
    for part, function in zip(functions, plan.functions.values(), strict=True):
        calls = re.findall(r"^  (%[^=]*) = (.*)$", part, re.MULTILINE)
        assert len(calls) == len(function.steps)
        held = set(re.findall(r"argument (%\d+) ", part))
        for (outputs, call), step in zip(calls, function.steps, strict=True):
            body, _, frees = call.partition("free ")
            if not isinstance(step.op, graph.Constant):
                assert set(re.findall(r"%\d+", body)) <= held
            held |= set(outputs.split(", "))
            held -= set(frees.split()) - set(outputs.split(", ")) if frees else set()
        assert set(re.search(r"return (.*)", part)[1].split()) <= held


def test_states_are_marked():
    config = shrink(read_config(config_path("deepseek_v4_pro")))
    text = plan_text(plan_module(build_model(model_path("deepseek_v4"), config)))
    states = re.findall(r"argument %\d+ (\S+) +(\S.*\]) +state, (\w+)", text)
    assert {kind for _, _, kind in states} == {"ring", "blocks", "partial"}
    assert all("B" in shape for _, shape, _ in states)
