"""Llama and models of its form."""

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
)

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys


def llama(keys: Keys) -> Parts:
    """Rows: rope."""
    values = common_values(keys, "llama")
    heads, dims = keys.integer("num_attention_heads"), head_channels(keys)
    scaling = read_scaling(keys, ("default", "linear", "llama3"), "rope_scaling", "rope_parameters")
    theta = read_theta(keys, *THETAS, default=10000.0)
    rope = Rope(dims, theta, "halves", **scaling)
    values |= {
        "head_dim": dims,
        "num_key_value_heads": keys.integer("num_key_value_heads", heads),
        "rope_theta": theta,
    }
    return Parts(values, {"main": rope}, ({"rope": rope},) * keys.integer("num_hidden_layers"))
