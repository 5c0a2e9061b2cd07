"""What a plan costs on the wire and in the experts, layer by layer, beside what bounds it.

The fullest rank of a layer has the load that the plan gives it, and by chance more: rows of a rank
are Poisson with the planned means, and E[max] over the ranks follows in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from supertile.ir.expert_layer import ExpertLayer
from supertile.targets.bounds import LayerBounds, hide_condition, layer_bounds
from supertile.targets.comm.choice import Choice, choice_lines, choose, exchanges
from supertile.targets.comm.expert_kernels import Works, kernel_experts
from supertile.targets.comm.layer_time import (
    PHASES,
    LayerTime,
    time_of_exchanges,
    weakest_evidence,
)
from supertile.targets.comm.shared_expert import shared_options
from supertile.targets.cost.placed_loads import PlacedLoads
from supertile.targets.cost.route import Exchange
from supertile.targets.cost.sizes import own_tokens
from supertile.targets.deploy import Deployment, Model
from supertile.targets.machine_types import Machine
from supertile.targets.output.units import seconds_text
from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.plan.plan_types import Scalar


@dataclass(frozen=True)
class Travel:
    """Lines for people, and the same for plan.json."""

    lines: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Dispatch, experts and combine of the slowest layer."""
    choices: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the slowest layer, by what bounds it."""
    evidence: Mapping[str, str] = field(default_factory=dict)


def travel_of(
    machine: Machine,
    model: Model,
    deployment: Deployment,
    load: Floats,
    placed: ExpertMap,
    works: Works,
) -> Travel:
    """Routes, times and bounds of the layers as planned; nothing travels on one rank.

    `works` are the kernels of a layer's experts, tiled for the deployment.
    """
    if placed.ranks == 1:
        return Travel()
    sizes = model.expert_layer
    tokens = own_tokens(deployment, model)
    loads = PlacedLoads.of(placed, load, "", "")
    tails, touched = loads.by_layer(tokens * sizes.choices)
    balanced = exchanges(sizes.row, placed.ranks, sizes.experts, sizes.choices, tokens)
    sent = {
        name: replace(one, tail=tails, tokens=np.full(len(tails), tokens))
        for name, one in balanced.items()
    }
    experts = kernel_experts(machine, works, tokens * sizes.choices * tails, touched)
    layers = time_of_exchanges(machine, sent, int(placed.slots.max()), experts)
    worst = int(np.argmax(layers.total))
    single = {
        name: replace(one, tail=float(tails[worst]), tokens=tokens) for name, one in sent.items()
    }
    return _told(machine, sizes, layers, single, worst, float(touched[worst]))


def _told(
    machine: Machine,
    sizes: ExpertLayer,
    layers: LayerTime,
    single: Mapping[str, Exchange],
    worst: int,
    touched: float,
) -> Travel:
    choices = {name: choose(machine, one) for name, one in single.items()}
    bounds = layer_bounds(machine, sizes, single, layers.slots, touched)
    condition = hide_condition(machine, sizes, single)
    seconds = {phase: float(np.asarray(layers.seconds(phase))[worst]) for phase in PHASES}
    total = sum(seconds.values())
    evidence = _evidence(machine, layers, choices)
    ratios = (total / float(bounds.serial), total / float(bounds.overlapped))
    lines = [
        "a layer of experts, the slowest as planned:",
        *(f"  {phase:<9}{seconds_text(seconds[phase]):>10}  {evidence[phase]}" for phase in PHASES),
        f"  {'in all':<9}{seconds_text(total):>10}  {ratios[0]:.2f} x the bound of one phase after "
        f"the other, {ratios[1]:.2f} x that of all at once",
        *(f"  {line}" for line in _bound_lines(bounds)),
        *choice_lines(machine, choices, sizes.channels),
        *_shared_lines(machine, sizes, single["dispatch"]),
        str(condition),
    ]
    return Travel(
        lines=tuple(lines),
        seconds=seconds,
        choices={name: _choice(one) for name, one in choices.items()},
        bounds={name: float(value) for name, value in _bounds(bounds).items()},
        evidence=evidence,
    )


def _shared_lines(machine: Machine, sizes: ExpertLayer, dispatch: Exchange) -> list[str]:
    """Where the shared experts could run, the taken way first."""
    tokens = float(np.asarray(dispatch.tokens))
    options = shared_options(machine, sizes, dispatch.ranks, tokens)
    shown = ", ".join(f"{one.name} {seconds_text(one.seconds)}" for one in options)
    head = "a layer with balanced routing, in closed form, its shared experts"
    return [f"{head} {shown}"] if options else []


def _evidence(machine: Machine, layers: LayerTime, choices: Mapping[str, Choice]) -> dict[str, str]:
    """The weakest evidence behind each phase."""
    figures = {"experts": layers.experts.figures}
    for name, choice in choices.items():
        assert choice.best.time is not None, "what is chosen has a time"
        figures[name] = choice.best.time.figures
    return {phase: weakest_evidence(machine, figures[phase]) for phase in PHASES}


def _bounds(bounds: LayerBounds) -> dict[str, float]:
    return {
        "wire": float(bounds.bandwidth),
        "latency": float(bounds.latency),
        "arithmetic": float(bounds.arithmetic),
        "weights": float(bounds.weights),
        "serial": float(bounds.serial),
        "overlapped": float(bounds.overlapped),
    }


def _bound_lines(bounds: LayerBounds) -> list[str]:
    shown = ", ".join(f"{name} {seconds_text(value)}" for name, value in _bounds(bounds).items())
    return [f"lower bounds: {shown}"]


def _choice(choice: Choice) -> dict[str, Scalar]:
    """What plan.json says of a direction."""
    assert choice.best.time is not None, "what is chosen has a time"
    return {
        "route": str(choice.best.route),
        "seconds": float(choice.best.time.duration),
        "buffer_bytes": float(choice.best.buffers),
        "messages": float(choice.best.time.messages),
        "wire_bytes": float(choice.best.time.wire_bytes),
    }
