"""Where a shared expert runs: on every rank, on ranks of its own, or as one more routed expert.

    replicated   every rank runs it on its own tokens while rows travel: only what dispatch does
                 not hide counts
    own ranks    R S / (K + S) of the R ranks hold nothing else: the other ranks read no shared
                 weights, but rows of the shared experts travel too, and routed ones get fewer ranks
    fused        a slot of each rank's grouped products: read beside the others, nothing hidden,
                 no launch of its own

S shared experts, K routed choices. All of a layer is timed each way, by the formulas of
`layer_time`. The IR has replicated ones; the others are shown beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from supertile.ir.expert_layer import ExpertLayer
from supertile.targets.comm.choice import choose, exchanges
from supertile.targets.comm.layer_time import ExpertTime, expert_time
from supertile.targets.machine_types import Machine

TAKEN = "replicated"


@dataclass(frozen=True)
class SharedOption:
    """One way to run the shared experts of a layer."""

    name: str
    seconds: float
    """Dispatch, all experts and combine of one layer."""
    weight_bytes: float
    """Of the shared experts of all layers, on a rank that has them."""
    formula: str


def shared_options(
    machine: Machine, sizes: ExpertLayer, ranks: int, tokens: float
) -> list[SharedOption]:
    """The options, the taken one first; none without shared experts or with one rank."""
    if not sizes.shared or ranks == 1:
        return []
    weights = sizes.layers * sizes.shared_bytes
    found = [
        ("replicated", *_replicated(machine, sizes, ranks, tokens)),
        ("fused", *_fused(machine, sizes, ranks, tokens)),
    ]
    own = round(ranks * sizes.shared / (sizes.choices + sizes.shared))
    if own and own < ranks:
        found.append((f"on {own} ranks of its own", *_apart(machine, sizes, ranks, own, tokens)))
    return [SharedOption(name, seconds, weights, formula) for name, seconds, formula in found]


def _replicated(
    machine: Machine, sizes: ExpertLayer, ranks: int, tokens: float
) -> tuple[float, str]:
    dispatch, combine, rows = _transfers(machine, sizes, ranks, tokens)
    routed = _seconds(expert_time(machine, sizes, rows, -(-sizes.experts // ranks)))
    shared = _shared_seconds(machine, sizes, tokens)
    seconds = max(dispatch, shared) + routed + combine
    return seconds, (
        f"max(dispatch {_us(dispatch)}, shared {_us(shared)}) + experts {_us(routed)} "
        f"+ combine {_us(combine)}"
    )


def _fused(machine: Machine, sizes: ExpertLayer, ranks: int, tokens: float) -> tuple[float, str]:
    dispatch, combine, rows = _transfers(machine, sizes, ranks, tokens)
    routed = expert_time(machine, sizes, rows, -(-sizes.experts // ranks))
    shared = _shared_time(machine, sizes, tokens)
    both = ExpertTime(
        routed.launch,
        routed.arithmetic + shared.arithmetic,
        routed.weights + shared.weights,
        routed.figures,
    )
    experts = _seconds(both)
    seconds = dispatch + experts + combine
    return seconds, (
        f"dispatch {_us(dispatch)} + experts with the shared ones {_us(experts)} "
        f"+ combine {_us(combine)}"
    )


def _apart(
    machine: Machine, sizes: ExpertLayer, ranks: int, own: int, tokens: float
) -> tuple[float, str]:
    """All ranks send; `own` of them serve the shared experts of all, the rest the routed ones."""
    more = max(1, round(sizes.shared))
    wider = replace(sizes, choices=sizes.choices + more, experts=sizes.experts + more)
    dispatch, combine, _ = _transfers(machine, wider, ranks, tokens)
    rest = ranks - own
    *_, rows = _transfers(machine, sizes, rest, tokens * ranks / rest)
    routed = _seconds(expert_time(machine, sizes, rows, -(-sizes.experts // rest)))
    shared = _shared_seconds(machine, sizes, tokens * ranks / own)
    seconds = dispatch + max(routed, shared) + combine
    return seconds, (
        f"dispatch of {wider.choices} choices {_us(dispatch)} + max(experts on {rest} ranks "
        f"{_us(routed)}, shared on {own} {_us(shared)}) + combine {_us(combine)}"
    )


def _transfers(
    machine: Machine, sizes: ExpertLayer, ranks: int, tokens: float
) -> tuple[float, float, float]:
    """Seconds of dispatch and combine by their routes, and the rows of the fullest rank."""
    sent = exchanges(sizes.row, ranks, sizes.experts, sizes.choices, tokens)
    rows = float(sent["dispatch"].copies)
    if ranks == 1:
        return 0.0, 0.0, rows
    dispatch, combine = (float(choose(machine, one).best.seconds) for one in sent.values())
    return dispatch, combine, rows


def _shared_time(machine: Machine, sizes: ExpertLayer, tokens: float) -> ExpertTime:
    """Of the shared experts on a rank with these tokens: they may have a format of their own."""
    shared = replace(sizes, expert_bytes=sizes.shared_bytes / sizes.shared)
    return expert_time(machine, shared, tokens * sizes.shared, sizes.shared)


def _shared_seconds(machine: Machine, sizes: ExpertLayer, tokens: float) -> float:
    return _seconds(_shared_time(machine, sizes, tokens))


def _seconds(time: ExpertTime) -> float:
    return float(np.max(time.seconds))


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.4g} us"
