"""`supertile compile --target T --deploy D`: passes for a machine, and what a step costs there."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertile.cli.expert_plans import expert_plan, put_plan, read_plan_for, started_plan
from supertile.cli.load_options import name_files
from supertile.cli.target import target_machine
from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.frontend.settle import ModelConfig
    from supertile.ir import comm
    from supertile.ir.placement import Placement
    from supertile.passes.driver import Behind
    from supertile.passes.rewriting import Pass
    from supertile.targets.comm.choice import Choice
    from supertile.targets.cost.placed_loads import PlacedLoads
    from supertile.targets.deploy import Deployment, Model
    from supertile.targets.deployment_timeline import Question, Tiled
    from supertile.targets.engines.engine import Engine
    from supertile.targets.machine_types import Machine
    from supertile.targets.overlap_choice import OverlapChoice
    from supertile.targets.plan.plan_types import PlanFile
    from supertile.targets.step_costs import Overlap
    from supertile.targets.step_work import KnownWorks, StepWork
    from supertile.targets.timeline import Timeline

TILED = "assign-memory"
"""The last pass of the tiled level."""
NUMPY, FUSED, DRAFT = "numpy", "fused", "draft"
GIVEN = ("plan", "loads", "engine")
"""Options on where experts are, and what loads they have."""
OPEN_SIZES = (16, 1, 4096)
"""Tokens, sequences and context that tiles are chosen for where nothing is deployed."""


@dataclass(frozen=True)
class Goal:
    """What a compilation is for: a machine, and a deployment on it if one is given."""

    names: tuple[str, str]
    """Model and config, as the command names them."""
    config: ModelConfig
    machine: Machine
    deployment: Deployment | None
    numerics: str = "deployed"
    overlap: str = "auto"
    """How communication is hidden: one of `targets.overlap_choice.WAYS`."""
    plan: PlanFile | None = None
    """Where the experts of each layer live; None: they are dealt."""
    given: tuple[str | None, Sequence[str] | None] = (None, None)
    """Of plan and loads what the command names."""
    engine: Engine | None = None
    """Who serves, if the command says so."""
    loads: PlacedLoads | None = None
    """Loads of the experts where they live; None: routing is balanced."""
    read: Model | None = None
    """What `of_module` reads from the module."""

    @staticmethod
    def of(options: argparse.Namespace) -> Goal:
        """Read the machine and the deployment. A deployment is costed in deployed numerics."""
        from supertile.cli.inputs import read_model

        machine = target_machine(options.target)
        usual = "reference" if options.deploy is None else "deployed"
        options.numerics = options.numerics or usual
        _, config = read_model(options)
        names = (options.model, options.config)
        name_files(options)
        plan, loads, engine = (getattr(options, name, None) for name in GIVEN)
        if engine is not None and plan is None and loads is None:
            raise UserError("command.engine_loads", found=engine)
        if options.deploy is None:
            if plan is not None:
                raise UserError("command.plan_deploy", file=plan)
            if loads is not None:
                raise UserError("command.loads_deploy", found=loads[0])
            if options.overlap is not None:
                raise UserError("command.overlap", found=options.overlap)
            return Goal(names, config, machine, None, options.numerics)
        from supertile.targets.deploy import parse_deployment
        from supertile.targets.engines.engine import engine_named

        if options.pipeline is not None or options.stop_after is not None:
            raise UserError("command.deploy_pipeline")
        if options.entry is not None:
            raise UserError("command.deploy_entry", found=options.entry)
        deployment = parse_deployment(options.deploy)
        held = None if plan is None else read_plan_for(options, machine, deployment)
        if held is not None:
            deployment = replace(deployment, slots=tuple(held.placement.slots.tolist()))
        overlap = options.overlap or "auto"
        return Goal(
            names,
            config,
            machine,
            deployment,
            options.numerics,
            overlap,
            held,
            (plan, loads),
            None if engine is None else engine_named(engine),
        )

    @property
    def entries(self) -> list[str] | None:
        """The entries that a step calls; None: all of them."""
        if self.deployment is None:
            return None
        return ["logits"] if self.deployment.mtp is None else ["logits", DRAFT]

    def build(self, options: argparse.Namespace) -> tuple[ModuleOp, ModelConfig]:
        """The module of the entries; a model file may lack the one that drafts."""
        from supertile.cli.compile import build

        try:
            module, config = build(options, self.entries)
        except UserError as error:
            unknown = error.code == "language.unknown_entry" and error.values["name"] == DRAFT
            if self.deployment is None or not unknown:
                raise
            self.of_module(build(options, ["logits"])[0])
            raise self._no_draft() from None
        if self.plan is not None:
            put_plan(module, expert_plan(self.plan))
        return module, config

    def of_module(self, module: ModuleOp) -> Goal:
        """With what the module says of the model, under which the deployment must be possible."""
        if self.deployment is None:
            return self
        from supertile.cli.deployed_model import deployed_model
        from supertile.targets.deploy import check_deployment

        model = deployed_model(module, self.config, self.machine)
        check_deployment(self.deployment, model, self.machine)
        read = replace(self, read=model)
        if self.plan is not None:
            self._check_plan_layers(model)
        if self.engine is not None and read.is_started:
            put_plan(module, started_plan(self.engine, self.deployment, model))
        return replace(read, loads=_placed_loads(read))

    def _check_plan_layers(self, model: Model) -> None:
        """That the plan is of the model's layers and experts."""
        from supertile.targets.plan.model import expert_layers
        from supertile.targets.plan.plan_fit import check_layers

        assert self.plan is not None and self.given[0] is not None
        check_layers(self.plan, expert_layers(model), self.given[0])

    @property
    def is_started(self) -> bool:
        """Whether the experts are where an engine starts."""
        several = self.deployment is not None and self.deployment.ep > 1
        return self.engine is not None and self.plan is None and several

    @property
    def model(self) -> Model:
        """What is deployed."""
        assert self.read is not None, "the module has been read"
        return self.read

    def _no_draft(self) -> UserError:
        from supertile.targets.deploy import deployment_text

        assert self.deployment is not None
        nearest = deployment_text(replace(self.deployment, mtp=None))
        model, found = self.names[0], f"{self.deployment.mtp:g}"
        return UserError("command.no_draft", model=model, found=found, nearest=nearest)

    def passes(self, options: argparse.Namespace) -> list[Pass]:
        """The passes with the options that follow from the machine and the deployment."""
        from supertile.cli.compile import select_passes

        plain = self.machine.name == NUMPY and self.deployment is None
        given = options.pipeline is not None or options.stop_after is not None
        stop = FUSED if plain and not given else options.stop_after
        passes = select_passes(options.pipeline, stop)
        if options.pipeline is not None:
            return passes
        return with_options(passes, self.pass_options(), options.tiles)

    def pass_options(self) -> dict[str, dict[str, Any]]:
        """Pass -> its options for the machine, and for the deployment on it."""
        from supertile.targets.formats import legalize_options
        from supertile.targets.tile_limits import memory_text, tile_options

        memory = {"memory": memory_text(self.machine)}
        options = {
            "legalize-formats": legalize_options(self.machine),
            "choose-tiles": tile_options(self.machine, *OPEN_SIZES),
            "pipeline-loops": memory,
            "assign-memory": memory,
        }
        return options if self.deployment is None else options | self._deployed()

    def _deployed(self) -> dict[str, dict[str, Any]]:
        from supertile.cli.expert_kernels import tiles_of

        assert self.deployment is not None
        one = self.deployment
        options = {
            "choose-tiles": tiles_of(self.machine, self.model, one),
            "build-schedule": self.bounds,
        }
        options["shard-attention"] = group_options(one.tp, one.ep)
        if one.ep > 1:
            has_plan = self.plan is not None or self.is_started
            slots = () if has_plan else one.slots or ()
            options["plan-experts"] = {"ranks": one.ep, "slots": slots}
            routes = {name: str(choice.best.route) for name, choice in self.placements.items()}
            options["place-comm"] = routes
        return options

    @property
    def bounds(self) -> dict[str, Any]:
        """Options of build-schedule: the sizes that a step has."""
        from supertile.targets.cost.sizes import sizes_of

        assert self.deployment is not None
        tokens = int(sizes_of(self.deployment, self.model)["T"])
        batch, context = self.deployment.batch, self.deployment.context
        return {"tokens": tokens, "batch": batch, "context": context}

    @cached_property
    def placements(self) -> dict[str, Choice]:
        """How the experts' rows travel, for the tokens that a rank sends in one call."""
        from supertile.targets.comm.choice import choose, exchanges
        from supertile.targets.cost.sizes import own_tokens

        assert self.deployment is not None
        layer, tokens = self.model.expert_layer, own_tokens(self.deployment, self.model)
        sent = exchanges(layer.row, self.deployment.ep, layer.experts, layer.choices, tokens)
        return {name: choose(self.machine, one) for name, one in sent.items()}


class Schedules:
    """A tiled module as it is scheduled for each way of hiding communication, once each."""

    def __init__(self, goal: Goal, module: ModuleOp) -> None:
        self.goal = goal
        self.module = module
        self.modules: dict[Overlap, ModuleOp] = {}
        self.works: dict[Overlap, StepWork] = {}
        self.launches: KnownWorks = {}

    def scheduled(self, way: Overlap) -> ModuleOp:
        """A copy of the module, as programs."""
        from supertile.ir.text import context
        from supertile.passes.build_schedule import BuildSchedule
        from supertile.passes.overlap_comm import OverlapComm

        if way not in self.modules:
            copy = self.module.clone()
            for one in (OverlapComm(**asdict(way)), BuildSchedule(**self.goal.bounds)):
                one.apply(context(), copy)
            self.modules[way] = copy
        return self.modules[way]

    def work(self, way: Overlap) -> StepWork:
        """What a step does, scheduled in that way."""
        from supertile.targets.step_work import step_work

        if way not in self.works:
            entries = self.goal.entries or ()
            self.works[way] = step_work(self.scheduled(way), entries, self.launches)
        return self.works[way]


class Answer:
    """The answer to a deployment, read off the module on its way through the passes."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.tiled: Tiled | None = None
        self.overlap: OverlapChoice | None = None
        self.seconds = 0.0
        """What `read` took: it runs between the passes."""
        self.tables: list[str] = []

    @property
    def behind(self) -> dict[str, Behind]:
        """What to do behind which pass: work is counted once tiles have their places."""
        return {} if self.goal.deployment is None else {TILED: self.read}

    @property
    def question(self) -> Question:
        from supertile.targets.deployment_timeline import Question

        goal = self.goal
        assert goal.deployment is not None
        model, config = (Path(name).stem for name in goal.names)
        entries = tuple(goal.entries or ())
        return Question(
            model, config, goal.model, goal.machine, goal.deployment, entries, goal.loads
        )

    def read(self, module: ModuleOp) -> Mapping[str, Mapping[str, Any]]:
        """Read the work, and choose from it what passes to come need."""
        from supertile.targets.cost.sizes import own_tokens
        from supertile.targets.deployment_timeline import read_tiled
        from supertile.targets.overlap_choice import choose_overlap
        from supertile.targets.step_costs import NO_OVERLAP

        goal, start = self.goal, time.process_time()
        assert goal.deployment is not None
        tokens = own_tokens(goal.deployment, goal.model)
        self.tables = [*expert_tables(module, tokens), *self._load_lines()]
        self.tables += self._placement_lines()
        question = self.question
        schedules = Schedules(goal, module)
        self.tiled = read_tiled(module, schedules.work(NO_OVERLAP), question)
        self.overlap = choose_overlap(schedules.work, self.tiled.costs, goal.overlap)
        self.tables += [
            f"  {one.values['reason']}: such overlap is not among the ways that are compared"
            for one in self.overlap.refused
        ]
        self.seconds = time.process_time() - start
        return {"overlap-comm": asdict(self.overlap.chosen)}

    def _load_lines(self) -> list[str]:
        """What the table of traffic does not know: it takes all experts as chosen alike."""
        if self.goal.loads is None:
            return []
        return ["  that is traffic of experts that are chosen alike; the step has its loads below"]

    def _placement_lines(self) -> list[str]:
        """How the experts' rows travel, next to the best other way."""
        assert self.goal.deployment is not None
        if self.goal.deployment.ep == 1:
            return []
        from supertile.targets.comm.choice import choice_lines

        channels = self.goal.model.expert_layer.channels
        return choice_lines(self.goal.machine, self.goal.placements, channels)

    def timeline(self, module: ModuleOp) -> Timeline | None:
        """What a step costs; a scheduled module gets the costs of its tasks."""
        if self.tiled is None:
            return None
        from supertile.targets.deployment_timeline import deployment_timeline

        ways = {} if self.overlap is None else self.overlap.seconds
        return deployment_timeline(self.tiled, module, self.question, ways)


def _placed_loads(goal: Goal) -> PlacedLoads | None:
    """The loads that a deployment is costed under, if there are any: given, or those of a plan."""
    assert goal.deployment is not None
    plan, loads = goal.given
    if plan is None and loads is None:
        return None
    from supertile.targets.engines.setting import engine_setting
    from supertile.targets.plan.argument import loads_from
    from supertile.targets.plan.loads_on_ranks import Split, planned_loads, start_loads
    from supertile.targets.plan.model import expert_layers

    setting = engine_setting(goal.machine, goal.model, goal.deployment)
    split = Split(goal.engine, setting)
    given = None if loads is None else loads_from(loads, expert_layers(goal.model))
    if goal.plan is not None and plan is not None:
        return planned_loads(goal.plan, given, plan, split)
    assert given is not None
    return start_loads(given, goal.deployment, goal.model, split)


def group_options(tp: int, ep: int) -> dict[str, Any]:
    """Options of shard-attention: experts that are on ranks of their own are whole there."""
    return {"ranks": tp, "experts": "share" if ep > 1 else "slice"}


def with_options(
    passes: Sequence[Pass], options: Mapping[str, dict[str, Any]], tiles: str | None
) -> list[Pass]:
    """The passes with their options; `--tiles test` asks for tiles smaller than every size."""
    if tiles == "test":
        sizes = options.get("choose-tiles", {})
        options = {**options, "choose-tiles": {**sizes, "force": "test"}}
    return [type(one)(**options[one.name]) if one.name in options else one for one in passes]


def first_placement(dispatch: comm.Dispatch) -> Placement:
    """The placement of the first layer that a plan lists, or of all layers."""
    from supertile.ir.expert_plan import layer_placements

    held = layer_placements(dispatch, dispatch.placement)
    listed = held.plan.layers if held.plan is not None else ()
    return listed[0][1] if listed else held.at(None)


def expert_tables(module: ModuleOp, tokens: float) -> list[str]:
    """The placement of the experts and their traffic, from the first layer that has any."""
    from supertile.ir import comm
    from supertile.ir.comm_work import copy_bytes
    from supertile.ir.placement import placement_table

    combine = next((op for op in module.walk() if isinstance(op, comm.Combine)), None)
    if combine is None:
        return []
    from supertile.ir.op import shape_of
    from supertile.targets.traffic import expected_traffic, traffic_table

    dispatch = combine.origin.owner
    assert isinstance(dispatch, comm.Dispatch)
    placement = first_placement(dispatch)
    traffic = expected_traffic(tokens, shape_of(dispatch.chosen)[1], placement)
    return [placement_table(placement), traffic_table(traffic, copy_bytes(dispatch, combine))]
