"""A plan of expert placement: which expert is in which slot of each layer, and what that gives.

Sizes: L layers with experts, E experts, G ranks, P slots in all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supertile.ir.json_text import Steps, steps_text
from supertile.ir.placement import IDLE
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.placement.expert_map import ExpertMap, replicas

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Scalar = str | int | float | bool | None
Shares = Literal["equal", "weighted"]

SHARE_PARTS = 2**48
"""Parts that the tokens of an expert are shared out in: sums of so many are exact in float64."""
SHARE_ROUNDING = 1e-6  # how far the shares of an expert may be from 1 before they are rounded
BALANCE_LIMIT = 1 + 1e-9


@dataclass(frozen=True)
class LayerPlan:
    """What one layer's slots give; loads are in the unit of the loads that were planned for."""

    layer: int
    """Absolute number in the model."""
    balancedness: float
    """Mean over largest load of a rank, for the loads that were planned for."""
    bound: float
    """No placement in these slots has a smaller largest load of a rank."""
    ratio: float
    """`max_load` over `bound`."""
    max_load: float
    """Largest load of a rank."""
    expected: float | None = None
    """Mean balancedness over scenarios: drift, finite batches."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Least possible times, in seconds, by what bounds them: "wire", "compute"."""


@dataclass(frozen=True, eq=False)
class PlanFile:
    """A plan as `plan.json` has it. ValueError where its parts do not fit each other."""

    model: str
    config: str
    machine: str
    deployment: str
    loads: str
    """The file or text of the loads that were planned for."""
    seed: int
    model_layers: int
    """Main layers of the model, dense ones too."""
    shares: Shares
    """"equal": an expert's tokens are split evenly over its replicas; "weighted": by `share`."""
    placement: ExpertMap
    layers: tuple[LayerPlan, ...]
    """One for each row of the placement, ascending."""
    load: Floats | None = None
    """[L, E]: the loads themselves, in the unit of `max_load`; None in plans that lack them."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """As of a layer, for one step of the model."""
    comparison: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Placement -> its figures under the loads: what the plan is better than."""
    communication: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    """Direction ("dispatch", "combine") -> what was chosen for it."""
    evidence: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    engine: str = ""
    """The engine by whose split rule the figures of the layers are; empty: by the shares."""
    setting: EngineSetting | None = None
    """What that rule was told of the deployment; None in plans that lack it."""
    domains: Mapping[str, int] | None = None
    """Ranks of each domain of the machine that the plan is spread over several of, from inside;
    None in plans that lack them."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of its layers in the model."""
        return tuple(layer.layer for layer in self.layers)

    def __post_init__(self) -> None:
        if len(self.layers) != self.placement.layers:
            raise ValueError(f"{len(self.layers)} layers, {self.placement.layers} rows of slots")
        numbers = [layer.layer for layer in self.layers]
        if (
            numbers != sorted(set(numbers))
            or not 0 <= numbers[0] <= numbers[-1] < self.model_layers
        ):
            raise ValueError(f"layers {numbers} of a model with {self.model_layers}")
        if self.load is not None and self.load.shape != (len(numbers), self.placement.experts):
            raise ValueError(f"loads of the shape {list(self.load.shape)}")
        if not all(map(math.isfinite, self._numbers())):
            raise ValueError("a number that is not finite")
        problem = first_problem(self.placement, self.shares)
        if problem is not None:
            raise ValueError(f"{steps_text(problem.steps)}: {problem.code} {problem.values}")

    def _numbers(self) -> list[float]:
        parts = [value for layer in self.layers for value in vars(layer).values()]
        tables = [self.bounds, *self.communication.values(), *(one.bounds for one in self.layers)]
        tables += self.comparison.values()
        parts += [] if self.load is None else self.load.ravel().tolist()
        parts += [value for table in tables for value in table.values()]
        return [value for value in parts if isinstance(value, int | float)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlanFile):
            return NotImplemented
        names = [one.name for one in fields(self) if one.name not in ("placement", "load")]
        mine, its = self.placement, other.placement
        return (
            all(getattr(self, name) == getattr(other, name) for name in names)
            and _same(self.load, other.load)
            and mine.experts == its.experts
            and np.array_equal(mine.slots, its.slots)
            and np.array_equal(mine.expert, its.expert)
            and np.array_equal(mine.share, its.share)
        )

    __hash__ = None  # type: ignore[assignment]


def _same(one: Floats | None, other: Floats | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


# ---- what a placement must fulfil --------------------------------------------------------------


class Problem(NamedTuple):
    """What is wrong: an error's code, where a plan file says it, the values of its text."""

    code: str
    steps: Steps
    values: dict[str, Any]


def first_problem(placement: ExpertMap, shares: Shares) -> Problem | None:
    """The first rule of plans that a placement breaks; None where it is a plan's."""
    share_problem = _equal if shares == "equal" else _weighted
    return slot_problem(placement) or share_problem(placement)


def slot_problem(placement: ExpertMap) -> Problem | None:
    """As `first_problem`, for the experts in the slots alone."""
    return _range(placement) or _missing(placement) or _twice(placement)


def _first(wrong: NDArray[np.bool_]) -> tuple[int, int]:
    """Layer and slot of the first that is wrong."""
    layer, slot = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return int(layer), int(slot)


def _slot(key: str, wrong: NDArray[np.bool_]) -> Steps:
    layer, slot = _first(wrong)
    return ("layers", layer, key, slot)


def _range(placement: ExpertMap) -> Problem | None:
    wrong = (placement.expert < IDLE) | (placement.expert >= placement.experts)
    if not wrong.any():
        return None
    found = int(placement.expert[_first(wrong)])
    values = {"limit": placement.experts - 1, "found": found}
    return Problem("plan.expert", _slot("slots", wrong), values)


def _missing(placement: ExpertMap) -> Problem | None:
    counts = replicas(placement.expert, placement.experts)
    if counts.all():
        return None
    layer, expert = np.unravel_index(int((counts == 0).argmax()), counts.shape)
    others = int((counts[layer] == 0).sum()) - 1
    more = f", nor {others} more" if others else ""
    return Problem("plan.no_slot", ("layers", int(layer), "slots"), {"found": f"{expert}{more}"})


def _twice(placement: ExpertMap) -> Problem | None:
    """That no rank holds an expert twice."""
    held = placement.expert + (placement.experts + 1) * placement.rank
    order = np.argsort(held, axis=1, kind="stable")
    ordered = np.take_along_axis(held, order, axis=1)
    again = np.zeros(held.shape, bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    wrong = np.zeros(held.shape, bool)
    np.put_along_axis(wrong, order, again, axis=1)
    wrong &= placement.expert != IDLE
    if not wrong.any():
        return None
    layer, slot = _first(wrong)
    values = {"rank": int(placement.rank[slot]), "found": int(placement.expert[layer, slot])}
    return Problem("plan.twice", _slot("slots", wrong), values)


def _equal(placement: ExpertMap) -> Problem | None:
    even = ExpertMap.equal(placement.experts, placement.slots, placement.expert)
    wrong = placement.share != even.share
    return Problem("plan.not_equal", _slot("shares", wrong), {}) if wrong.any() else None


def _weighted(placement: ExpertMap) -> Problem | None:
    """Whole parts of `SHARE_PARTS`, none where a slot is idle, all for each expert."""
    parts = placement.share * SHARE_PARTS
    wrong = ~((parts >= 0) & (parts <= SHARE_PARTS) & (parts == np.rint(parts)))
    if wrong.any():
        return Problem("plan.share", _slot("shares", wrong), {"limit": SHARE_PARTS})
    wrong = (placement.expert == IDLE) & (parts != 0)
    if wrong.any():
        return Problem("plan.idle_share", _slot("shares", wrong), {})
    sums = _share_sums(placement)
    if (sums == 1).all():
        return None
    layer, expert = np.unravel_index(int((sums != 1).argmax()), sums.shape)
    values = {"limit": SHARE_PARTS, "expert": int(expert)}
    found = int(sums[layer, expert] * SHARE_PARTS)
    return Problem("plan.share_sum", ("layers", int(layer), "shares"), {**values, "found": found})


# ---- shares that a file holds exactly ----------------------------------------------------------


def _keys(placement: ExpertMap) -> Integers:
    """[L, P]: layer * (E + 1) + expert; E for idle slots."""
    experts = placement.experts
    held = np.where(placement.expert == IDLE, experts, placement.expert)
    return held + (experts + 1) * np.arange(placement.layers)[:, None]


def _share_sums(placement: ExpertMap) -> Floats:
    """[L, E]: the shares of each expert, added."""
    size = placement.layers * (placement.experts + 1)
    sums = np.bincount(_keys(placement).ravel(), placement.share.ravel(), size).astype(np.float64)
    return sums.reshape(placement.layers, -1)[:, :-1]


def exact_shares(placement: ExpertMap) -> ExpertMap:
    """The placement with shares in whole parts of `SHARE_PARTS`, those of an expert adding to 1.

    Parts are rounded down; those left over go to the largest remainders, then to the smaller slot.
    Exact shares stay as they are. ValueError where the shares of an expert are far from 1.
    """
    keys = _keys(placement).ravel()
    share = np.where(placement.expert == IDLE, 0.0, placement.share).ravel()
    size = placement.layers * (placement.experts + 1)
    sums = np.bincount(keys, share, size)
    idle = np.arange(size) % (placement.experts + 1) == placement.experts
    if (share < 0).any() or not (np.abs(sums[~idle] - 1) <= SHARE_ROUNDING).all():
        raise ValueError("the shares of an expert do not add up to 1")
    parts = share / np.where(idle, 1.0, sums)[keys] * SHARE_PARTS
    whole = np.floor(parts)
    left = np.where(idle, 0, SHARE_PARTS - np.bincount(keys, whole, size)).astype(np.int64)
    order = np.lexsort((whole - parts, keys))  # by key, then the largest remainder first
    starts = np.searchsorted(keys[order], np.arange(size))
    place = np.arange(len(order)) - starts[keys[order]]
    whole[order] += place < left[keys[order]]
    _settle(whole, keys, np.where(idle, 0, SHARE_PARTS), size)
    shares = (whole / SHARE_PARTS).reshape(placement.share.shape)
    return ExpertMap(placement.experts, placement.slots, placement.expert, shares)


def _settle(whole: Floats, keys: Integers, total: Integers, size: int) -> None:
    """What rounding of the sums themselves leaves: a part or two, to the largest share."""
    lacking = total - np.bincount(keys, whole, size)
    for key in np.flatnonzero(lacking):
        slots = np.flatnonzero(keys == key)
        whole[slots[whole[slots].argmax()]] += lacking[key]
