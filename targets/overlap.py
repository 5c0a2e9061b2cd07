"""What hiding communication under computation is worth: recurrences over waves, on arrays.

    waves i = 1 .. n of an expert layer
    d_i = d_(i-1) + D_i
    c_i = max(c_(i-1), d_i) + E_i
    r_i = max(r_(i-1), c_i) + C_i

D, E and C are the seconds of dispatch, of the experts and of combine. Ranks send while they
receive: with one lane for both transfers (`duplex=False`) combine starts once the last row was
dispatched, as the ports carry either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
FILL = 2
"""Rounds of tiles over all cores that a wave of the reference policy has at least."""


def wave_time(dispatch: Any, experts: Any, combine: Any, duplex: bool = True) -> Seconds:
    """Seconds [...] until the last result is back, from those of each wave [..., n]."""
    dispatch, experts, combine = np.broadcast_arrays(dispatch, experts, combine)
    arrived = np.cumsum(dispatch, axis=-1, dtype=np.float64)
    computed = np.zeros(arrived.shape[:-1])
    back = computed if duplex else arrived[..., -1]
    for wave in range(arrived.shape[-1]):
        computed = np.maximum(computed, arrived[..., wave]) + experts[..., wave]
        back = np.maximum(back, computed) + combine[..., wave]
    return back


def reference_waves(slots: int, rows: float, tiles: float, cores: float) -> int:
    """Waves as DeepGEMM's fused kernel has them (`heuristics/mega_moe.hpp`, pull request 316).

    A wave has the fewest experts whose tiles of the first product fill all cores `FILL` times, and
    up to twice as many where that avoids a short last wave; with less than one row an expert one
    wave has all. `rows` and `tiles` are those of one expert.
    """
    if rows < 1:
        return 1
    least = min(slots, max(1, int(np.ceil(FILL * cores / max(tiles, 1e-9)))))
    sizes = range(least, min(slots, 2 * least) + 1)
    best = min(sizes, key=lambda size: (-(-slots // size) * size - slots, size))
    return -(-slots // best)
