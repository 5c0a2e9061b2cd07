"""What the keys of each model family mean: one function a family, from checked keys to rows.

Sources: transformers 5.23 (`configuration_deepseek_v4`, `modeling_deepseek_v3`,
`modeling_rope_utils`) and the inference code published with DeepSeek-V4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Config, Keys

Row = Mapping[str, object]

SLIDING, CSA, HCA = ATTENTION = (
    "sliding_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
)
ROUTERS = ("hash_moe", "moe")
LAYER_LIMIT = 4096  # a row is made for each layer

# fmt: off
# Sizes, integers of 1 and more: what every family needs, then what each needs.
SIZES = ("vocab_size", "hidden_size", "num_attention_heads")
FAMILY_SIZES = {
    "deepseek_v4": (
        "head_dim", "q_lora_rank", "o_groups", "o_lora_rank", "sliding_window",
        "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
    ),
    "deepseek_v3": (
        "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "intermediate_size",
        "n_routed_experts", "num_experts_per_tok", "n_group", "topk_group", "moe_intermediate_size",
    ),
    "llama": ("intermediate_size",),
    "qwen3_moe": (
        "num_key_value_heads", "intermediate_size", "num_experts", "num_experts_per_tok",
        "moe_intermediate_size",
    ),
}
# Checked where present, left to the model file where absent.
OPTIONAL_SIZES = (
    "q_lora_rank", "n_shared_experts", "max_position_embeddings", "hc_mult", "hc_sinkhorn_iters",
    "index_n_heads", "index_head_dim", "index_topk",
)
OPTIONAL_NUMBERS = ("routed_scaling_factor", "swiglu_limit", "hc_eps")
OPTIONAL_FLAGS = ("norm_topk_prob", "attention_bias", "mlp_bias", "use_sliding_window")
# fmt: on
HEAD_WEIGHTS = {  # of the output head when tied to the embedding, and when not
    "deepseek_v4": ("embed.weight", "head.weight"),
    "deepseek_v3": ("model.embed_tokens.weight", "lm_head.weight"),
    "llama": ("model.embed_tokens.weight", "lm_head.weight"),
    "qwen3_moe": ("model.embed_tokens.weight", "lm_head.weight"),
}


@dataclass(frozen=True)
class Rope:
    """How a layer rotates its channels by position."""

    dims: int
    """Rotated channels"""
    theta: float
    pairs: str
    """"interleaved": (x0, x1), (x2, x3); "halves": (x_i, x_{i + dims/2})"""
    scaling: str = "default"
    """default, linear, yarn or llama3"""
    factor: float = 1.0
    original: int = 0
    """original_max_position_embeddings, tokens"""
    beta_fast: float = 32.0
    """yarn: turns over `original` above which a channel keeps its frequency"""
    beta_slow: float = 1.0
    """yarn: turns below which it is slowed by the whole factor"""
    low_frequency: float = 1.0
    """llama3: as beta_slow"""
    high_frequency: float = 4.0
    """llama3: as beta_fast"""
    magnitude: float = 1.0
    """Multiplies cos and sin."""


class Parts(NamedTuple):
    """What a family's function finds; `Config` says what each is."""

    values: dict[str, object]
    ropes: dict[str, Rope]
    layers: tuple[Row, ...]
    draft_layers: tuple[Row, ...] = ()


# ---- DeepSeek-V4


def deepseek_v4(keys: Keys) -> Parts:
    """Rows: attention, ratio, overlap, router, rope, experts ("fp4" or "fp8")."""
    values = _common_values(keys, "deepseek_v4")
    keys.integer("num_key_value_heads", 1, high=1)
    keys.divides("o_groups", "num_attention_heads")
    keys.within("num_experts_per_tok", "n_routed_experts")
    count = keys.integer("num_hidden_layers")
    drafts = keys.integer("num_nextn_predict_layers", 0, low=0, high=LAYER_LIMIT)
    experts = keys.choice("expert_dtype", ("fp4", "fp8"), "fp8")
    attention = _v4_attention(keys, count, drafts)
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
    return Parts(values, ropes, rows[:count], rows[count:])


def _v4_attention(keys: Keys, count: int, drafts: int) -> list[tuple[str, int]]:
    """Kind and ratio of the main layers, then of the draft layers."""
    published = _v4_published_attention(keys, count, drafts)
    named = _v4_named_attention(keys, count, published)
    if not published:
        return named + [(SLIDING, 0)] * drafts
    for layer, (one, two) in enumerate(zip(published, named, strict=False)):
        other, part = ("layer_types", 0) if one[0] != two[0] else ("compress_rates", 1)
        if one != two:
            where = f" on layer {layer}"
            raise keys.contradiction("compress_ratios", other, one[part], two[part], where)
    return published


def _v4_published_attention(keys: Keys, count: int, drafts: int) -> list[tuple[str, int]]:
    if keys.get("compress_ratios") is None and keys.get("layer_types") is not None:
        return []
    entries = keys.entries("compress_ratios", count, count + drafts)
    ratios = [keys.bounded(f"compress_ratios[{i}]", entry, 0) for i, entry in enumerate(entries)]
    ratios += [0] * (count + drafts - len(ratios))
    # The published code tells the kinds by the ratio alone: 4 is CSA, whatever else is HCA.
    kinds = {0: SLIDING, 4: CSA}
    return [(kinds.get(ratio, HCA), ratio) for ratio in ratios]


def _v4_named_attention(
    keys: Keys, count: int, published: Sequence[tuple[str, int]]
) -> list[tuple[str, int]]:
    kinds = [kind for kind, _ in published[:count]]
    if keys.get("layer_types") is not None:
        kinds = _words(keys, "layer_types", count, ATTENTION)
    if published and keys.get("compress_rates") is None:
        return [(kind, ratio) for kind, (_, ratio) in zip(kinds, published, strict=False)]
    rates = {kind: keys.integer(f"compress_rates.{kind}") for kind in {*kinds} - {SLIDING}}
    return [(kind, rates.get(kind, 0)) for kind in kinds]


def _v4_routers(keys: Keys, count: int) -> list[str]:
    def read(path: str) -> list[str]:
        if path == "mlp_layer_types":
            return _words(keys, path, count, ROUTERS)
        hashed = min(count, keys.integer(path, low=0))
        return ["hash_moe"] * hashed + ["moe"] * (count - hashed)

    return keys.agreed(read, "num_hash_layers", "mlp_layer_types")


def _v4_ropes(keys: Keys, indexed: bool) -> dict[str, Rope]:
    """Sliding layers rotate by the plain rule; cos and sin are never magnified."""
    main, compress = "rope_parameters.main", "rope_parameters.compress"
    nested = keys.get(main) is not None or keys.get(compress) is not None
    _scaling(keys, ("default",), main)
    scaled = ("rope_scaling", compress if nested else "rope_parameters")
    scaling = _scaling(keys, ("default", "yarn"), *scaled)
    theta = _theta(keys, "rope_theta", f"{main}.rope_theta", "rope_parameters.rope_theta")
    far_theta = _theta(keys, "compress_rope_theta", f"{compress}.rope_theta")
    tables = ("", "rope_parameters.", f"{main}.", f"{compress}.")
    factors = [f"{table}partial_rotary_factor" for table in tables]
    dims = _rotated(keys, "qk_rope_head_dim", *factors)
    if indexed:
        keys.integer("index_n_heads")
        keys.integer("index_topk")
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
    path = next(path for path in paths if keys.get(path) is not None)
    keys.even(path, dims)
    keys.within(path, "head_dim", dims)
    return dims


# ---- DeepSeek-V3 and R1


def deepseek_v3(keys: Keys) -> Parts:
    """Rows: feed_forward ("dense" or "moe"), rope. Draft layers are not run."""
    values = _common_values(keys, "deepseek_v3")
    keys.divides("n_group", "n_routed_experts")
    keys.within("topk_group", "n_group")
    keys.within("num_experts_per_tok", "n_routed_experts")
    per_group = keys.integer("n_routed_experts") // keys.integer("n_group")
    selectable = keys.integer("topk_group") * per_group
    keys.within("num_experts_per_tok", "topk_group", limit=selectable)
    count = keys.integer("num_hidden_layers")
    dense = keys.integer("first_k_dense_replace", low=0)
    every = keys.integer("moe_layer_freq", 1)
    rope, softmax_factor = _v3_rope(keys)
    kinds = ["dense" if i < dense or i % every else "moe" for i in range(count)]
    width = keys.integer("qk_nope_head_dim") + rope.dims
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


def _v3_rope(keys: Keys) -> tuple[Rope, float]:
    """The rope, and the factor on the scale of the attention scores."""
    tables = ("rope_scaling", "rope_parameters")
    scaling = _scaling(keys, ("default", "yarn"), *tables)
    softmax_factor = 1.0
    if scaling:
        magnitudes = keys.agreed(lambda table: _v3_magnitudes(keys, table), *tables)
        scaling["magnitude"], softmax_factor = magnitudes
    dims = keys.integer("qk_rope_head_dim")
    keys.even("qk_rope_head_dim", dims)
    pairs = "interleaved" if keys.flag("rope_interleave", True) else "halves"
    theta = _theta(keys, "rope_theta", "rope_parameters.rope_theta", default=10000.0)
    return Rope(dims, theta, pairs, **scaling), softmax_factor


def _v3_magnitudes(keys: Keys, table: str) -> tuple[float, float]:
    """YaRN's factor on cos and sin, and its factor on the scale of the attention scores."""
    factor = keys.number(f"{table}.factor")
    part = keys.number(f"{table}.mscale", 0.0, low=0.0)
    whole = keys.number(f"{table}.mscale_all_dim", 0.0, low=0.0)
    ratio = _yarn_magnitude(factor, 1.0)
    if part and whole:
        ratio = _yarn_magnitude(factor, part) / _yarn_magnitude(factor, whole)
    return keys.number(f"{table}.attention_factor", ratio), _yarn_magnitude(factor, whole) ** 2


def _yarn_magnitude(factor: float, weight: float) -> float:
    """0.1 weight ln(factor) + 1: YaRN's correction for the longer context (arXiv 2309.00071)."""
    if factor <= 1:
        return 1.0
    from supertile.ir import portable_math  # brings NumPy, which few configs need

    return 0.1 * weight * float(portable_math.log(factor)) + 1.0


# ---- Llama


def llama(keys: Keys) -> Parts:
    """Rows: rope."""
    values = _common_values(keys, "llama")
    heads, dims = keys.integer("num_attention_heads"), _head_channels(keys)
    scaling = _scaling(keys, ("default", "linear", "llama3"), "rope_scaling", "rope_parameters")
    theta = _theta(keys, "rope_theta", "rope_parameters.rope_theta", default=10000.0)
    rope = Rope(dims, theta, "halves", **scaling)
    values |= {
        "head_dim": dims,
        "num_key_value_heads": keys.integer("num_key_value_heads", heads),
        "rope_theta": theta,
    }
    return Parts(values, {"main": rope}, ({"rope": rope},) * keys.integer("num_hidden_layers"))


def _head_channels(keys: Keys) -> int:
    """`head_dim`, all of which is rotated; heads of keys and values divide those of queries."""
    if keys.get("head_dim") is None:
        keys.divides("num_attention_heads", "hidden_size")
    if keys.get("num_key_value_heads") is not None:
        keys.divides("num_key_value_heads", "num_attention_heads")
    width = keys.integer("hidden_size") // keys.integer("num_attention_heads")
    channels = keys.integer("head_dim", width)
    keys.even("head_dim", channels)
    return channels


# ---- Qwen3-MoE


def qwen3_moe(keys: Keys) -> Parts:
    """Rows: feed_forward ("dense" or "moe"), rope. Absent flags are false, as in transformers."""
    values = _common_values(keys, "qwen3_moe")
    if keys.get("quantization_config") is not None:
        raise keys.fail("config.quantized", "quantization_config", family="qwen3_moe")
    keys.within("num_experts_per_tok", "num_experts")
    dims, rope = _head_channels(keys), _qwen3_rope(keys)
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
    scaling = _scaling(keys, ("default", "yarn"), *tables)
    if scaling:
        magnitude = _yarn_magnitude(scaling["factor"], 1.0)
        paths = [f"{table}.attention_factor" for table in tables]
        scaling["magnitude"] = keys.agreed(keys.number, *paths, default=magnitude)
    theta = _theta(keys, "rope_theta", "rope_parameters.rope_theta", default=10000.0)
    return Rope(_head_channels(keys), theta, "halves", **scaling)


FAMILIES: dict[str, Callable[[Keys], Parts]] = {
    "deepseek_v4": deepseek_v4,
    "deepseek_v3": deepseek_v3,
    "llama": llama,
    "qwen3_moe": qwen3_moe,
}


# ---- what the families share


def _common_values(keys: Keys, family: str) -> dict[str, object]:
    """Checks the keys that need no other key; what of them is normalised."""
    present = [key for key in OPTIONAL_SIZES if keys.get(key) is not None]
    for key in (*SIZES, *FAMILY_SIZES[family], *present):
        keys.integer(key)
    for key in [key for key in OPTIONAL_FLAGS if keys.get(key) is not None]:
        keys.flag(key)
    numbers = [key for key in OPTIONAL_NUMBERS if keys.get(key) is not None]
    tied, own = HEAD_WEIGHTS[family]
    return {
        **{key: keys.number(key) for key in ("rms_norm_eps", *numbers)},
        "model_type": family,
        "head_weight": tied if keys.flag("tie_word_embeddings", False) else own,
        "num_hidden_layers": keys.integer("num_hidden_layers", high=LAYER_LIMIT),
    }


def _words(keys: Keys, path: str, count: int, accepted: Sequence[str]) -> list[str]:
    entries = enumerate(keys.entries(path, count))
    return [keys.among(f"{path}[{index}]", entry, accepted) for index, entry in entries]


def _theta(keys: Keys, *paths: str, default: float | None = None) -> float:
    """The base of the angles; 1 and less would rotate all channels alike."""
    return keys.agreed(lambda path: keys.number(path, low=2.0), *paths, default=default)


# Of each scaling rule: the fields of Rope, their keys and defaults.
SCALING_KEYS: dict[str, dict[str, tuple[str, float | None]]] = {
    "default": {},
    "linear": {"factor": ("factor", None)},
    "yarn": {
        "factor": ("factor", None),
        "beta_fast": ("beta_fast", 32.0),
        "beta_slow": ("beta_slow", 1.0),
    },
    "llama3": {
        "factor": ("factor", None),
        "low_frequency": ("low_freq_factor", None),
        "high_frequency": ("high_freq_factor", None),
    },
}


def _scaling(keys: Keys, accepted: Sequence[str], *tables: str) -> dict[str, Any]:
    """The fields of `Rope` that the present ones of the tables give alike."""

    def read(table: str) -> dict[str, Any]:
        kinds = (f"{table}.rope_type", f"{table}.type")
        kind = keys.agreed(lambda path: keys.choice(path, accepted), *kinds, default="default")
        pairs = SCALING_KEYS[kind].items()
        found: dict[str, Any] = {
            field: keys.number(f"{table}.{key}", default) for field, (key, default) in pairs
        }
        original = f"{table}.original_max_position_embeddings"
        if kind == "yarn" and keys.get(original) is None:
            original = "max_position_embeddings"
        if kind in ("yarn", "llama3"):
            found["original"] = keys.integer(original)
        if kind == "llama3" and found["high_frequency"] <= found["low_frequency"]:
            key, other = f"{table}.low_freq_factor", f"{table}.high_freq_factor"
            limit, low = f"less than {found['high_frequency']}", found["low_frequency"]
            raise keys.fail("config.above", key, other=other, limit=limit, found=low)
        return {"scaling": kind, **found} if found else found

    plain: dict[str, Any] = {}
    return dict(keys.agreed(read, *tables, default=plain))


# ---- small models

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
