"""Small models of each family, on which passes are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supertile.frontend.families.common import Row
from supertile.frontend.families.deepseek_v3 import EQUAL
from supertile.frontend.families.deepseek_v4 import CSA, HCA, SLIDING

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Config

# fmt: off
SMALL_SIZES = {  # upper bounds; deepseek_v4 keeps what the release's block formats divide by
    "deepseek_v4": {
        "vocab_size": 128, "hidden_size": 128, "num_attention_heads": 4, "head_dim": 128,
        "qk_rope_head_dim": 64, "q_lora_rank": 128, "o_groups": 2, "o_lora_rank": 64,
        "sliding_window": 8, "index_n_heads": 4, "index_head_dim": 64, "index_topk": 3,
        "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 128,
    },
    "deepseek_v3": {
        "vocab_size": 128, "hidden_size": 64, "num_attention_heads": 4, "head_dim": 8,
        "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 16, "v_head_dim": 16,
        "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "intermediate_size": 96,
        "n_routed_experts": 16, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2,
        "moe_intermediate_size": 24,
    },
    "llama": {
        "vocab_size": 128, "hidden_size": 64, "num_attention_heads": 8, "head_dim": 8,
        "intermediate_size": 160,
    },
    "qwen3_moe": {
        "vocab_size": 128, "hidden_size": 64, "num_attention_heads": 8, "head_dim": 8,
        "intermediate_size": 96, "num_experts": 16, "num_experts_per_tok": 4,
        "moe_intermediate_size": 24,
    },
}
# Where two ranks have half of the heads and of the widths each: what blocks of 128 divide.
SPLIT_SIZES = {
    "deepseek_v4": {"o_lora_rank": 128, "moe_intermediate_size": 256},
    "deepseek_v3": {
        "qk_nope_head_dim": 48, "qk_rope_head_dim": 16, "v_head_dim": 64,
        "intermediate_size": 256, "moe_intermediate_size": 256,
    },
    "llama": {},
    "qwen3_moe": {"num_attention_heads": 16},
}
# fmt: on
WHOLE_HEADS = ("llama", "qwen3_moe")
"""Families that rotate all channels of a head."""
SMALL_RATIOS = {SLIDING: 0, CSA: 4, HCA: 16}  # upper bounds too


def shrink(config: Config, is_split: bool = False) -> Config:
    """The same family with tiny sizes and one layer of each kind, in order of first appearance.

    No size grows. If all layers are alike there are two of them, so that one follows another. With
    `is_split` two ranks can share the sizes without cutting a block of codes.
    """
    bounds = SMALL_SIZES[config.family] | (SPLIT_SIZES[config.family] if is_split else {})
    values: dict[str, Any] = dict(config.values)
    # A key that the family does not read, such as V3's head_dim, may hold anything.
    sizes = {key: values[key] for key in bounds if isinstance(values.get(key), int)}
    values |= {key: min(bounds[key], size) for key, size in sizes.items()}
    dims = values["head_dim" if config.family in WHOLE_HEADS else "qk_rope_head_dim"]
    layers = _small_rows(config.layers, dims)
    layers = (layers * 2)[: max(2, len(layers))]
    drafts = _small_rows(config.draft_layers, dims)
    values["num_hidden_layers"] = len(layers)
    REPAIRS[config.family](values, config.values, layers, drafts)
    ropes = {name: replace(rope, dims=dims) for name, rope in config.ropes.items()}
    return replace(config, values=values, ropes=ropes, layers=layers, draft_layers=drafts)


def _small_rows(rows: Sequence[Row], dims: int) -> tuple[Row, ...]:
    """The distinct rows once their ropes and ratios are small."""
    small: list[Row] = []
    for row in rows:
        changed: dict[str, Any] = dict(row)
        changed["rope"] = replace(changed["rope"], dims=dims)
        if "ratio" in changed:
            changed["ratio"] = min(changed["ratio"], SMALL_RATIOS[changed["attention"]])
        small.append(changed)
    return tuple(row for index, row in enumerate(small) if row not in small[:index])


# The values that follow from the other small ones, or must still divide them.
Values = Mapping[str, Any]
Rows = Sequence[Row]


def _repair_v4(values: dict[str, Any], own: Values, layers: Rows, drafts: Rows) -> None:
    values["o_groups"] = math.gcd(values["o_groups"], values["num_attention_heads"])
    values["num_hash_layers"] = sum(row["router"] == "hash_moe" for row in layers)
    values["num_nextn_predict_layers"] = len(drafts)
    if "partial_rotary_factor" in values:
        values["partial_rotary_factor"] = values["qk_rope_head_dim"] / values["head_dim"]


def _repair_v3(values: dict[str, Any], own: Values, layers: Rows, drafts: Rows) -> None:
    values["first_k_dense_replace"] = sum(row["feed_forward"] == "dense" for row in layers)
    values["qk_head_dim"] = values["qk_nope_head_dim"] + values["qk_rope_head_dim"]
    values |= {key: values[other] for key, other in EQUAL.items() if key in values}
    values["n_group"] = math.gcd(values["n_group"], values["n_routed_experts"])
    values["topk_group"] = min(values["topk_group"], values["n_group"])
    selectable = values["topk_group"] * values["n_routed_experts"] // values["n_group"]
    values["num_experts_per_tok"] = min(values["num_experts_per_tok"], selectable)


def _repair_llama(values: dict[str, Any], own: Values, layers: Rows, drafts: Rows) -> None:
    shared = own["num_attention_heads"] // own["num_key_value_heads"]  # query heads a key head
    values["num_key_value_heads"] = max(1, values["num_attention_heads"] // shared)


def _repair_qwen3(values: dict[str, Any], own: Values, layers: Rows, drafts: Rows) -> None:
    _repair_llama(values, own, layers, drafts)
    values["num_experts_per_tok"] = min(values["num_experts_per_tok"], values["num_experts"])


REPAIRS = {
    "deepseek_v4": _repair_v4,
    "deepseek_v3": _repair_v3,
    "llama": _repair_llama,
    "qwen3_moe": _repair_qwen3,
}
