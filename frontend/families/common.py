"""What the families share: rows, ropes, the checks of keys that need no other key.

Sources: transformers 5.23 (`modeling_rope_utils`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from supertile.ir.tables import Table

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys

Row = Mapping[str, object]

LAYER_LIMIT = 4096  # a row is made for each layer

# fmt: off
# Sizes, integers of 1 and more: what every family needs, then what each needs.
SIZES = ("vocab_size", "hidden_size", "num_attention_heads")
FAMILY_SIZES = Table(__name__, "FAMILY_SIZES", {
    "deepseek_v4": (
        "head_dim", "q_lora_rank", "o_groups", "o_lora_rank", "sliding_window",
        "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
    ),
    "deepseek_v3": (
        "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "intermediate_size",
        "n_routed_experts", "num_experts_per_tok", "n_group", "topk_group", "moe_intermediate_size",
    ),
})
# Checked where present, left to the model file where absent.
OPTIONAL_SIZES = (
    "q_lora_rank", "n_shared_experts", "max_position_embeddings", "hc_mult", "hc_sinkhorn_iters",
    "index_n_heads", "index_head_dim", "index_topk",
)
OPTIONAL_NUMBERS = ("routed_scaling_factor", "swiglu_limit", "hc_eps")
OPTIONAL_FLAGS = ("norm_topk_prob", "attention_bias", "mlp_bias", "use_sliding_window")
# fmt: on
# Of the output head when tied to the embedding, and when not.
HEAD_WEIGHTS = Table(
    __name__,
    "HEAD_WEIGHTS",
    {
        "deepseek_v4": ("embed.weight", "head.weight"),
        "deepseek_v3": ("model.embed_tokens.weight", "lm_head.weight"),
    },
)


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
    block_drafts: int = 0


def common_values(keys: Keys, dialect: str) -> dict[str, object]:
    """Checks the keys that need no other key; what of them is normalised."""
    checks = keys.checking()  # whether the model reads them is for its file to say
    present = [key for key in OPTIONAL_SIZES if checks.get(key) is not None]
    for key in (*SIZES, *FAMILY_SIZES[dialect], *present):
        checks.integer(key)
    for key in [key for key in OPTIONAL_FLAGS if checks.get(key) is not None]:
        checks.flag(key)
    numbers = [key for key in OPTIONAL_NUMBERS if checks.get(key) is not None]
    tied, own = HEAD_WEIGHTS[dialect]
    return {
        **{key: checks.number(key) for key in ("rms_norm_eps", *numbers)},
        "head_weight": tied if keys.flag("tie_word_embeddings", False) else own,
        "num_hidden_layers": keys.integer("num_hidden_layers", high=LAYER_LIMIT),
    }


def read_words(keys: Keys, path: str, count: int, accepted: Sequence[str]) -> list[str]:
    entries = enumerate(keys.entries(path, count))
    if path in keys.missing:
        return [accepted[0]] * count
    return [keys.among(f"{path}[{index}]", entry, accepted) for index, entry in entries]


THETAS = ("rope_theta", "rope_parameters.rope_theta", "rope_scaling.rope_theta")


def read_theta(keys: Keys, *paths: str, default: float | None = None) -> float:
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


def read_scaling(keys: Keys, accepted: Sequence[str], *tables: str) -> dict[str, Any]:
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


def read_magnitude(keys: Keys, table: str) -> float:
    """YaRN's factor on cos and sin: as the file says, else 0.1 ln(factor) + 1."""
    factor = keys.number(f"{table}.factor")
    part = keys.number(f"{table}.mscale", 0.0, low=0.0)
    whole = keys.number(f"{table}.mscale_all_dim", 0.0, low=0.0)
    ratio = yarn_magnitude(factor, 1.0)
    if part and whole:
        ratio = yarn_magnitude(factor, part) / yarn_magnitude(factor, whole)
    return keys.number(f"{table}.attention_factor", ratio)


def yarn_magnitude(factor: float, weight: float) -> float:
    """0.1 weight ln(factor) + 1: YaRN's correction for the longer context (arXiv 2309.00071)."""
    if factor <= 1:
        return 1.0
    from supertile.ir import portable_math  # brings NumPy, which few configs need

    return 0.1 * weight * float(portable_math.log(factor)) + 1.0
