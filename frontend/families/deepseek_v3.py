"""DeepSeek-V3 and R1; source: transformers 5.23 (`modeling_deepseek_v3`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertile.frontend.families.common import (
    THETAS,
    Parts,
    Rope,
    common_values,
    read_magnitude,
    read_scaling,
    read_theta,
    read_words,
    yarn_magnitude,
)

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys


# What files repeat under another name: all heads have keys and values, and those channels rotate.
EQUAL = {"num_key_value_heads": "num_attention_heads", "head_dim": "qk_rope_head_dim"}


def deepseek_v3(keys: Keys) -> Parts:
    """Rows: feed_forward ("dense" or "moe"), rope. Draft layers are not run."""
    values = common_values(keys, "deepseek_v3")
    if "q_lora_rank" not in keys.data:  # null says that queries are whole, nothing says nothing
        keys.integer("q_lora_rank")
    keys.divides("n_group", "n_routed_experts")
    keys.within("topk_group", "n_group")
    keys.within("num_experts_per_tok", "n_routed_experts")
    checks = keys.checking()
    per_group = checks.integer("n_routed_experts") // checks.integer("n_group")
    selectable = checks.integer("topk_group") * per_group
    keys.within("num_experts_per_tok", "topk_group", limit=selectable)
    rope, softmax_factor = _v3_rope(keys)
    kinds = _v3_kinds(keys)
    _v3_heads(keys, rope.dims)
    keys.integer("num_nextn_predict_layers", 0, low=0)
    width = checks.integer("qk_nope_head_dim") + rope.dims
    if keys.integer("qk_head_dim", width) != width:
        given = keys.integer("qk_head_dim")
        raise keys.contradiction("qk_nope_head_dim + qk_rope_head_dim", "qk_head_dim", width, given)
    values |= {
        "qk_head_dim": width,
        "rope_theta": rope.theta,
        "softmax_scale_factor": softmax_factor,
    }
    rows = tuple({"feed_forward": kind, "rope": rope} for kind in kinds)
    return Parts(values, {"main": rope}, rows)


def _v3_kinds(keys: Keys) -> list[str]:
    """Of each layer: the first ones are dense, and of the others one in `moe_layer_freq` is not."""
    count = keys.integer("num_hidden_layers")
    dense = keys.integer("first_k_dense_replace", low=0)
    keys.within("first_k_dense_replace", "num_hidden_layers", dense, count)
    every = keys.integer("moe_layer_freq", 1)
    kinds = ["dense" if i < dense or i % every else "moe" for i in range(count)]
    if keys.get("mlp_layer_types") is not None:
        words = read_words(keys, "mlp_layer_types", count, ("dense", "sparse"))
        names = ["moe" if word == "sparse" else word for word in words]
        if names != kinds and not keys.missing:
            raise keys.contradiction("first_k_dense_replace", "mlp_layer_types", kinds, names)
    return kinds


def _v3_heads(keys: Keys, rotated: int) -> None:
    """Every head has keys and values of its own, made of one latent row; what says so agrees."""
    heads = keys.checking().integer("num_attention_heads")
    for (key, other), size in zip(EQUAL.items(), (heads, rotated), strict=True):
        given = keys.integer(key, size)
        if given != size and not keys.missing:
            raise keys.fail("config.unequal", key, other=other, expected=size, found=given)


def _v3_rope(keys: Keys) -> tuple[Rope, float]:
    """The rope, and the factor on the scale of the attention scores."""
    tables = ("rope_scaling", "rope_parameters")
    scaling = read_scaling(keys, ("default", "yarn"), *tables)
    softmax_factor = 1.0
    if scaling:
        magnitudes = keys.agreed(lambda table: _v3_magnitudes(keys, table), *tables)
        scaling["magnitude"], softmax_factor = magnitudes
    dims = keys.integer("qk_rope_head_dim")
    keys.even("qk_rope_head_dim", dims)
    pairs = "interleaved" if keys.flag("rope_interleave", True) else "halves"
    theta = read_theta(keys, *THETAS, default=10000.0)
    return Rope(dims, theta, pairs, **scaling), softmax_factor


def _v3_magnitudes(keys: Keys, table: str) -> tuple[float, float]:
    """YaRN's factor on cos and sin, and its factor on the scale of the attention scores."""
    magnitude = read_magnitude(keys, table)
    whole = keys.number(f"{table}.mscale_all_dim", 0.0, low=0.0)
    return magnitude, yarn_magnitude(keys.number(f"{table}.factor"), whole) ** 2
