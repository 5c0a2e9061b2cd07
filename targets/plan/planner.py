"""From a deployment and expert loads to a plan: placement, its bounds, and what travels.

    planned = make_plan(request)

The placement is that of the forecast, or with scenarios the one that is best on average over them.
It is checked by `placement.check`, which shares no code with what it checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from supertile.ir.errors import UserError
from supertile.targets.comm.expert_kernels import WorksOf
from supertile.targets.deploy import Deployment, Model, deployment_text, expert_slots
from supertile.targets.engines.engine import Engine, own_balance, split_by
from supertile.targets.engines.setting import EngineSetting, engine_setting
from supertile.targets.machine_types import Machine
from supertile.targets.placement.bounds import equal_bound, placement_bound
from supertile.targets.placement.check import check_map
from supertile.targets.placement.dealt_ranks import deal_ranks
from supertile.targets.placement.eplb import without_twins
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers
from supertile.targets.placement.full_slots import full_slots
from supertile.targets.placement.group_bound import raised_bound
from supertile.targets.placement.labels import label_ranks, locality
from supertile.targets.placement.layer_placements import dealt_map
from supertile.targets.placement.migrate import Migration, migrate
from supertile.targets.placement.objective import SlotCosts, layer_seconds
from supertile.targets.placement.plan_map import plan_map
from supertile.targets.placement.resplit import resplit
from supertile.targets.placement.robust import robust_map
from supertile.targets.placement.scenarios import Stream, forecast_scenarios, window_scenarios
from supertile.targets.placement.seconds_bound import seconds_bound
from supertile.targets.placement.spare import fill_idle
from supertile.targets.plan.comparison import IN_USE, ROUND_ROBIN, START
from supertile.targets.plan.current import InUse
from supertile.targets.plan.engine_plan import best_of_each_layer, filled, settled
from supertile.targets.plan.hashed import HashedTokens, hashed_lines
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.model import expert_layers
from supertile.targets.plan.plan_fit import spanned_domains
from supertile.targets.plan.plan_types import PlanFile, Shares, exact_shares
from supertile.targets.plan.planned import Planned
from supertile.targets.plan.slot_costs import slot_costs
from supertile.targets.plan.travel import travel_of

EPLB_SLOTS = 2048
"""Slots up to which EPLB is shown beside a plan; counting its replicas takes long beyond."""


@dataclass(frozen=True)
class Robustness:
    """Scenarios that a plan is judged by."""

    drift: float
    count: int


@dataclass(frozen=True)
class Request:
    """What to plan."""

    model: str
    config_name: str
    config: Model
    machine: Machine
    deployment: Deployment
    loads: Loads
    works: WorksOf
    """From a deployment to the kernels of a layer's experts."""
    shares: Shares = "weighted"
    objective: str = "time"
    robust: Robustness | None = None
    seed: int = 0
    current: InUse | PlanFile | None = None
    moves: int | None = None
    hashed: HashedTokens | None = None
    """Token ids whose traffic through layers that are routed by them is counted."""
    progress: Callable[[float], None] | None = None
    """Hears which part of a plan for scenarios is done."""
    engine: Engine | None = None
    """The serving engine that will load the plan."""

    @property
    def slots(self) -> Integers:
        return np.array(expert_slots(self.deployment, self.config), np.int64)

    @property
    def pairs(self) -> int:
        """Token-expert pairs of a batch on all ranks."""
        chosen = expert_layers(self.config).chosen
        tokens = self.deployment.batch * self.deployment.dp
        if self.deployment.phase == "prefill":
            tokens *= self.deployment.chunk or self.deployment.context
        return max(1, tokens * chosen)

    @cached_property
    def setting(self) -> EngineSetting:
        return engine_setting(self.machine, self.config, self.deployment)

    @property
    def own_shares(self) -> bool:
        """Whether tokens may be split otherwise than evenly: by the plan, or by the engine."""
        return self.shares == "weighted" or self.engine is not None

    @property
    def full_slots(self) -> bool:
        """Whether every slot must hold a replica that takes tokens."""
        return self.shares == "equal" and self.engine is not None and self.engine.full_slots

    def split(self, placement: ExpertMap) -> ExpertMap:
        """The placement with the shares of tokens that the engine gives its slots."""
        return split_by(self.engine, placement, self.setting)

    def expected_split(self, placement: ExpertMap) -> ExpertMap:
        """As `split`, the shares averaged over what the engine draws."""
        if self.engine is None:
            return placement
        return self.engine.expected_split(placement, self.setting)

    @cached_property
    def costs(self) -> SlotCosts:
        return slot_costs(self.machine, self.config.expert_layer, self.deployment.ep)


def make_plan(request: Request) -> Planned:
    """The plan, checked. UserErrors: `plan.current`, those of the machine's unknown figures."""
    start = time.perf_counter()
    model = expert_layers(request.config)
    load, slots = request.loads.total, request.slots
    before_name, before, baseline, after, moved = place_experts(request)
    seconds = time.perf_counter() - start
    expected = _expected(request, without_twins(before), baseline, after)
    split = request.split(after)
    bound = _bound(request, load, slots, split)
    works = request.works(request.deployment)
    travel = travel_of(request.machine, request.config, request.deployment, load, split, works)
    return Planned(
        model=request.model,
        config=request.config_name,
        machine=request.machine.name,
        device_unit=request.machine.device_unit,
        deployment=deployment_text(request.deployment),
        model_layers=model.total,
        layers=request.loads.layers,
        load=load,
        loads_source=request.loads.source,
        seed=request.seed,
        shares=request.shares,
        objective=request.objective,
        before=before,
        before_name=before_name,
        dealt=None if before_name == ROUND_ROBIN else dealt_map(model.experts, slots, len(load)),
        after=after,
        bound=bound,
        bound_seconds=seconds_bound(load, slots, request.costs, bound, request.pairs),
        costs=request.costs,
        pairs=request.pairs,
        seconds=seconds,
        baseline=baseline,
        expected=expected.after,
        expected_before=expected.before,
        expected_baseline=expected.baseline,
        scenarios=expected.scenarios,
        moves=None if moved is None else moved.moves,
        moved_bytes=0 if moved is None else moved.moved_bytes,
        communication=(
            *_locality_lines(request.machine, after),
            *travel.lines,
            *_hashed_lines(request, after),
        ),
        choices=travel.choices,
        bounds=travel.bounds,
        evidence=travel.evidence,
        notes=(*request.loads.notes, *_notes(request, after)),
        engine=request.engine,
        setting=request.setting,
        domains=spanned_domains(request.machine, after.ranks),
    )


class Placed(NamedTuple):
    """The placements of a plan."""

    before_name: str
    before: ExpertMap
    """What is in use, what the engine starts with, or dealt experts."""
    baseline: ExpertMap | None
    """What EPLB makes of the loads, as the engine would run it; None where it has no placement."""
    after: ExpertMap
    """The plan."""
    moved: Migration | None
    """From what is in use to the plan."""


def place_experts(request: Request) -> Placed:
    """The placements of a plan, the plan's checked. UserErrors: `plan.current`, unknown figures."""
    load, slots = request.loads.total, request.slots
    scenarios = _scenarios(request, "planning")
    before_name, before = _before(request, load, slots)
    baselines = _eplb(request, load, slots)
    placed = _for_engine(request, _placed(request, baselines, scenarios), baselines)
    after, moved = _reached(request, placed, before, load if scenarios is None else scenarios)
    problems = check_map(after, load)
    if problems:
        raise AssertionError(f"the plan is none: {'; '.join(problems[:3])}")
    return Placed(before_name, before, baselines[0] if baselines else None, after, moved)


# ---- placements --------------------------------------------------------------------------------


def _before(request: Request, load: Floats, slots: Integers) -> tuple[str, ExpertMap]:
    """The plan in use; without one what the engine starts with, or else experts dealt like cards.

    Engines have as many slots on each rank.
    """
    experts, layers = load.shape[1], len(load)
    if request.current is None:
        if request.engine is not None and len(set(slots.tolist())) == 1:
            return START, request.engine.start(experts, slots, layers)
        return ROUND_ROBIN, dealt_map(experts, slots, layers)
    held = request.current.placement
    found = (held.experts, held.slots.tolist(), request.current.numbers)
    if found != (experts, slots.tolist(), request.loads.layers):
        raise _other_plan(request, held)
    return IN_USE, held


def _other_plan(request: Request, held: ExpertMap) -> UserError:
    slots, loads = request.slots, request.loads.total
    expected, found = (
        f"{experts} experts, {ranks} ranks, {total} slots, {layers} layers"
        for experts, ranks, total, layers in (
            (loads.shape[1], len(slots), slots.sum(), len(loads)),
            (held.experts, held.ranks, held.slots.sum(), held.layers),
        )
    )
    return UserError("plan.current", expected=expected, found=found)


def _placed(
    request: Request, baselines: Sequence[ExpertMap], scenarios: Floats | None
) -> ExpertMap:
    """The placement, without regard to what is in use; no layer is worse than in a baseline."""
    load, slots = request.loads.total, request.slots
    costs = request.costs if request.objective == "time" else None
    forecast = plan_map(load, slots, request.shares, costs, request.pairs, baselines)
    if scenarios is None:
        return forecast
    candidates = (forecast, *map(without_twins, baselines))
    found = robust_map(
        load,
        slots,
        scenarios,
        seed=request.seed,
        candidates=candidates,
        progress=request.progress,
    ).map
    return found if request.shares == "weighted" else _even(found)


def _for_engine(request: Request, placed: ExpertMap, baselines: Sequence[ExpertMap]) -> ExpertMap:
    """The placement, labelled unless there is one in use; for an engine that wants every slot full,
    of each layer the filled candidate that is best under its split."""
    if not request.full_slots:
        return placed if request.current is not None else _labelled(request, placed)
    load, slots = request.loads.total, request.slots
    candidates = [placed]
    if request.objective == "time" and request.robust is None:
        candidates.append(plan_map(load, slots, "equal", baselines=baselines))
    full = filled(candidates, load)
    if request.current is None:
        full = [_labelled(request, one) for one in full]
    full = [*full, *filled(baselines, load)]
    full += [settled(one, load, request.expected_split) for one in full]
    return best_of_each_layer(full, partial(_engine_cost, request))


def _engine_cost(request: Request, placement: ExpertMap) -> Floats:
    """[L]: what the objective counts on the fullest rank, as the engine splits the tokens."""
    load, split = request.loads.total, request.split(placement)
    if request.objective == "tokens":
        largest: Floats = split.loads(load).max(axis=1)
        return largest
    return layer_seconds(split, load, request.costs, request.pairs)


def _even(map: ExpertMap) -> ExpertMap:
    return ExpertMap.equal(map.experts, map.slots, map.expert)


def _reached(
    request: Request, placed: ExpertMap, before: ExpertMap, loads: Floats
) -> tuple[ExpertMap, Migration | None]:
    """The placement with its shares rounded; from a plan in use by at most so many moves.

    `loads` are the forecast [L, E], or scenarios [S, L, E] of it.
    """
    if request.current is None:
        return _rounded(request, placed), None
    scenarios = loads.reshape(-1, *loads.shape[-2:])
    bytes_of_one = round(request.config.expert_layer.expert_bytes)
    start = without_twins(before)
    moved = migrate(start, placed, scenarios, expert_bytes=bytes_of_one, most=request.moves)
    return _rounded(request, moved.map), moved


def _labelled(request: Request, placed: ExpertMap) -> ExpertMap:
    """Ranks in the order that keeps replicas apart; co-activation takes a search."""
    sizes = [*spanned_domains(request.machine, placed.ranks).values()]
    dealt = deal_ranks(placed, sizes)
    if request.loads.pairs is None and request.robust is None:
        return dealt
    return label_ranks(dealt, sizes, request.loads.pairs, seed=request.seed).map


def _rounded(request: Request, map: ExpertMap) -> ExpertMap:
    if request.full_slots:
        return full_slots(map, request.loads.total)
    if request.shares == "equal":
        return _even(map)
    return exact_shares(fill_idle(map, request.loads.total))


def _locality_lines(machine: Machine, map: ExpertMap) -> list[str]:
    """What of the replicas is lost with one domain, and how near a source has a replica."""
    lines = []
    for name, size in spanned_domains(machine, map.ranks).items():
        found = locality(map, size)
        lines.append(
            f"replicas: {found.in_one:.1%} of the experts with several have all of them in one "
            f"{name}; {found.near:.1%} of sources have one in their own {name}"
        )
    return lines


def _eplb(request: Request, load: Floats, slots: Integers) -> list[ExpertMap]:
    """EPLB's placements, where it has any: as many slots on each rank, and not too many.

    First the one that the engine would choose; then the global one, if that is another.
    """
    total, ranks, setting = int(slots.sum()), len(slots), request.setting
    if len(set(slots.tolist())) > 1 or total > EPLB_SLOTS:
        return []
    if request.engine is not None:
        chosen = request.engine.eplb(load, total, ranks, setting)
    else:
        chosen = own_balance(load, total, ranks, setting.groups or 1, setting.nodes)
    anywhere = own_balance(load, total, ranks)
    return [chosen] if np.array_equal(chosen.expert, anywhere.expert) else [chosen, anywhere]


def _bound(request: Request, load: Floats, slots: Integers, split: ExpertMap) -> Floats:
    """[L]: the least possible largest load of a rank, as far as it is known beside the plan."""
    quick = (placement_bound if request.own_shares else equal_bound)(load, slots)
    return raised_bound(load, slots, quick, split.loads(load).max(axis=1))


# ---- scenarios ---------------------------------------------------------------------------------


def _scenarios(request: Request, stream: Stream) -> Floats | None:
    """Loads [S, L, E] that may come, or None where the plan is for the forecast alone."""
    robust = request.robust
    if robust is None:
        return None
    if request.loads.windows > 1:
        return window_scenarios(
            request.loads.counts,
            robust.count,
            pairs=request.pairs,
            seed=request.seed,
            stream=stream,
        )
    return forecast_scenarios(
        request.loads.total,
        robust.count,
        drift=robust.drift,
        pairs=request.pairs,
        seed=request.seed,
        stream=stream,
    )


@dataclass(frozen=True)
class Expected:
    """Balancedness [L] on scenarios that the plan was not made from."""

    before: Floats | None = None
    baseline: Floats | None = None
    after: Floats | None = None
    scenarios: str = ""


def _expected(
    request: Request, before: ExpertMap, baseline: ExpertMap | None, after: ExpertMap
) -> Expected:
    robust, scenarios = request.robust, _scenarios(request, "hold-out")
    if scenarios is None or robust is None:
        return Expected()
    windows = request.loads.windows
    cause = f"{windows} windows of measured loads" if windows > 1 else f"drift {robust.drift:g}"
    return Expected(
        resplit(before, scenarios).expected,
        None if baseline is None else resplit(baseline, scenarios).expected,
        resplit(after, scenarios).expected,
        f"mean over {robust.count} scenarios not used for planning: {cause}, batches of "
        f"{request.pairs:,} token-expert pairs, shares split anew in each",
    )


def _hashed_lines(request: Request, after: ExpertMap) -> list[str]:
    if request.hashed is None:
        return []
    sizes = request.config.expert_layer
    layers = request.loads.layers
    return list(hashed_lines(request.machine, sizes, after, layers, request.hashed))


def _notes(request: Request, after: ExpertMap) -> Sequence[str]:
    notes = []
    unused = int((after.share == 0).sum())
    if unused:
        notes.append(
            f"{unused:,} of {after.expert.size:,} slots hold a replica without tokens: no time is "
            "saved by giving it any, and its weights are not read"
        )
    if request.loads.pairs is None:
        notes.append(
            "no pair counts: labels of ranks follow from fault and bandwidth domains alone"
        )
    if request.robust is None:
        notes.append(
            "balance is that of the forecast; loads that drift and finite batches have less: "
            "--robust plans for them"
        )
    return notes
