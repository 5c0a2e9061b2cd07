"""Which route each direction of the experts' traffic takes, and why.

    choice = choose(machine, exchange)
    choice.best.route, choice.runner_up

The fastest of the routes that the compiler may take; of those within 5 % of it, less than figures
can tell apart, the first in the order of `alternatives.routes`: direct before hierarchical before
padded, the fused kernel before single protocols, all copies before deduplicated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir import portable_math
from supertile.ir.comm_work import CopyBytes
from supertile.ir.placement import Placement
from supertile.targets.comm.alternatives import Alternative, alternatives
from supertile.targets.cost.chance import tail_factor
from supertile.targets.cost.protocol import crossover, known_protocols
from supertile.targets.cost.route import Exchange, route_time
from supertile.targets.cost.values import Value, number_text
from supertile.targets.machine_types import Domain, Machine
from supertile.targets.traffic import distinct_targets, traffic_of

TIE = 0.05
"""Share of the time within which two routes count as equally fast."""


@dataclass(frozen=True)
class Choice:
    """One direction: what it could do, and what it does."""

    exchange: Exchange
    held: tuple[Alternative, ...]
    """In the order in which ties are decided."""
    best: Alternative

    @property
    def runner_up(self) -> Alternative | None:
        """The fastest of the others that could be taken."""
        others = [one for one in self.held if one is not self.best and not one.obstacle]
        return min(others, key=lambda one: float(one.seconds), default=None)


def exchanges(
    each: CopyBytes, ranks: int, experts: int, choices: int, tokens: Value
) -> dict[str, Exchange]:
    """dispatch and combine of a layer with balanced routing; `tokens` may be an array."""
    tail = tail_factor(tokens * float(choices), float(ranks))
    to = Exchange("dispatch", ranks, experts, choices, tokens, tail, each.out, each.routing)
    return {"dispatch": to, "combine": replace(to, operation="combine", row=each.back, routing=0)}


def routed_exchanges(
    each: CopyBytes, chosen: Sequence[NDArray[Any]], placement: Placement, machine: Machine
) -> dict[str, Exchange]:
    """dispatch and combine of a known routing: chosen [T, K] of each rank.

    A hash-routed layer has one as soon as its tokens are known: its table [V, K] at their ids. Rows
    are those of the fullest rank, targets those that were counted.
    """
    one = traffic_of(chosen, placement)
    tokens, ranks = float(one.tokens.mean()), placement.ranks
    tail = float(one.arrived.max() / one.arrived.mean())
    to = Exchange(
        "dispatch", ranks, placement.experts, one.choices, tokens, tail, each.out, each.routing,
        counted={devices: _crossing_rows(chosen, placement, devices)
                 for devices in _domain_sizes(machine, ranks)},
    )  # fmt: skip
    return {"dispatch": to, "combine": replace(to, operation="combine", row=each.back, routing=0)}


def _domain_sizes(machine: Machine, ranks: int) -> list[int]:
    """One rank, and every domain that holds several but not all."""
    known = [int(domain.devices.value) for domain in machine.domains if domain.devices.value]
    return [1, *(size for size in known if 1 < size < ranks)]


def _crossing_rows(chosen: Sequence[NDArray[Any]], placement: Placement, devices: int) -> float:
    """Distinct rows out of or into a domain, of the rank that has most."""
    held = traffic_of(chosen, placement, devices)
    return float(max(held.distinct_out.max(), held.distinct_in.max()))


def choose(machine: Machine, exchange: Exchange) -> Choice:
    """The route of one exchange; its sizes are numbers."""
    held = alternatives(machine, exchange)
    return Choice(exchange, tuple(held), held[int(fastest(held))])


def with_tail(machine: Machine, choice: Choice, tail: float) -> Choice:
    """The same route where the fullest rank has so many times the average rows."""
    exchange = replace(choice.exchange, tail=tail)
    costed = alternatives(machine, exchange)
    best = next(one for one in costed if one.route == choice.best.route)
    return Choice(exchange, tuple(costed), best)


def fastest(held: list[Alternative]) -> Value:
    """The number of the route to take, point by point."""
    seconds = np.stack(np.broadcast_arrays(*(np.asarray(one.seconds, float) for one in held)))
    return np.argmax(seconds <= seconds.min(axis=0) * (1 + TIE), axis=0)


def in_other_precision(machine: Machine, choice: Choice, channels: int) -> tuple[str, Value]:
    """The format of the other precision, and the time of the chosen route in it.

    Codes with a float32 scale for 128 channels where BF16 rows travel, and BF16 for all others.
    Which rows travel is the model's say, by what it quantises: the compiler takes what it finds.
    """
    is_bf16 = choice.exchange.row == 2 * channels
    name, row = "bf16", 2 * channels
    if is_bf16:
        name, row = "f8e4m3", channels + 4 * -(-channels // 128)
    other = replace(choice.exchange, row=row)
    return name, route_time(machine, other, choice.best.route).duration


# ---- as text -----------------------------------------------------------------------------------


def choice_lines(machine: Machine, choices: dict[str, Choice], channels: int) -> list[str]:
    """For each direction the route with the runner-up; then where the protocols cross."""
    lines = [line for one in choices.values() for line in _lines(machine, one, channels)]
    row = next(iter(choices.values())).exchange
    return [*lines, *crossover_lines(machine, row)]


def _lines(machine: Machine, choice: Choice, channels: int) -> list[str]:
    other = choice.runner_up
    assert choice.best.time is not None, "what is chosen has a time"
    behind = "the only route"
    if other is not None:
        behind = f"next {other.route}: {number_text(other.seconds, 's')}"
    name, seconds = in_other_precision(machine, choice, channels)
    what = choice.exchange.operation
    return [
        f"{what} {choice.best.route}: {number_text(choice.best.time.duration, 's')}; {behind}",
        f"  in {name} {number_text(seconds, 's')}; buffers "
        f"{number_text(choice.best.buffers, 'B')} a {machine.device_unit}",
    ]


def crossover_lines(machine: Machine, exchange: Exchange) -> list[str]:
    """For each domain from which message size on the copy engine beats load/store."""
    rows = message_rows(exchange)
    size = number_text(rows * (exchange.row + exchange.routing), "B")
    head = (
        f"a message that packs the rows for one rank is {size} on average: {number_text(rows)} "
        f"rows of {exchange.row:,.0f} B"
    )
    crossings = [text for domain in machine.domains if (text := _crossing(domain))]
    return [head, *(f"  {text}" for text in crossings)]


def message_rows(exchange: Exchange) -> float:
    """Rows for one rank in one call, on average over the ranks that get any: at least 1."""
    reached = min(exchange.ranks, exchange.experts)
    targets = distinct_targets(exchange.experts, exchange.ranks, exchange.choices)
    chance, tokens = min(1.0, float(targets) / reached), float(exchange.tokens)
    # A part of a token is a token that often.
    missed = portable_math.power(1 - chance, tokens) if tokens > 1 else 1 - tokens * chance
    return tokens * exchange.choices / reached / (1 - float(missed))


def _crossing(domain: Domain) -> str:
    """One domain's crossover with what it follows from; empty without both protocols."""
    if "load_store" not in domain.protocols or "dma" not in domain.protocols:
        return ""
    unknown = [name for name in ("load_store", "dma") if name not in known_protocols(domain)]
    if unknown:
        return (
            f"{domain.name}: no crossover is known, as figures of {' and '.join(unknown)} are not"
        )
    cores, copies = (_protocol_text(domain, name) for name in ("load_store", "dma"))
    size = crossover(domain)
    if size is None:
        return f"{domain.name}: load_store at every size, {cores} against {copies}"
    if size == 0:
        return f"{domain.name}: dma at every size, {copies} against {cores}"
    below = f"load_store ({cores}) below {number_text(size, 'B')} a message"
    return f"{domain.name}: {below}, dma ({copies}) from there on"


def _protocol_text(domain: Domain, name: str) -> str:
    held = domain.protocols[name]
    latency, rate = held.write_latency.value, held.write_bandwidth.value
    return f"{number_text(latency, 's')} + bytes / {number_text(rate, 'B/s')}"
