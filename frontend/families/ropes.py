"""A rope from the keys that releases share: the base of its angles, and a scaling rule.

    turn = rope_theta: rope[C, halves] or 10000.0

reads `rope_theta`, and `rope_scaling` or `rope_parameters` beside it; where a key says the same
twice, both must agree. Source: transformers 5.23 (`modeling_rope_utils`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from supertile.frontend.families.common import Rope, read_magnitude, read_scaling, read_theta

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys

RULES = ("default", "linear", "yarn", "llama3")
THETA = "rope_theta"
TABLES = ("rope_scaling", "rope_parameters")
# Keys of a table that are read here.
TABLE_KEYS = {
    "rope_type", "type", THETA, "factor", "original_max_position_embeddings", "beta_fast",
    "beta_slow", "low_freq_factor", "high_freq_factor", "attention_factor", "mscale",
    "mscale_all_dim",
}  # fmt: skip
# Keys of a table that change nothing at this value.
TABLE_DEFAULTS: dict[str, object] = {"truncate": True, "partial_rotary_factor": 1.0}


def read_rope(
    keys: Keys, key: str, dims: int, pairs: str, default: float | None, read: frozenset[str]
) -> Rope:
    """The rope of `dims` channels whose base is under `key`; `read` are keys read elsewhere."""
    outer = key.removesuffix(key.rpartition(".")[2])  # with its dot
    tables = [f"{outer}{table}" for table in TABLES]
    if outer.partition(".")[0] in TABLES:
        tables = [outer[:-1]]
    for table in tables:
        _check_table(keys, table, read)
    thetas = [key, *(f"{table}.{THETA}" for table in tables if key.endswith(THETA))]
    theta = read_theta(keys, *dict.fromkeys(thetas), default=default)
    scaling = read_scaling(keys, RULES, *tables)
    if scaling.get("scaling") == "yarn":
        scaling["magnitude"] = keys.agreed(lambda table: read_magnitude(keys, table), *tables)
    return Rope(dims, theta, pairs, **scaling)


def _check_table(keys: Keys, table: str, read: frozenset[str]) -> None:
    """Refuse what a table says and nobody reads: it would turn other angles."""
    values = keys.get(table)
    for name, value in values.items() if isinstance(values, Mapping) else ():
        path = f"{table}.{name}"
        known = name in TABLE_KEYS or path in read
        if not known and value is not None and value != TABLE_DEFAULTS.get(name):
            raise keys.fail("config.rope_key", path)
