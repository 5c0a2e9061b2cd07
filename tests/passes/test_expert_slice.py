"""Experts cut out of a module: the ops from dispatch to combine, which all layers have alike."""

from __future__ import annotations

import pytest
from deployed_models import graph_module
from xdsl.dialects.builtin import FloatAttr, f64
from xdsl.dialects.func import FuncOp, ReturnOp

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.expert_layer import expert_layer
from supertile.ir.verify import verify_module
from supertile.passes.expert_slice import ENTRY, expert_slice


@pytest.mark.parametrize("config", ["deepseek_v4_pro", "deepseek_v3", "qwen3_30b_a3b"])
def test_the_slice_is_a_module_of_the_experts_alone(config: str) -> None:
    module = graph_module(config)
    before = str(module)
    experts = expert_slice(module)
    verify_module(experts, "graph")
    (function,) = experts.ops
    assert isinstance(function, FuncOp) and function.sym_name.data == ENTRY
    ops = list(function.body.block.ops)
    assert [type(op) for op in ops[-2:]] == [graph.Combine, ReturnOp]
    assert not any(isinstance(op, graph.TopK | graph.Attend | graph.Layers) for op in ops)
    whole, part = expert_layer(module), expert_layer(experts)
    assert whole is not None and part is not None
    for size in ("row", "expert_bytes", "flops", "choices", "experts", "inner", "element"):
        assert getattr(part, size) == getattr(whole, size)
    assert str(module) == before


def test_layers_whose_experts_compute_something_else_are_refused() -> None:
    """The last kind of layer clamps at another value: one kind of kernels would stand for both."""
    module = graph_module("deepseek_v4_flash").clone()
    last = [op for op in module.walk() if isinstance(op, graph.Dispatch)][-1]
    block = last.parent
    assert block is not None
    following = False
    for op in block.ops:
        following = following or op is last
        if following and isinstance(op, graph.Clamp):
            op.properties["high"] = FloatAttr(11.0, f64)
            break
    with pytest.raises(UserError) as caught:
        expert_slice(module)
    assert caught.value.code == "placement.unlike_kernels"
