"""DeepSeek-V4: the published dialect and that of transformers, brought to rows.

Sources: transformers 5.23 (`configuration_deepseek_v4`) and the inference code published with the
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supertile.frontend.families.common import (
    LAYER_LIMIT,
    Parts,
    Rope,
    common_values,
    read_scaling,
    read_theta,
    read_words,
)
from supertile.ir.json_text import show_json

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys

SLIDING, CSA, HCA = ATTENTION = (
    "sliding_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
)
ROUTERS = ("hash_moe", "moe")


def deepseek_v4(keys: Keys) -> Parts:
    """Rows: attention, ratio, overlap, router, rope, experts ("fp4" or "fp8")."""
    values = common_values(keys, "deepseek_v4")
    keys.integer("num_key_value_heads", 1, high=1)
    keys.divides("o_groups", "num_attention_heads")
    keys.within("num_experts_per_tok", "n_routed_experts")
    count = keys.integer("num_hidden_layers")
    stages = _block_stages(keys, count)
    drafts = keys.integer("num_nextn_predict_layers", 0, low=0, high=LAYER_LIMIT)
    drafts = 0 if stages else drafts
    experts = keys.choice("expert_dtype", ("fp4", "fp8"), "fp8")
    attention = _v4_attention(keys, count, drafts, stages)
    routers = _v4_routers(keys, count)
    ropes = _v4_ropes(keys, indexed=CSA in dict(attention))
    rows = tuple(
        {
            "attention": kind,
            "ratio": ratio,
            "overlap": int(kind == CSA),
            "router": router,
            "rope": ropes["sliding" if kind == SLIDING else "compressed"],
            "experts": experts,
        }
        for (kind, ratio), router in zip(attention, routers + ["moe"] * drafts, strict=True)
    )
    values |= {
        "num_key_value_heads": 1,
        "num_nextn_predict_layers": drafts,
        "num_hash_layers": routers.count("hash_moe"),
        "qk_rope_head_dim": ropes["sliding"].dims,
        "rope_theta": ropes["sliding"].theta,
        "compress_rope_theta": ropes["compressed"].theta,
    }
    return Parts(values, ropes, rows[:count], rows[count:], stages)


def _block_stages(keys: Keys, count: int) -> int:
    """Stages of a DSpark draft: ratios beyond the layers, all 0, that `dspark_` keys announce.

    The release counts them there; its `num_nextn_predict_layers` is 1 whatever their number.
    """
    if not any(key.startswith("dspark_") for key in keys.data):
        return 0
    stages = keys.integer("num_nextn_predict_layers", 0, low=0, high=LAYER_LIMIT)
    ratios = keys.get("compress_ratios")
    if isinstance(ratios, list) and len(ratios) > count:
        stages = len(ratios) - count
        place = next((i for i, ratio in enumerate(ratios) if i >= count and ratio), None)
        if place is not None:
            path, found = f"compress_ratios[{place}]", show_json(ratios[place])
            expected = "0 for each stage that drafts"
            raise keys.fail("config.range", path, expected=expected, found=found)
    return max(1, stages)


def _v4_attention(keys: Keys, count: int, drafts: int, stages: int) -> list[tuple[str, int]]:
    """Kind and ratio of the main layers, then of the draft layers."""
    published = _v4_published_attention(keys, count, drafts, stages)
    named = _v4_named_attention(keys, count, published)
    if not published:
        return named + [(SLIDING, 0)] * drafts
    for layer, (one, two) in enumerate(zip(published, named, strict=False)):
        other, part = ("layer_types", 0) if one[0] != two[0] else ("compress_rates", 1)
        if one != two:
            where = f" on layer {layer}"
            raise keys.contradiction("compress_ratios", other, one[part], two[part], where)
    return published


def _v4_published_attention(
    keys: Keys, count: int, drafts: int, stages: int
) -> list[tuple[str, int]]:
    if keys.get("compress_ratios") is None and keys.get("layer_types") is not None:
        return []
    entries = keys.entries("compress_ratios", count, count + drafts + stages)
    entries = entries[: count + drafts]  # those of stages are 0
    ratios = [keys.bounded(f"compress_ratios[{i}]", entry, 0) for i, entry in enumerate(entries)]
    if 1 in ratios:
        raise keys.fail("config.uncompressed", f"compress_ratios[{ratios.index(1)}]")
    ratios += [0] * (count + drafts - len(ratios))
    # The published code tells the kinds by the ratio alone: 4 is CSA, whatever else is HCA.
    kinds = {0: SLIDING, 4: CSA}
    return [(kinds.get(ratio, HCA), ratio) for ratio in ratios]


def _v4_named_attention(
    keys: Keys, count: int, published: Sequence[tuple[str, int]]
) -> list[tuple[str, int]]:
    kinds = [kind for kind, _ in published[:count]]
    if keys.get("layer_types") is not None:
        kinds = read_words(keys, "layer_types", count, ATTENTION)
    if published and keys.get("compress_rates") is None:
        return [(kind, ratio) for kind, (_, ratio) in zip(kinds, published, strict=False)]
    for kind in (CSA, HCA):  # transformers writes both, whichever layers there are
        keys.get(f"compress_rates.{kind}")
    rates = {kind: keys.integer(f"compress_rates.{kind}") for kind in {*kinds} - {SLIDING}}
    for kind in [kind for kind, rate in rates.items() if rate == 1 and not keys.missing]:
        raise keys.fail("config.uncompressed", f"compress_rates.{kind}")
    return [(kind, rates.get(kind, 0)) for kind in kinds]


def _v4_routers(keys: Keys, count: int) -> list[str]:
    def read(path: str) -> list[str]:
        if path == "mlp_layer_types":
            return read_words(keys, path, count, ROUTERS)
        hashed = keys.integer(path, low=0)
        keys.within(path, "num_hidden_layers", hashed, count)
        hashed = min(hashed, count)  # their number may stand in for one that is missing
        return ["hash_moe"] * hashed + ["moe"] * (count - hashed)

    return keys.agreed(read, "num_hash_layers", "mlp_layer_types")


def _v4_ropes(keys: Keys, indexed: bool) -> dict[str, Rope]:
    """Sliding layers rotate by the plain rule; cos and sin are never magnified."""
    main, compress = "rope_parameters.main", "rope_parameters.compress"
    nested = keys.get(main) is not None or keys.get(compress) is not None
    read_scaling(keys, ("default",), main)
    scaled = ("rope_scaling", compress if nested else "rope_parameters")
    scaling = read_scaling(keys, ("default", "yarn"), *scaled)
    for path in [f"{table}.attention_factor" for table in scaled]:
        if keys.get(path) is not None and keys.number(path) != 1:
            raise keys.fail("config.range", path, expected="1", found=show_json(keys.get(path)))
    theta = read_theta(keys, "rope_theta", f"{main}.rope_theta", "rope_parameters.rope_theta")
    far_theta = read_theta(keys, "compress_rope_theta", f"{compress}.rope_theta")
    tables = ("", "rope_parameters.", f"{main}.", f"{compress}.")
    factors = [f"{table}partial_rotary_factor" for table in tables]
    dims = _rotated(keys, "qk_rope_head_dim", *factors)
    if indexed:
        keys.checking().integer("index_n_heads")
        keys.checking().integer("index_topk")
        keys.within("qk_rope_head_dim", "index_head_dim", dims)
    return {
        "sliding": Rope(dims, theta, "interleaved"),
        "compressed": Rope(dims, far_theta, "interleaved", **scaling),
    }


def _rotated(keys: Keys, *paths: str) -> int:
    """Rotated channels of a head, from their number or from their part of `head_dim`."""

    def read(path: str) -> int:
        if path == "qk_rope_head_dim":
            return keys.integer(path)
        return int(keys.number(path) * keys.integer("head_dim") + 1e-6)

    dims = keys.agreed(read, *paths)
    path = next((path for path in paths if keys.get(path) is not None), paths[0])
    keys.even(path, dims)
    keys.within(path, "head_dim", dims)
    return dims
