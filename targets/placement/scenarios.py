"""Load scenarios: what the loads of experts may be in a batch, where a forecast says their mean.

Two causes, alone or together: drift (the mix of requests changes, all batches with it) and finite
batches (a batch of few tokens is a sample). Planning and hold-out draw from independent streams.
Sizes: S scenarios, L layers, E experts, W windows of measured loads.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from supertile.ir import portable_math
from supertile.targets.placement.expert_map import Floats
from supertile.targets.placement.inputs import checked_load

Stream = Literal["planning", "hold-out"]
STREAMS: dict[Stream, int] = {"planning": 0, "hold-out": 1}


def forecast_scenarios(
    load: ArrayLike,
    count: int,
    *,
    drift: float = 0.0,
    pairs: int | None = None,
    seed: int = 0,
    stream: Stream = "planning",
) -> Floats:
    """[S, L, E] around the forecast [L, E], each layer with the forecast's total.

    `drift`: sigma of the log-normal factor of each expert, independent between experts, layers and
    scenarios. `pairs`: token-expert pairs of a batch (tokens of a rank x top-k x ranks); counts are
    multinomial, so the experts of a token are taken as independent. ValueError for a `drift` that
    is negative or no number, a batch or count under 1, and loads that `checked_load` refuses.
    """
    forecast = checked_load(load)
    if not np.isfinite(drift) or drift < 0:
        raise ValueError(f"a drift of {drift}, not 0 or more")
    random = _random(count, pairs, seed, stream)
    drifted = np.broadcast_to(forecast, (count, *forecast.shape))
    if drift:
        drifted = forecast * portable_math.exp(drift * random.standard_normal(drifted.shape))
    return _batches(drifted, forecast.sum(axis=1), pairs, random)


def window_scenarios(
    windows: ArrayLike,
    count: int,
    *,
    pairs: int | None = None,
    seed: int = 0,
    stream: Stream = "planning",
) -> Floats:
    """[S, L, E] from measured loads [W, L, E]: each scenario is one window, at the mean total.

    Planning draws from the first two thirds of the windows and hold-out from the others, as a plan
    meets later loads than those that made it. No window comes twice before all came once. `pairs`
    as in `forecast_scenarios`. ValueError for fewer than two windows.
    """
    measured = np.asarray(windows, np.float64)
    if measured.ndim != 3 or len(measured) < 2:
        raise ValueError(f"windows have the shape [2 or more, L, E], not {list(measured.shape)}")
    checked_load(measured.reshape(-1, measured.shape[2]))
    random = _random(count, pairs, seed, stream)
    split = min(max(1, round(len(measured) * 2 / 3)), len(measured) - 1)
    usable = measured[:split] if stream == "planning" else measured[split:]
    rounds = -(-count // len(usable))
    picks = np.concatenate([random.permutation(len(usable)) for _ in range(rounds)])[:count]
    return _batches(usable[picks], measured.sum(axis=2).mean(axis=0), pairs, random)


def _random(count: int, pairs: int | None, seed: int, stream: Stream) -> np.random.Generator:
    if count < 1:
        raise ValueError(f"{count} scenarios, not 1 or more")
    if pairs is not None and pairs < 1:
        raise ValueError(f"a batch of {pairs} pairs, not 1 or more")
    return np.random.default_rng([seed, STREAMS[stream]])


def _batches(
    drifted: Floats, totals: Floats, pairs: int | None, random: np.random.Generator
) -> Floats:
    """`drifted` [S, L, E], or samples of it, at the `totals` [L]; layers without load stay so."""
    sums = drifted.sum(axis=2, keepdims=True)
    parts = np.divide(drifted, sums, out=np.zeros(drifted.shape), where=sums > 0)
    if pairs is not None:
        parts = np.where(sums > 0, _sampled(parts, pairs, random) / pairs, 0.0)
    return np.asarray(parts * totals[:, None])


def _sampled(parts: Floats, pairs: int, random: np.random.Generator) -> Floats:
    """Multinomial counts; a layer without load, whose parts do not add up to 1, is sampled too."""
    uniform = np.full(parts.shape[2], 1 / parts.shape[2])
    rows = [[random.multinomial(pairs, p if p.any() else uniform) for p in of] for of in parts]
    return np.array(rows, np.float64)
