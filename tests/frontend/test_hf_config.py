"""Configurations by example: what each family's file means, and which error each bad file gets."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from supertile.frontend import hf_config
from supertile.frontend.families import DIALECTS
from supertile.frontend.families.common import FAMILY_SIZES, HEAD_WEIGHTS, Rope
from supertile.frontend.families.small import REPAIRS, SMALL_SIZES, SPLIT_SIZES
from supertile.frontend.hf_config import Config, normalize, read_config, shrink, value_spot
from supertile.frontend.program import Program, load_program
from supertile.frontend.settle import ModelConfig, Target, settle
from supertile.frontend.shipped import shipped_model
from supertile.ir.errors import CONFIG_TEXTS, Spot, UserError

DATA = Path(__file__).parents[1] / "data"
PUBLISHED = Path(__file__).parents[2] / "models" / "configs"
FILES = sorted([*DATA.glob("*/config.json"), *PUBLISHED.glob("*.json")])
S, C, H = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"


def load(case: str) -> dict[str, Any]:
    """The JSON object of a case, to be changed at will."""
    data: dict[str, Any] = json.loads((DATA / case / "config.json").read_text())
    return data


V4, V4_MIXED = load("deepseek_v4_deployed"), load("deepseek_v4")
V3, LLAMA, QWEN = load("deepseek_v3"), load("llama"), load("qwen3_moe")


def change(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The object with values set by dotted key; `...` removes the key."""
    data = copy.deepcopy(base)
    for path, value in changes.items():
        *outer, key = path.split(".")
        place = data
        for step in outer:
            place = place[step]
        place[key] = value
        if value is ...:
            del place[key]
    return data


@cache
def program(family: str) -> Program:
    path = shipped_model(family)
    assert path is not None
    return load_program(path)


def read(own: Config, family: str | None = None) -> ModelConfig:
    """A config as the shipped model file of its family reads it."""
    return settle(program(family or own.family), own)


def config(base: dict[str, Any], **changes: Any) -> ModelConfig:
    data = change(base, {key.replace("__", "."): value for key, value in changes.items()})
    own = normalize(data, "config.json", json.dumps(data, indent=1))
    return read(own, base["model_type"])


def shrunk(own: ModelConfig) -> ModelConfig:
    return read(shrink(own.config))


def column(rows: Any, key: str) -> list[Any]:
    """The cells of a column; blocks by their name."""
    return [cell.name if isinstance(cell := row[key], Target) else cell for row in rows]


# ---- what a file means


def test_v4_published_dialect() -> None:
    c = config(V4)
    assert column(c.layers, "attention") == [S, C, H, C]
    assert column(c.layers, "ratio") == [0, 4, 16, 4]
    assert column(c.layers, "overlap") == [0, 1, 0, 1]
    assert column(c.layers, "router") == ["hash_moe", "hash_moe", "moe", "moe"]
    assert c.ropes["sliding"] == Rope(64, 10000.0, "interleaved")
    assert c.ropes["compressed"] == Rope(64, 160000.0, "interleaved", "yarn", 16.0, 65536)
    names = ["sliding", "compressed", "compressed", "compressed"]
    assert column(c.layers, "rope") == [c.ropes[name] for name in names]
    draft = {"attention": S, "ratio": 0, "overlap": 0, "router": "moe", "experts": "fp4"}
    assert c.draft_layers == ({**draft, "rope": c.ropes["sliding"]},)


def test_v4_both_dialects_in_one_file() -> None:
    c = config(V4_MIXED)
    assert column(c.layers, "attention") == [S, H, C, H, C, S]
    assert column(c.layers, "router") == ["hash_moe"] * 3 + ["moe"] * 3
    assert column(c.layers, "experts") == ["fp8"] * 6
    assert c.ropes["compressed"].magnitude == 1.0 and c.ropes["sliding"].dims == 8
    assert c.draft_layers == ()


@given(
    st.lists(st.sampled_from([0, 4, 32]), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 2),
    st.booleans(),
)
def test_v4_dialects_agree(ratios: list[int], most: int, drafts: int, whole: bool) -> None:
    kind, hashed = {0: S, 4: C}, min(most, len(ratios))
    shared = {"num_hidden_layers": len(ratios), "num_nextn_predict_layers": drafts}
    published = shared | {
        "compress_ratios": ratios + [0] * drafts * whole,
        "num_hash_layers": hashed,
    }
    named = shared | {
        **dict.fromkeys(("compress_ratios", "num_hash_layers", "rope_scaling"), ...),
        **dict.fromkeys(("rope_theta", "compress_rope_theta", "qk_rope_head_dim"), ...),
        "layer_types": [kind.get(ratio, H) for ratio in ratios],
        "compress_rates": {C: 4, H: 32},
        "mlp_layer_types": ["hash_moe" if i < hashed else "moe" for i in range(len(ratios))],
        "partial_rotary_factor": 0.5,
        "rope_parameters": {
            "main": {"rope_type": "default", "rope_theta": 10000},
            "compress": {**V4["rope_scaling"], "rope_theta": 160000},
        },
    }
    one, two = config(V4, **published), config(V4, **named)
    assert (one.layers, one.draft_layers, one.ropes) == (two.layers, two.draft_layers, two.ropes)
    both = config(V4, **(named | published))
    assert both.layers == one.layers
    assert {**one.values, "partial_rotary_factor": 0.5} == dict(two.values) == dict(both.values)


def test_v4_any_ratio_by_name() -> None:
    rates = {"layer_types": [S, C, H, C], "compress_rates": {C: 6, H: 4}, "compress_ratios": ...}
    c = config(V4, **rates)
    assert column(c.layers, "ratio") == [0, 6, 4, 6] and column(c.layers, "overlap") == [0, 1, 0, 1]


def test_v4_flat_rope_parameters_scale_the_compressed_layers() -> None:
    c = config(V4, rope_scaling=..., rope_parameters=V4["rope_scaling"])
    assert c.ropes == config(V4).ropes


def test_v3_scales() -> None:
    c = config(V3)
    assert column(c.layers, "feed_forward") == ["dense", "moe", "moe", "moe"]
    assert c.ropes["main"] == Rope(8, 10000.0, "interleaved", "yarn", 4.0, 64)
    assert c.values["softmax_scale_factor"] == (0.1 * math.log(4) + 1) ** 2
    assert config(V3, rope_interleave=False).ropes["main"].pairs == "halves"
    assert config(V3, q_lora_rank=None).names["Q"] is None


@pytest.mark.parametrize(
    ("changes", "magnitude", "softmax"),
    [
        ({"mscale": 2.0}, (0.2 * math.log(4) + 1) / (0.1 * math.log(4) + 1), True),
        ({"mscale_all_dim": ...}, 0.1 * math.log(4) + 1, False),
        ({"attention_factor": 1.25}, 1.25, True),
        ({"factor": 1.0}, 1.0, False),
        ({"rope_type": "default"}, 1.0, False),
    ],
)
def test_v3_magnitude(changes: dict[str, Any], magnitude: float, softmax: bool) -> None:
    c = config(V3, **{f"rope_parameters__{key}": value for key, value in changes.items()})
    assert c.ropes["main"].magnitude == pytest.approx(magnitude)
    assert (c.values["softmax_scale_factor"] != 1.0) == softmax


def test_llama() -> None:
    c = config(LLAMA, head_dim=None, num_key_value_heads=None, tie_word_embeddings=True)
    assert c.names["turn"] == Rope(8, 500000.0, "halves")
    assert (c.names["C"], c.names["G"]) == (8, 8)
    assert c.names["head_weight"] == "model.embed_tokens.weight"
    assert config(LLAMA).names["head_weight"] == "lm_head.weight"
    old = {"rope_parameters": ..., "rope_scaling": {"type": "linear", "factor": 2}}
    assert config(LLAMA, **old).names["turn"] == Rope(8, 10000.0, "halves", "linear", 2.0)


def test_llama3_scaling() -> None:
    c = read(read_config(PUBLISHED / "llama_3_1_8b.json"))
    assert c.names["turn"] == Rope(128, 500000.0, "halves", "llama3", 8.0, 8192)


def test_qwen3_moe() -> None:
    c = config(QWEN)
    assert c.names["turn"] == Rope(16, 1000000.0, "halves")
    assert column(c.layers, "feed_forward") == ["moe"] * 3
    assert config(QWEN, use_sliding_window=...).names["use_sliding_window"] is False
    stretched = config(QWEN, rope_scaling={"type": "yarn", "factor": 4.0}).names["turn"]
    assert isinstance(stretched, Rope)
    assert stretched.original == 256  # max_position_embeddings
    assert stretched.magnitude == pytest.approx(0.1 * math.log(4) + 1)
    told = {"type": "yarn", "factor": 4.0, "attention_factor": 1.5}
    turn = config(QWEN, rope_scaling=told).names["turn"]
    assert isinstance(turn, Rope) and turn.magnitude == 1.5


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"decoder_sparse_step": 2}, ["dense", "moe", "dense"]),
        ({"mlp_only_layers": [0, 2]}, ["dense", "moe", "dense"]),
        ({"mlp_only_layers": [1], "decoder_sparse_step": 2}, ["dense"] * 3),
        ({"mlp_only_layers": ..., "decoder_sparse_step": ...}, ["moe"] * 3),
    ],
)
def test_which_layers_of_qwen3_have_experts(changes: dict[str, Any], kinds: list[str]) -> None:
    assert column(config(QWEN, **changes).layers, "feed_forward") == kinds


def test_values_hold_scalars_only() -> None:
    c = config(V4, made_up="kept", empty=None)
    assert c.values["made_up"] == "kept"
    assert {type(value) for value in c.values.values()} <= {int, float, bool, str}
    assert c.values["model_type"] == c.family == "deepseek_v4"
    assert isinstance(config(V4, swiglu_limit=10).values["swiglu_limit"], float)


@pytest.mark.parametrize(
    ("name", "layers", "drafts"),
    [("deepseek_v4_pro", (0, 30, 31), 1), ("deepseek_v4_flash", (2, 21, 20), 1)],
)
def test_published_v4(name: str, layers: tuple[int, ...], drafts: int) -> None:
    c = read(read_config(PUBLISHED / f"{name}.json"))
    kinds = column(c.layers, "attention")
    assert tuple(kinds.count(kind) for kind in (S, C, H)) == layers
    assert column(c.draft_layers, "attention") == [S] * drafts


def test_published_v3() -> None:
    c = read(read_config(PUBLISHED / "deepseek_v3.json"))
    assert column(c.layers, "feed_forward") == ["dense"] * 3 + ["moe"] * 58
    assert c.values["softmax_scale_factor"] == pytest.approx((0.1 * math.log(40) + 1) ** 2)
    assert c.ropes["main"].magnitude == 1.0 and c.values["qk_head_dim"] == 192


def test_spot_points_at_the_key() -> None:
    c = read_config(DATA / "deepseek_v4" / "config.json")
    spot = value_spot(c, "rope_parameters.compress.rope_theta")
    assert spot is not None and spot.text.strip() == '"rope_theta": 160000,'
    assert spot.column == 1 + spot.text.index('"')
    assert value_spot(c, "rope_theta") != spot and value_spot(c, "no_such_key") is None


# ---- small models


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name + "-" + path.stem)
def test_shrink(path: Path) -> None:
    own = read(read_config(path))
    small = shrunk(own)
    values: dict[str, Any] = dict(small.values)
    assert 2 <= len(small.layers) == values["num_hidden_layers"] <= 8
    assert all(isinstance(v, str) or v <= own.values[key] for key, v in values.items())
    for one, two in ((own.layers, small.layers), (own.draft_layers, small.draft_layers)):
        assert kinds(one) == kinds(two)


@pytest.mark.parametrize("base", [V4, V3, LLAMA, QWEN], ids=lambda base: base["model_type"])
def test_shrunk_values_pass_the_checks(base: dict[str, Any]) -> None:
    """Read back as a file, a small model is the same small model."""
    own = config(base, **WIDE[base["model_type"]])
    small = shrunk(own)
    data: dict[str, Any] = {**json.loads(own.config.text), **small.values}
    if "compress_ratios" in data:
        data["compress_ratios"] = column(small.layers + small.draft_layers, "ratio")
    again = read(normalize(data, "config.json", "{}"))
    assert (again.layers, again.ropes) == (small.layers, small.ropes)
    assert again.names == small.names


WIDE: dict[str, dict[str, Any]] = {  # sizes that the upper bounds alone would leave at odds
    "deepseek_v4": {"num_attention_heads": 9, "o_groups": 9, "hidden_size": 4096},
    "deepseek_v3": {"n_routed_experts": 18, "n_group": 6, "topk_group": 5, "hidden_size": 512},
    "llama": {"num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128},
    "qwen3_moe": {
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "num_experts": 3,
        "num_experts_per_tok": 3,
    },
}


def kinds(rows: Any) -> set[tuple[Any, ...]]:
    return {tuple(row[key] for key in row if key not in ("rope", "ratio")) for row in rows}


# ---- bad keys: the base, the change, the code and where its caret stands

YARN = V4["rope_scaling"]
LLAMA3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}
ATTENTION_FACTOR = "rope_parameters.compress.attention_factor"
THETA = "rope_parameters.rope_theta"
DSPARK = {"dspark_block_size": 5}
BAD_KEYS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (V4, {"model_type": "deepseek_v5"}, "language.family", "model_type"),
    (V4, {"model_type": "kimi_k2"}, "language.family", "model_type"),
    (V4, {"model_type": ...}, "config.missing", ""),
    (V4, {"model_type": 4}, "config.type", "model_type"),
    # sizes
    (V4, {"hidden_size": ...}, "config.missing", ""),
    (V4, {"hidden_size": None}, "config.missing", "hidden_size"),
    (V4, {"hidden_size": "128"}, "config.type", "hidden_size"),
    (V4, {"hidden_size": 128.0}, "config.type", "hidden_size"),
    (V4, {"hidden_size": True}, "config.type", "hidden_size"),
    (V4, {"hidden_size": [128]}, "config.type", "hidden_size"),
    (V4, {"hidden_size": 0}, "config.range", "hidden_size"),
    (V4, {"vocab_size": 2**31 + 1}, "config.range", "vocab_size"),
    (V3, {"num_hidden_layers": 2**31}, "config.range", "num_hidden_layers"),
    (V4, {"num_nextn_predict_layers": -1}, "config.range", "num_nextn_predict_layers"),
    (V4, {"index_topk": ...}, "config.missing", ""),
    (V4, {"rms_norm_eps": 0}, "config.range", "rms_norm_eps"),
    (V4, {"rms_norm_eps": "1e-6"}, "config.type", "rms_norm_eps"),
    (V4, {"swiglu_limit": float("nan")}, "config.range", "swiglu_limit"),
    (V4, {"hc_mult": 4.5}, "config.type", "hc_mult"),
    (V4, {"norm_topk_prob": 1}, "config.type", "norm_topk_prob"),
    (V4, {"tie_word_embeddings": "no"}, "config.type", "tie_word_embeddings"),
    (V4, {"expert_dtype": "int4"}, "config.choice", "expert_dtype"),
    (V4, {"num_key_value_heads": 2}, "config.range", "num_key_value_heads"),
    # layers
    (V4, {"compress_ratios": ...}, "config.missing", ""),
    (V4, {"compress_ratios": 4}, "config.type", "compress_ratios"),
    (V4, {"compress_ratios": [0, 4, 16]}, "config.length", "compress_ratios"),
    (V4, {"compress_ratios": [0, 4, 16, 4, 0, 0]}, "config.length", "compress_ratios"),
    (V4, {"compress_ratios": [0, 4, "16", 4]}, "config.type", "compress_ratios"),
    (V4, {"compress_ratios": [0, 4, -1, 4]}, "config.range", "compress_ratios"),
    (V4_MIXED, {"layer_types": [S, H, C, H, C]}, "config.length", "layer_types"),
    (V4_MIXED, {"layer_types": [S, H, C, H, C, "full"]}, "config.choice", "layer_types"),
    (V4_MIXED, {"layer_types": [S, H, C, H, C, None]}, "config.type", "layer_types"),
    (V4_MIXED, {"layer_types": [S, H, C, H, C, C]}, "config.contradiction", "layer_types"),
    (V4_MIXED, {f"compress_rates.{H}": 32}, "config.contradiction", "compress_rates"),
    (V4_MIXED, {f"compress_rates.{H}": ...}, "config.missing", "compress_rates"),
    (V4_MIXED, {"compress_rates": 4}, "config.type", "compress_rates"),
    (V4_MIXED, {"num_hash_layers": 2}, "config.contradiction", "mlp_layer_types"),
    (V4_MIXED, {"mlp_layer_types": ["dense"] * 6}, "config.choice", "mlp_layer_types"),
    (V4, {"num_hash_layers": ...}, "config.missing", ""),
    # ropes
    (V4_MIXED, {"rope_theta": 5000}, "config.contradiction", "rope_parameters.main.rope_theta"),
    (
        V4_MIXED,
        {"compress_rope_theta": 5},
        "config.contradiction",
        "rope_parameters.compress.rope_theta",
    ),
    (V4_MIXED, {"qk_rope_head_dim": 16}, "config.contradiction", "partial_rotary_factor"),
    (
        V4_MIXED,
        {"rope_scaling": {**YARN, "factor": 8}},
        "config.contradiction",
        "rope_parameters.compress",
    ),
    (V4, {"rope_parameters": {"compress": {}}}, "config.contradiction", "rope_parameters.compress"),
    (V4, {"rope_scaling.type": "linear"}, "config.choice", "rope_scaling.type"),
    (V4, {"rope_scaling.rope_type": "default"}, "config.contradiction", "rope_scaling.type"),
    (V4, {"rope_scaling.factor": ...}, "config.missing", "rope_scaling"),
    (V4, {"rope_scaling": "yarn"}, "config.type", "rope_scaling"),
    (V4, {"rope_theta": 1}, "config.range", "rope_theta"),
    (V4, {"rope_theta": ...}, "config.missing", ""),
    (V4, {"qk_rope_head_dim": 63}, "config.odd", "qk_rope_head_dim"),
    (V4, {"qk_rope_head_dim": 130}, "config.above", "qk_rope_head_dim"),
    (V4, {"qk_rope_head_dim": 128}, "config.above", "qk_rope_head_dim"),
    (V3, {"qk_rope_head_dim": 7}, "config.odd", "qk_rope_head_dim"),
    (V3, {"qk_head_dim": 23}, "config.contradiction", "qk_head_dim"),
    (LLAMA, {"head_dim": 7}, "language.rope_channels", "head_dim"),
    (LLAMA, {"rope_parameters.rope_type": "dynamic"}, "config.choice", "rope_parameters.rope_type"),
    (LLAMA, {"rope_parameters": LLAMA3}, "config.missing", "rope_parameters"),
    (
        LLAMA,
        {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 64}},
        "config.above",
        "rope_parameters.low_freq_factor",
    ),
    # sizes against each other
    (V4, {"num_experts_per_tok": 7}, "config.above", "num_experts_per_tok"),
    (V3, {"num_experts_per_tok": 17}, "config.above", "num_experts_per_tok"),
    (V3, {"num_experts_per_tok": 9}, "config.above", "num_experts_per_tok"),
    (V3, {"topk_group": 5}, "config.above", "topk_group"),
    (V3, {"n_group": 3}, "config.divide", "n_group"),
    (V4, {"o_groups": 3}, "config.divide", "o_groups"),
    (LLAMA, {"num_key_value_heads": 3}, "language.require", "num_attention_heads"),
    (QWEN, {"num_experts": ...}, "config.missing", ""),
    (QWEN, {"num_key_value_heads": ...}, "config.missing", ""),
    (QWEN, {"num_experts_per_tok": 17}, "language.require", "num_experts_per_tok"),
    (QWEN, {"num_key_value_heads": 3}, "language.require", "num_attention_heads"),
    (QWEN, {"mlp_only_layers": [3]}, "config.range", "mlp_only_layers"),
    (QWEN, {"mlp_only_layers": [True]}, "config.type", "mlp_only_layers"),
    (QWEN, {"decoder_sparse_step": 0}, "config.range", "decoder_sparse_step"),
    (QWEN, {"norm_topk_prob": 1}, "config.type", "norm_topk_prob"),
    (QWEN, {"rope_scaling": {"type": "dynamic"}}, "config.choice", "rope_scaling.type"),
    (
        QWEN,
        {"rope_scaling": {"type": "linear", "factor": 2, "short_factor": [1]}},
        "config.rope_key",
        "rope_scaling.short_factor",
    ),
    (V4, {"compress_ratios": [0, 4, 1, 4]}, "config.uncompressed", "compress_ratios"),
    (
        V4_MIXED,
        {"compress_ratios": ..., f"compress_rates.{H}": 1},
        "config.uncompressed",
        f"compress_rates.{H}",
    ),
    (V4, {"num_hash_layers": 5}, "config.above", "num_hash_layers"),
    (V4, {"hidden_size": 7000}, "config.blocks", "hidden_size"),
    (V4, {"q_lora_rank": 896}, "config.above", "q_lora_rank"),
    (V4, {"o_lora_rank": 4096}, "config.above", "o_lora_rank"),
    (V4, {"sliding_window": 2**21}, "config.above", "sliding_window"),
    (V4, {"index_topk": 2**21}, "config.above", "index_topk"),
    (V4, {"compress_ratios": [0, 4, 2**21, 4]}, "config.above", "compress_ratios"),
    (V4, {"eos_token_id": [1, 129280]}, "config.above", "eos_token_id"),
    (V4, {**DSPARK, "compress_ratios": [0, 4, 16, 4, 0, 4, 0]}, "config.range", "compress_ratios"),
    (V4_MIXED, {"rope_parameters.compress.attention_factor": 2}, "config.range", ATTENTION_FACTOR),
    (V3, {"first_k_dense_replace": 5}, "config.above", "first_k_dense_replace"),
    (V3, {"kv_lora_rank": 65}, "config.above", "kv_lora_rank"),
    (V3, {"num_key_value_heads": 2}, "config.unequal", "num_key_value_heads"),
    (V3, {"head_dim": 16}, "config.unequal", "head_dim"),
    (V3, {"mlp_layer_types": ["sparse"] * 4}, "config.contradiction", "mlp_layer_types"),
    (V3, {"rope_parameters.rope_theta": 5000.0, "rope_theta": 4}, "config.contradiction", THETA),
]


@pytest.mark.parametrize(("base", "changes", "code", "key"), BAD_KEYS)
def test_bad_key(base: dict[str, Any], changes: dict[str, Any], code: str, key: str) -> None:
    error = failure(lambda: config(base, **changes))
    assert error.code == code
    data = change(base, changes)
    text = json.dumps(data, indent=1)
    good = Config("config.json", "", {}, text)
    spot = value_spot(good, key) if key else Spot("config.json", 1, 1)
    assert error.spot == spot is not None
    assert not key or f'"{key.rpartition(".")[2]}"' == caret_word(error)


@pytest.mark.parametrize(
    "table", [FAMILY_SIZES, HEAD_WEIGHTS, SMALL_SIZES, SPLIT_SIZES, REPAIRS], ids=range(5)
)
def test_every_table_knows_every_family(table: dict[str, Any]) -> None:
    assert set(table) == set(DIALECTS)


def test_family_error_corrects_a_slip_and_leads_to_no_other_model() -> None:
    error = failure(lambda: config(V3, model_type="deepsek_v3"))
    assert error.render() == "\n".join(
        [
            "config.json:18:2: error: this config is of another model than DeepSeekV3",
            '   18 |  "model_type": "deepsek_v3",',
            "         ^",
            "  expected: model_type deepseek_v3 or kimi_k2",
            "  found: deepsek_v3",
            "  try: did you mean deepseek_v3?",
        ]
    )


@pytest.mark.parametrize(
    "family", ["deepseek_v32", "deepseek_v41", "deepseek_v2", "llama4", "glm_moe_dsa", "qwen2_moe"]
)
def test_another_model_is_no_slip(family: str) -> None:
    error = failure(lambda: config(V4, model_type=family))
    assert "did you mean" not in error.suggestion and "docs/language.md" in error.suggestion


def test_all_missing_keys_are_told_at_once() -> None:
    gone = {
        "rope_theta": ...,
        "num_hash_layers": ...,
        "hidden_size": None,
        "num_hidden_layers": ...,
    }
    error = failure(lambda: config(V4, **gone))
    assert error.message == (
        "the keys `num_hidden_layers`, `num_hash_layers`, `rope_theta` are missing"
        " and the key `hidden_size` is null"
    )


@given(st.data())
def test_what_is_missing_alone_is_missing_among_others(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([V4, V3, LLAMA, QWEN]))
    gone = data.draw(st.sets(st.sampled_from(sorted(base)), max_size=6)) - {"model_type"}
    alone = {key for key in gone if key in missing(base, {key})}
    assert alone <= missing(base, gone)


def missing(base: dict[str, Any], gone: set[str]) -> set[str]:
    """The keys told as missing when these are gone."""
    try:
        config(base, **dict.fromkeys(gone, ...))
    except UserError as error:
        if error.code == "config.missing":
            return set(re.findall("`(.*?)`", error.message))
    return set()


def test_stages_of_block_drafts_are_no_layers() -> None:
    ratios = [*V4["compress_ratios"][:4], 0, 0, 0]
    c = config(V4, **DSPARK, compress_ratios=ratios)
    assert c.layers == config(V4).layers
    assert (c.draft_layers, c.block_drafts, c.values["num_nextn_predict_layers"]) == ((), 3, 0)
    error = failure(lambda: config(V4, compress_ratios=ratios))
    assert error.code == "config.length"  # nothing says what the others are


def test_contradiction_names_both_keys_and_values() -> None:
    error = failure(lambda: config(V4_MIXED, num_hash_layers=2))
    assert error.message == "`num_hash_layers` and `mlp_layer_types` disagree on layer 2"
    assert error.found == '"moe" from `num_hash_layers`, "hash_moe" from `mlp_layer_types`'


# ---- bad files: the bytes, the code, and line and column

BAD_FILES: list[tuple[bytes, str, tuple[int, int] | None]] = [
    (b"", "config.empty", None),
    (b" \n", "config.empty", None),
    (b"\x80\x04", "config.encoding", None),
    (b" " * (hf_config.FILE_LIMIT + 1), "config.huge", None),
    (b'{"a": 1,\n "b": 2,}', "config.syntax", (2, 9)),
    (b'{"a": 1} {', "config.syntax", (1, 10)),
    (b"[" * 100_000, "config.nested", None),
    (b'{"a":' * 100_000, "config.nested", None),
    (b"[1, 2]", "config.object", (1, 1)),
    (b"null", "config.object", (1, 1)),
    (b'{"a": 1,\n "a": 2}', "config.duplicate", (2, 2)),
    (b'{"b": {"a": 1}, "c": [{"a": 1}, {"a": 1, "a": 2}]}', "config.duplicate", (1, 42)),
    (b'{"\\u0061": 1, "a": 2}', "config.duplicate", (1, 1)),
    (b'{"NaN": "NaN",\n "a": NaN}', "config.constant", (2, 7)),
    (b'{"a": -Infinity}', "config.constant", (1, 7)),
    (b'{"a": 1e999}', "config.constant", (1, 7)),
    (b'{"a": 1' + b"0" * 5000 + b"}", "config.constant", (1, 7)),
]


@pytest.mark.parametrize(("content", "code", "place"), BAD_FILES, ids=lambda value: str(value)[:24])
def test_bad_file(tmp_path: Path, content: bytes, code: str, place: tuple[int, int] | None) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    error = failure(lambda: read_config(path))
    assert error.code == code and str(path) in error.render()
    assert (error.spot and (error.spot.line, error.spot.column)) == place


BAD_PATHS = [
    (".", "config.folder"),
    ("none.json", "config.absent"),
    ("n" * 300, "config.unreadable"),
    ("a\0b", "config.unreadable"),
]


@pytest.mark.parametrize(("name", "code"), BAD_PATHS, ids=lambda value: repr(value)[:20])
def test_bad_path(tmp_path: Path, name: str, code: str) -> None:
    assert failure(lambda: read_config(tmp_path / name)).code == code


def test_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())
    assert read(read_config(path)).layers == config(LLAMA).layers


@given(st.sampled_from([V4, V4_MIXED, V3, LLAMA]), st.data())
def test_any_damage_is_a_user_error(base: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands at one key, the answer is a configuration or an error."""
    key = data.draw(st.sampled_from(sorted(base)))
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    values = st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(st.text(max_size=3), v))
    try:
        shrunk(config(base, **{key: data.draw(values)}))
    except UserError as error:
        assert error.spot is not None and error.render()


def test_every_error_is_exercised() -> None:
    codes = {row[2] for row in BAD_KEYS} | {row[1] for row in BAD_FILES}
    later = {
        *("config.architecture", "config.drafts", "config.strict"),
        *("config.quantized", "config.quantized_beside", "config.unquantized"),
    }  # in test_config_keys: they take a model file
    of_models = {code for code in codes if code.startswith("language.")}
    assert codes - of_models | {code for _, code in BAD_PATHS} | later == set(CONFIG_TEXTS)


def failure(run: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        run()
    return caught.value


def caret_word(error: UserError) -> str:
    """The JSON string that the caret stands under."""
    lines = error.render().split("\n")
    return lines[1][lines[2].index("^") :].partition(":")[0]
