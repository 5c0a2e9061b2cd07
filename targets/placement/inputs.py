"""What every placement algorithm checks of its input before it starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from supertile.targets.placement.expert_map import Floats, Integers


def checked_load(load: ArrayLike) -> Floats:
    """[L, E] as float64; ValueError where a load is negative or no number, or where none is."""
    found = np.asarray(load, np.float64)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"loads have the shape [layers, experts], not {list(found.shape)}")
    wrong = ~np.isfinite(found) | (found < 0)
    if wrong.any():
        layer, expert = np.argwhere(wrong)[0]
        value = found[layer, expert]
        raise ValueError(f"the load of expert {expert} of layer {layer} is {value}, not 0 or more")
    with np.errstate(over="ignore"):
        total = found.sum(axis=1)
    if not np.isfinite(total).all():
        raise ValueError(
            f"the loads of layer {int(np.argmax(total))} add up to more than a float64"
        )
    return found


def checked_slots(slots: ArrayLike, experts: int) -> Integers:
    """[G] as int64; ValueError where a rank has none, or where they cannot hold all experts.

    A rank holds an expert once, so its slots past the number of experts do not count.
    """
    found = np.asarray(slots)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"slots have the shape [ranks], not {list(found.shape)}")
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"slots are whole numbers, not {found.dtype}")
    if (found < 1).any():
        raise ValueError(f"rank {int(np.argmax(found < 1))} has {found.min()} slots, not 1 or more")
    room = int(np.minimum(found, experts).sum())
    if room < experts:
        raise ValueError(f"{room} slots are too few for {experts} experts")
    return found.astype(np.int64)
