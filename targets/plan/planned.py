"""A plan of expert placement as it was made: what was there before, what is after, what it gives.

Sizes: L layers with experts, E experts, G ranks, P slots in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.cost.placed_loads import PlacedLoads
from supertile.targets.deploy import parse_deployment
from supertile.targets.engines.engine import Engine, split_by
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.placement.expert_map import (
    ExpertMap,
    Floats,
    Integers,
    over_mean,
    replicas,
)
from supertile.targets.placement.migrate import Move
from supertile.targets.placement.objective import SlotCosts, layer_seconds
from supertile.targets.plan.comparison import (
    EPLB,
    PLANNED,
    ROUND_ROBIN,
    StepFigures,
    gain_text,
)
from supertile.targets.plan.plan_figures import layer_figures
from supertile.targets.plan.plan_types import LayerPlan, PlanFile, Scalar, Shares


@dataclass(frozen=True)
class Planned:
    """A plan, and what it was made from."""

    model: str
    config: str
    machine: str
    device_unit: str
    deployment: str
    model_layers: int
    layers: tuple[int, ...]
    """The number of each of the L layers in the model."""
    load: Floats
    """[L, E]: what was planned for."""
    loads_source: str
    seed: int
    shares: Shares
    objective: str
    """time or tokens: what the fullest rank has least of."""
    before: ExpertMap
    before_name: str
    """Of the current placement: one of `comparison.IN_USE`, `START` and `ROUND_ROBIN`."""
    after: ExpertMap
    bound: Floats
    """[L]: least possible largest load of a rank."""
    bound_seconds: Floats
    """[L]: least possible seconds of experts and wire."""
    costs: SlotCosts
    pairs: int
    """Token-expert pairs of a batch on all ranks."""
    seconds: float
    dealt: ExpertMap | None = None
    """Experts dealt round-robin, where something else is the current placement."""
    baseline: ExpertMap | None = None
    """What EPLB makes of the same loads and slots, where it can."""
    expected: Floats | None = None
    """[L]: mean balancedness over scenarios, shares split anew in each batch."""
    expected_before: Floats | None = None
    expected_baseline: Floats | None = None
    scenarios: str = ""
    """What `expected` is a mean over."""
    steps: Mapping[str, StepFigures] = field(default_factory=dict)
    """Placement -> a step with it, where steps were costed."""
    moves: tuple[Move, ...] | None = None
    """From what was there before, if a plan in use was given."""
    moved_bytes: int = 0
    communication: tuple[str, ...] = ()
    """Lines on routes, costs and bounds."""
    choices: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    """dispatch, combine -> what was chosen."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of a layer, by what bounds it."""
    evidence: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    engine: Engine | None = None
    """Whose split rule the figures are by; None: by the shares of the placements."""
    setting: EngineSetting = field(default_factory=EngineSetting)
    """What the rules of the engine need to know of the deployment."""
    domains: Mapping[str, int] = field(default_factory=dict)
    """Ranks of each domain of the machine of which the ranks span several, from inside."""

    @cached_property
    def replicas(self) -> Integers:
        """[L, E]."""
        return replicas(self.after.expert, self.after.experts)

    @property
    def slots_text(self) -> str:
        """How many slots there are on how many ranks, and how many are idle in all layers."""
        slots, unit = self.after.slots, self.device_unit
        low, high = int(slots.min()), int(slots.max())
        each = str(low) if low == high else f"{low} to {high}"
        idle = int((self.after.expert == IDLE).sum())
        redundant = int(slots.sum()) - self.after.experts
        text = f"{self.after.experts} experts on {self.after.ranks} ranks, each one {unit}: "
        text += f"{int(slots.sum())} slots ({each} a rank), {redundant} redundant"
        return f"{text}, {idle} of {self.after.expert.size} idle" if idle else text

    def sides(self) -> Iterator[tuple[str, ExpertMap]]:
        """The placements to compare, by name, with the shares that the engine splits by."""
        yield from self._sides

    @cached_property
    def _sides(self) -> tuple[tuple[str, ExpertMap], ...]:
        sides = (
            (ROUND_ROBIN, self.dealt),
            (self.before_name, self.before),
            (EPLB, self.baseline),
            (PLANNED, self.after),
        )
        return tuple((name, self.split(placed)) for name, placed in sides if placed is not None)

    def split(self, placement: ExpertMap) -> ExpertMap:
        """The placement with the shares of tokens that the engine gives its slots."""
        return split_by(self.engine, placement, self.setting)

    @cached_property
    def loads(self) -> dict[str, Floats]:
        """[L, G]: the load of each rank in each of `sides`, by name."""
        return {name: one.loads(self.load) for name, one in self.sides()}

    def layer_seconds(self, map: ExpertMap) -> Floats:
        """[L]: experts of the slowest rank and wire of the fullest, in a batch of the forecast."""
        return layer_seconds(map, self.load, self.costs, self.pairs)

    @cached_property
    def over_bound(self) -> Floats:
        """[L]: the objective of the plan over its lower bound; 1 where a layer has no load."""
        if self.objective == "time":
            value, bound = self.layer_seconds(dict(self.sides())[PLANNED]), self.bound_seconds
        else:
            value, bound = self.loads[PLANNED].max(axis=1), self.bound
        return np.where(bound > 0, value / np.where(bound > 0, bound, 1.0), 1.0)

    @property
    def phase(self) -> str:
        return parse_deployment(self.deployment).phase

    @property
    def gain(self) -> str:
        """One sentence on what the plan gives; nothing where no steps were costed."""
        if not self.steps:
            return ""
        return gain_text(self.steps, self.before_name, self.device_unit, self.phase)

    def placed_loads(self) -> dict[str, PlacedLoads]:
        """Placement -> the loads as it brings them to ranks."""
        return {
            name: PlacedLoads.of(one, self.load, self.loads_source, name)
            for name, one in self.sides()
        }

    def headlines(self) -> Iterator[tuple[str, str, str]]:
        """(name, value, what it is) of the figures that matter most."""
        sides = dict(self.sides())
        planned, before = (
            sides[name].balancedness(self.load) for name in (PLANNED, self.before_name)
        )
        mean = "mean over largest load of a rank, mean over layers"
        yield "balancedness", f"{planned.mean():.4f}", f"planned: {mean}"
        yield f"balancedness, {self.before_name}", f"{before.mean():.4f}", mean
        value = "seconds of the slowest ranks" if self.objective == "time" else "largest load"
        over = f"{value} over the lower bound, worst layer"
        yield "over bound", f"{self.over_bound.max():.4f}", over
        if self.expected is not None:
            yield "expected balancedness", f"{self.expected.mean():.4f}", self.scenarios

    def _compared(self, name: str) -> dict[str, float]:
        """The figures of a placement that plan.json holds."""
        fullest = float(over_mean(self.loads[name]).max(axis=1).mean())
        step = self.steps.get(name)
        return {"load_over_mean": fullest, **({} if step is None else step.as_dict())}

    def plan_file(self) -> PlanFile:
        """What plan.json holds."""
        figures = layer_figures(dict(self.sides())[PLANNED], self.load, self.bound)
        layers = tuple(
            LayerPlan(
                layer=layer,
                **figures[row]._asdict(),
                expected=None if self.expected is None else float(self.expected[row]),
            )
            for row, layer in enumerate(self.layers)
        )
        return PlanFile(
            model=self.model,
            config=self.config,
            machine=self.machine,
            deployment=self.deployment,
            loads=self.loads_source,
            seed=self.seed,
            model_layers=self.model_layers,
            shares=self.shares,
            placement=self.after,
            layers=layers,
            load=self.load,
            bounds=self.bounds,
            comparison={name: self._compared(name) for name, _ in self.sides()},
            communication=self.choices,
            evidence=self.evidence,
            notes=self.notes,
            engine="" if self.engine is None else self.engine.name,
            setting=None if self.engine is None else self.setting,
            domains=self.domains,
        )
