"""Pictures of the load of ranks, before and after planning, as SVG for a page.

Loads are shown over their mean, so that 1 is perfect balance and the highest point of a layer is
what all ranks wait for. The axis fits the placements that were made for the loads; others, which
may be many times as uneven, stop at its edge, and the legend says how far they go.

Sizes: L layers, G ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape

import numpy as np

from supertile.targets.placement.expert_map import Floats, over_mean

WIDTH, HEIGHT = 900, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 34
POINTS = 400
"""Ranks that a curve shows at most, evenly spread and the fullest among them."""


@dataclass(frozen=True)
class Curve:
    """Points of one colour; `kind` is the class that gives it."""

    label: str
    kind: str
    x: Floats
    y: Floats
    joined: bool = True
    fits: bool = True
    """Whether the axis is made for it."""


def layer_picture(
    layers: Sequence[int],
    sides: Sequence[tuple[str, Floats]],
    bound: Floats,
    fitting: Sequence[str] = (),
) -> str:
    """The fullest rank of each layer over the mean; `sides` are (name, loads [L, G]).

    The axis is made for the sides that are `fitting`, or for all of them where none is.
    """
    x = np.arange(len(layers), dtype=np.float64)
    curves = [
        Curve(
            label=f"{name}, fullest rank",
            kind=f"side-{number}",
            x=x,
            y=over_mean(loads).max(axis=1),
            joined=False,
            fits=name in fitting or not fitting,
        )
        for number, (name, loads) in enumerate(sides)
    ]
    mean = np.maximum(sides[0][1].mean(axis=1), np.finfo(float).tiny)
    curves.append(Curve("lower bound", "bound", x, np.maximum(bound / mean, 1.0)))
    ticks = {n: str(layers[n]) for n in _spread(len(layers), 12)}
    return _picture("layer", "load / mean", curves, ticks)


def rank_picture(sides: Sequence[tuple[str, Floats]], fitting: Sequence[str] = ()) -> str:
    """The ranks of one layer by load, the fullest first; `sides` are (name, loads [G])."""
    curves = []
    for number, (name, loads) in enumerate(sides):
        ordered = np.sort(over_mean(loads[None])[0])[::-1]
        kept = _spread(len(ordered), POINTS)
        curves.append(
            Curve(
                label=name,
                kind=f"side-{number}",
                x=np.array(kept, dtype=np.float64),
                y=ordered[kept],
                fits=name in fitting or not fitting,
            )
        )
    ranks = len(sides[0][1])
    ticks = {n: f"{n + 1:,}" for n in _spread(ranks, 6)}
    return _picture("rank, the fullest first", "load / mean", curves, ticks)


def _spread(count: int, most: int) -> list[int]:
    """At most so many numbers below `count`, the first and the last among them."""
    numbers = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    return sorted(set(numbers.tolist()))


# ---- drawing -----------------------------------------------------------------------------------


def _picture(across: str, upward: str, curves: Sequence[Curve], ticks: dict[int, str]) -> str:
    right = max(1.0, max(float(curve.x.max()) for curve in curves))
    low, top = _range([curve for curve in curves if curve.fits])

    def place(x: float, y: float) -> tuple[float, float]:
        height = (min(max(y, low), top) - low) / (top - low)
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / right,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * height,
        )

    parts = [
        f'<svg class="loads" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(upward)} by {escape(across)}">'
    ]
    for value in _levels(low, top):
        _, y = place(0, value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{value:g}</text>')
    for at, shown in ticks.items():
        x, _ = place(at, low)
        parts.append(f'<text class="mid" x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}">{shown}</text>')
    parts.append(f'<text x="2" y="{TOP - 12}">{escape(upward)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="mid" x="{middle}" y="{HEIGHT - 3}">{escape(across)}</text>')
    for curve in curves:
        parts.append(_drawn(curve, [place(*point) for point in zip(curve.x, curve.y, strict=True)]))
    parts.append("</svg>")
    return "\n".join([*parts, _legend(curves, low, top)])


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    """The ends of the axis: perfect balance is on it, and a little room around all points."""
    low = min(1.0, min(float(curve.y.min()) for curve in curves))
    top = max(1.0, max(float(curve.y.max()) for curve in curves))
    room = max(0.05 * (top - low), 0.01)
    return max(0.0, low - room), top + room


def _levels(low: float, top: float) -> list[float]:
    """Round values for the grid, about five of them."""
    step = float(f"1e{Decimal((top - low) / 4).adjusted()}")
    step *= next(factor for factor in (1, 2, 5, 10) if (top - low) / (step * factor) <= 6)
    first = np.ceil(round(low / step, 6)) * step
    return [float(value) for value in np.arange(first, top, step).round(9)]


def _drawn(curve: Curve, places: Sequence[tuple[float, float]]) -> str:
    if curve.joined:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        return f'<polyline class="{curve.kind}" points="{points}"/>'
    return "".join(
        f'<circle class="{curve.kind}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
        f"<title>{escape(curve.label)}: {value:.4g}</title></circle>"
        for (x, y), value in zip(places, curve.y, strict=True)
    )


def _legend(curves: Sequence[Curve], low: float, top: float) -> str:
    items = (
        f'<li><i class="dot {curve.kind}"></i>{escape(curve.label)}{_beyond(curve, low, top)}</li>'
        for curve in curves
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _beyond(curve: Curve, low: float, top: float) -> str:
    """How far a curve goes that leaves the axis."""
    least, most = float(curve.y.min()), float(curve.y.max())
    if most <= top and least >= low:
        return ""
    return f": {least:.4g} to {most:.4g}, beyond the axis where at its edge"
