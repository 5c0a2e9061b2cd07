"""Why a transfer of experts' rows takes its route, what others cost, and what bounds the layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from supertile.ir.expert_layer import ExpertLayer
from supertile.targets.bounds import hide_condition, layer_bounds
from supertile.targets.comm.alternatives import Alternative
from supertile.targets.comm.choice import (
    TIE,
    Choice,
    crossover_lines,
    in_other_precision,
    with_tail,
)
from supertile.targets.comm.shared_expert import TAKEN, shared_options
from supertile.targets.cost.chance import touched_share
from supertile.targets.machine_types import Machine
from supertile.targets.output.units import bytes_text, seconds_text
from supertile.targets.timeline import Timeline


@dataclass(frozen=True)
class RouteFacts:
    """One alternative; seconds are None where a figure is unknown."""

    route: str
    seconds: float | None
    buffer_bytes: float
    messages: float | None
    wire_bytes: float | None
    formula: str
    obstacle: str


@dataclass(frozen=True)
class PlacementFacts:
    """The placement of one direction."""

    route: str
    why: str
    alternatives: tuple[RouteFacts, ...]
    precision: str
    crossovers: tuple[str, ...]
    bounds: tuple[str, ...]
    condition: str
    shared: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def placement_facts(
    machine: Machine,
    sizes: ExpertLayer,
    choices: Mapping[str, Choice],
    direction: str,
    slots: int,
    layer: float | None,
    tail: float | None = None,
) -> PlacementFacts:
    """`choices` are those of dispatch and combine, for `slots` experts a rank; `layer_span`.

    `tail`: the rows of the fullest rank over the average under loads, under which all is costed;
    routes are chosen for balanced routing.
    """
    why = _why(choices[direction])
    if tail is not None:
        why = f"with balanced routing {why}"
        choices = {name: with_tail(machine, one, tail) for name, one in choices.items()}
    choice = choices[direction]
    exchanges = {name: one.exchange for name, one in choices.items()}
    name, seconds = in_other_precision(machine, choice, sizes.channels)
    tokens = float(choice.exchange.tokens)
    options = shared_options(machine, sizes, choice.exchange.ranks, tokens)
    return PlacementFacts(
        route=str(choice.best.route),
        why=why,
        alternatives=tuple(_facts(one) for one in choice.held),
        precision=f"{name} rows instead of {choice.exchange.row:,.0f} B ones: "
        f"{seconds_text(float(seconds))}; never taken by the compiler alone",
        crossovers=tuple(crossover_lines(machine, choice.exchange)),
        bounds=tuple(_bounds(machine, sizes, choices, slots, layer)),
        condition=str(hide_condition(machine, sizes, exchanges)),
        shared=tuple(
            f"{one.name}: {seconds_text(one.seconds)} = {one.formula}; "
            f"{bytes_text(one.weight_bytes)} of weights" + (" (taken)" if one.name == TAKEN else "")
            for one in options
        ),
    )


def _why(choice: Choice) -> str:
    taken = [one for one in choice.held if not one.obstacle]
    quickest = min(taken, key=lambda one: float(one.seconds))
    best = seconds_text(float(choice.best.seconds))
    other = choice.runner_up
    if other is None:
        return f"the only one of {len(choice.held)} routes that the compiler may take"
    if quickest is choice.best:
        ratio = float(other.seconds) / float(choice.best.seconds) - 1
        return (
            f"the fastest of {len(taken)} routes that the compiler may take: {best}; the next, "
            f"{other.route}, takes {100 * ratio:.1f} % more"
        )
    return (
        f"within {100 * TIE:.0f} % of the fastest of {len(taken)} routes that the compiler may "
        f"take ({quickest.route}, {seconds_text(float(quickest.seconds))}): {best}, and the first "
        "of those in the order direct, hierarchical, padded; fused, single protocols; all copies, "
        "deduplicated"
    )


def _facts(one: Alternative) -> RouteFacts:
    time = one.time
    return RouteFacts(
        route=str(one.route),
        seconds=None if time is None else float(time.duration),
        buffer_bytes=float(one.buffers),
        messages=None if time is None else float(time.messages),
        wire_bytes=None if time is None else float(time.wire_bytes),
        formula="" if time is None else time.formula,
        obstacle=one.obstacle,
    )


def _bounds(
    machine: Machine,
    sizes: ExpertLayer,
    choices: Mapping[str, Choice],
    slots: int,
    layer: float | None,
) -> Iterator[str]:
    exchanges = {name: one.exchange for name, one in choices.items()}
    held = exchanges["dispatch"]
    rows = float(held.tokens * held.choices)
    touched = float(touched_share(rows, float(slots)))
    found = layer_bounds(machine, sizes, exchanges, slots, touched)
    for name, cuts in found.cuts.items():
        worst = max(cuts, key=lambda cut: float(cuts[cut]))
        yield f"{name}: {seconds_text(float(cuts[worst]))} of bytes {worst}"
    yield (
        f"latency {seconds_text(float(found.latency))}; experts: arithmetic "
        f"{seconds_text(float(found.arithmetic))}, weights {seconds_text(float(found.weights))}"
    )
    beyond = "" if layer is None else f"; from dispatch to combine {seconds_text(layer)}"
    for name, bound in (("overlapped", found.overlapped), ("serial", found.serial)):
        ratio = "" if layer is None else f", {layer / float(bound):.2f} times as much"
        yield f"a layer, {name}: {seconds_text(float(bound))} at least{beyond}{ratio}"


def layer_span(timeline: Timeline) -> float | None:
    """The shortest time from the start of a dispatch to the end of its combine, of all layer kinds.

    None where a layer runs in pieces, so that no program has both.
    """
    spans = []
    for program in timeline.programs:
        starts = [task.start for task in program.tasks if task.name == "dispatch"]
        ends = [task.end for task in program.tasks if task.name == "combine"]
        if starts and ends and min(starts) < min(ends):
            spans.append(max(ends) - min(starts))
    return min(spans, default=None)


# ---- as text -----------------------------------------------------------------------------------


def placement_lines(facts: PlacementFacts) -> Iterator[str]:
    yield f"  route: {facts.route}"
    yield f"    {facts.why}"
    yield "  alternatives"
    width = max(len(one.route) for one in facts.alternatives)
    for one in facts.alternatives:
        time = "unknown" if one.seconds is None else seconds_text(one.seconds)
        mark = "*" if one.route == facts.route else " "
        cells = f"{one.route:<{width}}  {time:>8}  {bytes_text(one.buffer_bytes):>8} buffers"
        yield f"  {mark} {cells}  {one.obstacle}".rstrip()
    yield f"  precision: {facts.precision}"
    for title, lines in (
        ("protocols", facts.crossovers),
        ("lower bounds of the layer", facts.bounds),
        ("whether traffic can hide behind the experts", (facts.condition,)),
        (
            "shared expert, in closed form: the tiles that the step's kernels waste are left out",
            facts.shared,
        ),
    ):
        if lines:
            yield f"  {title}"
            yield from (f"    {line}" for line in lines)
