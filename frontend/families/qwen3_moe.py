"""Qwen3-MoE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertile.frontend.families.common import (
    THETAS,
    Parts,
    Rope,
    common_values,
    head_channels,
    read_scaling,
    read_theta,
    yarn_magnitude,
)

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys


def qwen3_moe(keys: Keys) -> Parts:
    """Rows: feed_forward ("dense" or "moe"), rope. Absent flags are false, as in transformers."""
    values = common_values(keys, "qwen3_moe")
    keys.within("num_experts_per_tok", "num_experts")
    dims, rope = head_channels(keys), _qwen3_rope(keys)
    values |= {
        "head_dim": dims,
        "rope_theta": rope.theta,
        **{
            name: keys.flag(name, False)
            for name in ("norm_topk_prob", "attention_bias", "use_sliding_window")
        },
    }
    rows = tuple({"feed_forward": kind, "rope": rope} for kind in _qwen3_kinds(keys))
    return Parts(values, {"main": rope}, rows)


def _qwen3_kinds(keys: Keys) -> list[str]:
    """Of each layer: every `decoder_sparse_step`-th has experts, but for `mlp_only_layers`."""
    count = keys.integer("num_hidden_layers")
    step = keys.integer("decoder_sparse_step", 1)
    dense: set[int] = set()
    if keys.get("mlp_only_layers") is not None:
        entries = enumerate(keys.entries("mlp_only_layers", *range(count + 1)))
        dense = {keys.bounded(f"mlp_only_layers[{i}]", n, 0, count - 1) for i, n in entries}
    return ["dense" if i in dense or (i + 1) % step else "moe" for i in range(count)]


def _qwen3_rope(keys: Keys) -> Rope:
    """YaRN also magnifies cos and sin, by 0.1 ln(factor) + 1 unless the file says by what."""
    tables = ("rope_scaling", "rope_parameters")
    scaling = read_scaling(keys, ("default", "yarn"), *tables)
    if scaling:
        magnitude = yarn_magnitude(scaling["factor"], 1.0)
        paths = [f"{table}.attention_factor" for table in tables]
        scaling["magnitude"] = keys.agreed(keys.number, *paths, default=magnitude)
    theta = read_theta(keys, *THETAS, default=10000.0)
    return Rope(head_channels(keys), theta, "halves", **scaling)
