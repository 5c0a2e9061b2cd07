"""Numbers of a config against each other: what holds in every published one and must hold.

A relation is checked where the file has both keys; the error names both. Relations that the layers
follow from are checked where they are read, in `families`; a model file adds its own by `require`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from supertile.ir.json_text import show_json

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys

# fmt: off
# The first is at most the second: a low rank is lower than what it stands for, and nothing looks
# back over, or chooses among, more tokens than there can be.
ALL_AT_MOST = (
    ("num_experts_per_tok", "n_routed_experts"), ("num_experts_per_tok", "num_experts"),
    ("num_experts_per_tok", "num_local_experts"), ("topk_group", "n_group"),
    ("first_k_dense_replace", "num_hidden_layers"), ("num_hash_layers", "num_hidden_layers"),
)
ONE_A_LAYER = ("layer_types", "mlp_layer_types")
AT_MOST: dict[str, tuple[tuple[str, str], ...]] = {
    "deepseek_v4": (
        ("q_lora_rank", "hidden_size"), ("sliding_window", "max_position_embeddings"),
        ("index_topk", "max_position_embeddings"),
    ),
    "deepseek_v3": (("q_lora_rank", "hidden_size"), ("kv_lora_rank", "hidden_size")),
}
# Sizes along which numbers are multiplied: activations are quantised in blocks along them.
BLOCKED = {
    "deepseek_v4": ("hidden_size", "q_lora_rank", "moe_intermediate_size"),
    "deepseek_v3": (
        "hidden_size", "q_lora_rank", "kv_lora_rank", "intermediate_size", "moe_intermediate_size",
    ),
}
# fmt: on
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
ROPE_TABLES = ("rope_scaling", "rope_parameters", "rope_parameters.compress")
BLOCK_KEY = "quantization_config.weight_block_size"
LENGTH = "max_position_embeddings"


def check_numbers(keys: Keys, family: str) -> None:
    """Raise about the first two numbers of the file that cannot both be meant."""
    checks = keys.checking()
    _check_all(checks)
    for key, other in AT_MOST.get(family, ()):
        if _has(checks, key, other):
            checks.within(key, other)
    _check_tokens(checks)
    _check_blocks(checks, BLOCKED.get(family, ()))
    if family == "deepseek_v4":
        _check_output(checks)
        _check_ratios(checks)


def _check_all(keys: Keys) -> None:
    """What holds whichever model has the keys; a model file need not repeat it."""
    for key, other in ALL_AT_MOST:
        part, limit = keys.get(key), keys.get(other)
        if isinstance(part, int) and isinstance(limit, int):
            keys.within(key, other, part, limit)
    heads, shared = keys.get("num_attention_heads"), keys.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(shared, int) and shared > 0:
        keys.divides("num_key_value_heads", "num_attention_heads")
    count = keys.get("num_hidden_layers")
    for key in [key for key in ONE_A_LAYER if isinstance(keys.get(key), list)]:
        if isinstance(count, int) and not keys.missing:
            keys.entries(key, count)


def cut_blocks(values: Mapping[str, object], dialect: str, block: int) -> list[str]:
    """Sizes that products sum over and that no whole number of blocks makes up: `key size`."""
    sizes = [(key, values.get(key)) for key in BLOCKED.get(dialect, ())]
    return [f"{key} {size}" for key, size in sizes if isinstance(size, int) and size % block]


def _has(keys: Keys, *paths: str) -> bool:
    return all(keys.get(path) is not None for path in paths)


def _check_tokens(keys: Keys) -> None:
    """Special tokens are in the vocabulary; some files write -1 for none."""
    if keys.get("vocab_size") is None:
        return
    vocabulary = keys.integer("vocab_size")
    for key in TOKEN_IDS:
        value = keys.get(key)
        for token in value if isinstance(value, list) else [value]:
            if isinstance(token, int) and token >= vocabulary and not keys.missing:
                found, limit = show_json(token), vocabulary - 1
                raise keys.fail("config.above", key, other="vocab_size", limit=limit, found=found)


def remarks(data: Mapping[str, object]) -> list[tuple[str, str]]:
    """What numbers of a file say that is possible, and seldom meant: keys, and a sentence each."""
    length, told = data.get(LENGTH), []
    for path, table in _tables(data):
        factor, original = table.get("factor"), table.get("original_max_position_embeddings")
        kind = table.get("rope_type") or table.get("type")  # Llama-3.1 goes on past 8 times 8,192
        if not isinstance(factor, int | float) or not isinstance(original, int):
            continue
        if kind == "yarn" and isinstance(length, int) and length > factor * original:
            reach = f"{original} x {factor:g} tokens that {path} stretches positions to"
            told.append((LENGTH, f"{LENGTH} {length} is beyond the {reach}"))
    return told


def _tables(data: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The objects of the file that say how positions are stretched, and their paths."""
    for path in ROPE_TABLES:
        place: object = data
        for step in path.split("."):
            place = place.get(step) if isinstance(place, Mapping) else None
        if isinstance(place, Mapping):
            yield path, place


def _check_blocks(keys: Keys, blocked: tuple[str, ...]) -> None:
    """Blocks of codes are whole along the axis that products sum over."""
    if keys.get("quantization_config") is None or keys.get(BLOCK_KEY) is None:
        return
    entries = keys.entries(BLOCK_KEY, 2)
    block = [keys.bounded(f"{BLOCK_KEY}[{axis}]", entry, 1) for axis, entry in enumerate(entries)]
    for key in [key for key in blocked if keys.get(key) is not None]:
        size = keys.integer(key)
        if size % block[1]:
            expected = f"a multiple of {block[1]}"
            raise keys.fail("config.blocks", key, other=BLOCK_KEY, expected=expected, found=size)


def _check_output(keys: Keys) -> None:
    """A group of heads is projected to fewer channels than it has."""
    width = keys.integer("num_attention_heads") * keys.integer("head_dim")
    group = width // keys.integer("o_groups")
    other = "num_attention_heads x head_dim / o_groups"
    keys.within("o_lora_rank", other, limit=group)


def _check_ratios(keys: Keys) -> None:
    """No entry stands for more tokens than a context has."""
    ratios = keys.get("compress_ratios")
    if not isinstance(ratios, list) or keys.get(LENGTH) is None:
        return
    for index, ratio in enumerate(ratios):
        if isinstance(ratio, int):
            keys.within(f"compress_ratios[{index}]", LENGTH, ratio)
