"""Small models, on which passes are checked: the sizes of each dialect, and a rule for the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from supertile.frontend.families.common import Parts, Row
from supertile.frontend.families.deepseek_v3 import EQUAL
from supertile.frontend.families.deepseek_v4 import CSA, HCA, SLIDING
from supertile.ir.tables import Table

Values = Mapping[str, Any]
Rows = Sequence[Row]

# fmt: off
# Upper bounds; deepseek_v4 keeps what the release's block formats divide by.
SMALL_SIZES = Table(__name__, "SMALL_SIZES", {
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
})
# Where two ranks have half of the heads and of the widths each: what blocks of 128 divide.
SPLIT_SIZES = Table(__name__, "SPLIT_SIZES", {
    "deepseek_v4": {"o_lora_rank": 128, "moe_intermediate_size": 256},
    "deepseek_v3": {
        "qk_nope_head_dim": 48, "qk_rope_head_dim": 16, "v_head_dim": 64,
        "intermediate_size": 256, "moe_intermediate_size": 256,
    },
})
# fmt: on
SMALL_RATIOS = {SLIDING: 0, CSA: 4, HCA: 16}  # upper bounds too


SPLIT_FLOOR = 256  # of sizes that had as much: two ranks have a block of codes each


def power(size: int, is_split: bool = False) -> int:
    """A size of a small model: the power of two that reaches the root of `size`.

    It is monotone, and of powers of two the smaller divides the larger: what divided another size
    still does.
    """
    small = 1 << (math.isqrt(max(size - 1, 0))).bit_length()
    return max(small, SPLIT_FLOOR) if is_split and size >= SPLIT_FLOOR else small


def small_parts(dialect: str, whole: Values, parts: Parts, is_split: bool = False) -> Parts:
    """What a dialect gives of tiny sizes, with one layer of each kind, in order.

    `whole` holds the values of the file and of `parts`.
    """
    bounds = SMALL_SIZES[dialect]
    bounds = bounds | (SPLIT_SIZES[dialect] if is_split else {})
    values: dict[str, Any] = dict(whole)
    # A key that the dialect does not read, such as V3's head_dim, may hold anything.
    sizes = {key: values[key] for key in bounds if isinstance(values.get(key), int)}
    values |= {key: min(bounds[key], size) for key, size in sizes.items()}
    dims = values["qk_rope_head_dim"]
    layers = small_stack(_small_rows(parts.layers, dims))
    drafts = distinct(_small_rows(parts.draft_layers, dims))
    values["num_hidden_layers"] = len(layers)
    REPAIRS[dialect](values, layers, drafts)
    ropes = {name: replace(rope, dims=dims) for name, rope in parts.ropes.items()}
    return Parts(values, ropes, layers, drafts)


def small_stack(rows: Rows) -> tuple[Row, ...]:
    """One layer of each kind, in order; two if all are alike, so that one follows another."""
    kinds = distinct(rows)
    return (kinds * 2)[: max(2, len(kinds))]


def distinct(rows: Rows) -> tuple[Row, ...]:
    """The rows that differ, each where it is first."""
    return tuple(row for index, row in enumerate(rows) if row not in rows[:index])


def _small_rows(rows: Rows, dims: int) -> list[Row]:
    """The rows with small ropes and ratios."""
    small: list[Row] = []
    for row in rows:
        changed: dict[str, Any] = dict(row)
        changed["rope"] = replace(changed["rope"], dims=dims)
        if "ratio" in changed:
            changed["ratio"] = min(changed["ratio"], SMALL_RATIOS[changed["attention"]])
        small.append(changed)
    return small


# The values that follow from the other small ones, or must still divide them.


def _repair_v4(values: dict[str, Any], layers: Rows, drafts: Rows) -> None:
    values["o_groups"] = math.gcd(values["o_groups"], values["num_attention_heads"])
    values["num_hash_layers"] = sum(row["router"] == "hash_moe" for row in layers)
    values["num_nextn_predict_layers"] = len(drafts)
    if "partial_rotary_factor" in values:
        values["partial_rotary_factor"] = values["qk_rope_head_dim"] / values["head_dim"]


def _repair_v3(values: dict[str, Any], layers: Rows, drafts: Rows) -> None:
    values["first_k_dense_replace"] = sum(row["feed_forward"] == "dense" for row in layers)
    values["qk_head_dim"] = values["qk_nope_head_dim"] + values["qk_rope_head_dim"]
    values |= {key: values[other] for key, other in EQUAL.items() if key in values}
    values["n_group"] = math.gcd(values["n_group"], values["n_routed_experts"])
    values["topk_group"] = min(values["topk_group"], values["n_group"])
    selectable = values["topk_group"] * values["n_routed_experts"] // values["n_group"]
    values["num_experts_per_tok"] = min(values["num_experts_per_tok"], selectable)


REPAIRS = Table(__name__, "REPAIRS", {"deepseek_v4": _repair_v4, "deepseek_v3": _repair_v3})
