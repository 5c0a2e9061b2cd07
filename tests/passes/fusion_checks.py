"""Helpers for tests of fusions: models before and after them, and what they found there."""

from collections import Counter
from functools import cache
from pathlib import Path

from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir import graph
from supertile.ir.text import context
from supertile.passes.pipeline import PIPELINE, parse_pipeline

ROOT = Path(__file__).parents[2]
V4, V3, LLAMA = "deepseek_v4", "deepseek_v3", "llama"
CONFIGS = {
    "pro": (V4, "models/configs/deepseek_v4_pro.json"),
    "flash": (V4, "models/configs/deepseek_v4_flash.json"),
    "small": (V4, "tests/data/deepseek_v4/config.json"),
    "small deployed": (V4, "tests/data/deepseek_v4_deployed/config.json"),
    "v3": (V3, "models/configs/deepseek_v3.json"),
    "llama": (LLAMA, "models/configs/llama_3_1_8b.json"),
}
NUMERICS = ("reference", "deployed")
FUSIONS = ",".join(name for phase, name in PIPELINE if phase == "fused")


@cache
def _graph(config, numerics):
    model, file = CONFIGS[config]
    module = build_model(ROOT / f"models/{model}.st", read_config(ROOT / file), numerics)
    apply(module, "canonicalize,cse")
    return module


@cache
def _fused(config, numerics):
    module = _graph(config, numerics).clone()
    apply(module, FUSIONS)
    return module


def apply(module, pipeline):
    """Run passes without what the driver does around them, which takes longer than they do."""
    for one in parse_pipeline(pipeline):
        one.apply(context(), module)


def graph_of(config, numerics):
    """A model just before fusion; the copy is the caller's."""
    return _graph(config, numerics).clone()


def fused_of(config, numerics):
    """A model after all fusions; the copy is the caller's."""
    return _fused(config, numerics).clone()


def groups_of(config, numerics):
    """function -> kind of group -> how many."""
    return {
        function.sym_name.data: Counter(group.kind.data for group in _groups(function))
        for function in _fused(config, numerics).ops
    }


def outside_of(config, numerics):
    """function -> op -> how many are in no group; weights and the return are never in one."""
    apart = (graph.Fused, graph.Weight)
    return {
        function.sym_name.data: Counter(
            _short(op) for op in list(function.body.block.ops)[:-1] if type(op) not in apart
        )
        for function in _fused(config, numerics).ops
    }


def ops_in(config, numerics, function, kind):
    """The ops of each group of a kind in a function, each as one line of names."""
    found = next(op for op in _fused(config, numerics).ops if op.sym_name.data == function)
    return [
        " ".join(_short(op) for op in list(group.body.block.ops)[:-1])
        for group in _groups(found)
        if group.kind.data == kind
    ]


def kinds_in(module):
    """The kinds of all groups of a module, in order."""
    return [op.kind.data for op in module.walk() if isinstance(op, graph.Fused)]


def _groups(function):
    return [op for op in function.body.block.ops if isinstance(op, graph.Fused)]


def _short(op):
    return op.name.removeprefix("graph.")


def in_dataflow_order(module):
    """The module with the ops of each function in an order that only the use of values decides.

    Two modules that differ in the order of ops alone are equal in it.
    """
    for function in module.ops:
        block = function.body.block
        ordered = {}
        _after_its_producers(block.last_op, ordered)
        assert len(ordered) == len(list(block.ops)), "an op without use has no place in the order"
        for op in ordered:
            block.detach_op(op)
            block.add_op(op)
    return module


def _after_its_producers(op, ordered):
    for value in op.operands:
        producer = value.owner
        if producer.parent is op.parent and producer not in ordered:
            _after_its_producers(producer, ordered)
    ordered.setdefault(op)
