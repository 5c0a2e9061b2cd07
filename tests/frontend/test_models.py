"""The shipped models: that they build under every shipped config, and what they build."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from model_files import model_for
from snippets import DATA
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

import supertile.models
from supertile.frontend.build import NUMERICS, build_model
from supertile.frontend.hf_config import Config, read_config
from supertile.frontend.parse import make_parser
from supertile.frontend.program import load_program
from supertile.frontend.settle import ModelConfig, settle
from supertile.ir.locations import file_line, name_of
from supertile.ir.text import print_module
from supertile.ir.types import is_scaled
from supertile.runtime.plan import plan_module

MODELS = Path(next(iter(supertile.models.__path__)))
CONFIGS = {
    path.stem if path.name != "config.json" else f"case {path.parent.name}": path
    for path in sorted([*MODELS.glob("configs/*.json"), *DATA.glob("*/config.json")])
}
PRO = settle(load_program(MODELS / "deepseek_v4.st"), read_config(CONFIGS["deepseek_v4_pro"]))


def build(config: Config | ModelConfig, numerics: str = "reference") -> ModuleOp:
    return build_model(model_for(config), config, numerics)


@cache
def built(name: str, numerics: str = "reference") -> ModuleOp:
    """The module of a config, shared: tests look at it only."""
    return build(read_config(CONFIGS[name]), numerics)


def pro() -> ModuleOp:
    return built("deepseek_v4_pro")


def count(module: ModuleOp) -> int:
    return sum(op.name.startswith("graph.") for op in module.walk())


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("name", CONFIGS)
def test_builds_and_verifies(name: str, numerics: str) -> None:
    module = built(name, numerics)
    module.verify()
    again = build(read_config(CONFIGS[name]), numerics)
    assert print_module(module) == print_module(again)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_op_is_at_a_line_of_the_model_file(name: str) -> None:
    config = read_config(CONFIGS[name])
    lines = model_for(config).read_text().splitlines()
    for op in built(name).walk():
        place = file_line(op.location)
        assert place is not None and place.filename.data == model_for(config).name
        line = lines[place.line.data - 1]
        assert 1 <= place.column.data <= len(line)
        assert not line[place.column.data - 1].isspace()


def test_the_grammar_has_no_conflicts() -> None:
    make_parser(strict=True)


# ---- DeepSeek-V4-Pro ---------------------------------------------------------------------------


def test_pro_is_small() -> None:
    names = [op.sym_name.data for op in pro().ops if isinstance(op, func.FuncOp)]
    assert names == [
        "logits",
        "draft",
        "layers_hca_hash_router",
        "layers_csa_hash_router",
        "layers_hca_score_router",
        "layers_csa_score_router",
        "mtp_no_entries_score_router",
    ]
    assert count(pro()) < 1000


def test_ops_do_not_grow_with_layers_or_experts() -> None:
    deeper = dataclasses.replace(PRO, layers=PRO.layers + PRO.layers[-4:] * 20)
    wider = dataclasses.replace(PRO, names={**PRO.names, "E": 1024})
    assert count(build(deeper)) == count(build(wider)) == count(pro())


def test_values_bear_the_names_that_traces_use() -> None:
    held = {name_of(op.location) for op in build(PRO, "deployed").walk()}
    assert held >= {
        *("attn_in", "attn_out", "ffn_in", "ffn_out", "attn.kv", "ffn.g", "ffn.router.chosen"),
        *("attn.far.index", "attn.far.score"),
        *("attn.far.compressor.rows", "attn.far.indexer.rows"),
    }


# ---- the names of the checkpoint: DeepSeek-V4, section "Checkpoint" of its release ---------------

EVERY_LAYER = """
    hc_attn_fn hc_attn_base hc_attn_scale hc_ffn_fn hc_ffn_base hc_ffn_scale
    attn_norm.weight ffn_norm.weight attn.attn_sink attn.q_norm.weight attn.kv_norm.weight
    attn.wq_a.weight* attn.wq_b.weight* attn.wkv.weight* attn.wo_a.weight* attn.wo_b.weight*
    ffn.gate.weight ffn.shared_experts.w1.weight* ffn.shared_experts.w2.weight*
    ffn.shared_experts.w3.weight*
"""
COMPRESSED = """
    attn.compressor.ape attn.compressor.wkv.weight attn.compressor.wgate.weight
    attn.compressor.norm.weight
"""
INDEXED = """
    attn.indexer.wq_b.weight* attn.indexer.weights_proj.weight attn.indexer.compressor.ape
    attn.indexer.compressor.norm.weight attn.indexer.compressor.wkv.weight
    attn.indexer.compressor.wgate.weight
"""
MODEL = "embed.weight head.weight norm.weight hc_head_fn hc_head_base hc_head_scale"
DRAFT = """
    mtp.0.e_proj.weight* mtp.0.h_proj.weight* mtp.0.enorm.weight mtp.0.hnorm.weight
    mtp.0.norm.weight mtp.0.hc_head_fn mtp.0.hc_head_base mtp.0.hc_head_scale
"""


def layer_names(prefix: str, row: Any, experts: int) -> list[str]:
    """The tensors of a layer; a star marks those with scales beside them."""
    held = EVERY_LAYER.split()
    held += COMPRESSED.split() if row["ratio"] else []
    held += INDEXED.split() if row["overlap"] else []
    held += ["ffn.gate.tid2eid" if row["router"] == "hash_moe" else "ffn.gate.bias"]
    held += [f"ffn.experts.{e}.w{w}.weight*" for e in range(experts) for w in (1, 2, 3)]
    return [f"{prefix}.{name}" for name in held]


def expected_names(config: ModelConfig) -> Counter[str]:
    experts = config.values["n_routed_experts"]
    assert isinstance(experts, int)
    held = [*MODEL.split(), *DRAFT.split()]
    for number, row in enumerate(config.layers):
        held += layer_names(f"layers.{number}", row, experts)
    for number, row in enumerate(config.draft_layers):
        held += layer_names(f"mtp.{number}", row, experts)
    scales = [re.sub("weight[*]$", "scale", name) for name in held if name.endswith("*")]
    return Counter([name.removesuffix("*") for name in held] + scales)


def declared_names(module: ModuleOp) -> Counter[str]:
    """Tensors that the entries read, each once, with the scales of scaled ones."""
    plan = plan_module(module)
    held: dict[str, None] = {}
    for entry in plan.entries:
        for use, layers in plan.weights_of(entry):
            names = [use.pattern.replace("{l}", str(layer)) for layer in layers or [0]]
            if "{e}" in use.pattern:
                experts = use.kind.get_shape()[0]
                names = [n.replace("{e}", str(e)) for n in names for e in range(experts)]
            held |= dict.fromkeys(names)
            if is_scaled(use.kind):
                held |= dict.fromkeys(re.sub("weight$", "scale", name) for name in names)
    return Counter(list(held))


@pytest.mark.parametrize(("name", "tensors"), [("pro", 145116), ("flash", 69187)])
def test_weights_are_those_of_the_checkpoint(name: str, tensors: int) -> None:
    own = read_config(CONFIGS[f"deepseek_v4_{name}"])
    config = settle(load_program(MODELS / "deepseek_v4.st"), own)
    declared = declared_names(build(config))
    assert declared == expected_names(config)
    assert declared.total() == tensors
