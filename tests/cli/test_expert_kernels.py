"""compile, plan and --sweep say the same of a layer of experts: bytes, weights and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from deployed_models import config_of, graph_module, kernels_on, model_on
from model_files import model_for
from xdsl.dialects.builtin import ModuleOp

from supertile.cli.deploy import Answer, Goal, Schedules, with_options
from supertile.cli.deployed_model import deployed_model
from supertile.cli.expert_kernels import ExpertKernels
from supertile.frontend.build import build_model
from supertile.frontend.program import load_program
from supertile.frontend.settle import ModelConfig, settle
from supertile.ir import comm
from supertile.ir.comm_work import copy_bytes
from supertile.passes.driver import Options, run_passes
from supertile.passes.pipeline import PIPELINE, load_pass
from supertile.targets.comm.layer_table import moe_layer_table
from supertile.targets.cost.placed_loads import PlacedLoads
from supertile.targets.deploy import expert_slots, parse_deployment
from supertile.targets.deployment_timeline import read_tiled
from supertile.targets.machine import load_machine, machine_names
from supertile.targets.placement.layer_placements import dealt_map
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.model import expert_layers
from supertile.targets.plan.travel import Travel, travel_of
from supertile.targets.step_costs import NO_OVERLAP, costed_step
from supertile.targets.timeline import Task

MODELS = ("deepseek_v4_pro", "deepseek_v4_flash", "deepseek_v3", "qwen3_30b_a3b")
MACHINES = [name for name in machine_names() if name != "numpy"]  # which has no times
RANKS, BATCH = 8, 64
NANOSECONDS = 2e-9  # tasks of a schedule take whole ones
DEPLOYMENT = f"phase=decode ep={RANKS} batch={BATCH} context=4096"


def last_layer(name: str) -> ModelConfig:
    """A model at its real sizes with one layer, which has experts."""
    config = settle(load_program(model_for(config_of(name))), config_of(name))
    return replace(config, layers=config.layers[-1:], draft_layers=())


@dataclass(frozen=True)
class Compiled:
    """What `supertile compile` makes of a layer: the tiled module, its tasks, and memory."""

    module: ModuleOp = field(compare=False)
    tasks: tuple[Task, ...]
    memory: Mapping[str, float]


def compiled(
    config: ModelConfig, machine: str, loads: str = "", forgotten: tuple[str, ...] = ()
) -> Compiled:
    """Without overlap; `forgotten` keys are gone from the config once the module is built."""
    deployment = parse_deployment(DEPLOYMENT)
    goal = Goal(("m", "c"), config, load_machine(machine), deployment)
    module = build_model(model_for(config), config, "deployed", goal.entries)
    goal = replace(goal, config=without(config, forgotten)).of_module(module)
    goal = replace(goal, loads=dealt(goal, loads) if loads else None)
    names = [name for phase, name in PIPELINE if phase != "scheduled"]
    passes = with_options([load_pass(name)() for name in names], goal.pass_options(), None)
    run_passes(module, passes, Options(verify=False))
    schedules, question = Schedules(goal, module), Answer(goal).question
    work = schedules.work(NO_OVERLAP)
    tiled = read_tiled(module, work, question)
    programs = costed_step(work, tiled.costs).programs.items()
    (layer,) = (program for name, program in programs if name.startswith("layers"))
    return Compiled(module, layer.tasks, dict(tiled.memory.use(deployment).parts))


def dealt(goal: Goal, loads: str) -> PlacedLoads:
    assert goal.deployment is not None
    load = loads_from(loads, expert_layers(goal.model)).total
    slots = np.array(expert_slots(goal.deployment, goal.model))
    placed = dealt_map(load.shape[1], slots, len(load))
    return PlacedLoads.of(placed, load, loads, "experts dealt round-robin")


def without(config: Any, keys: tuple[str, ...]) -> Any:
    """What deployments read of a config, without some of its keys."""
    assert set(keys) <= set(config.values)
    values = {key: value for key, value in config.values.items() if key not in keys}
    return SimpleNamespace(family=config.family, values=values)


def phases(tasks: Sequence[Task]) -> dict[str, float]:
    """Seconds of dispatch, the kernels that wait for it before combine, and combine."""
    (dispatch,) = (n for n, task in enumerate(tasks) if task.name == "dispatch")
    (combine,) = (n for n, task in enumerate(tasks) if task.name == "combine")
    between = followers(tasks, dispatch) - followers(tasks, combine) - {combine}
    kernels = [tasks[n] for n in sorted(between) if combine in followers(tasks, n)]
    return {
        "dispatch": tasks[dispatch].duration,
        "experts": sum(task.duration for task in kernels),
        "combine": tasks[combine].duration,
    }


def followers(tasks: Sequence[Task], first: int) -> set[int]:
    """Tasks that wait for the first, directly or not."""
    waiting: set[int] = set()
    for number, task in enumerate(tasks):
        if first in task.waits or waiting.intersection(task.waits):
            waiting.add(number)
    return waiting


# ---- compile and the table ---------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", MODELS)
def test_compile_and_sweep_agree_on_every_model_and_machine(name: str, machine: str) -> None:
    config, model = last_layer(name), model_on(name, machine)
    layer_of_compile = compiled(config, machine)
    layer = model.expert_layer
    ops = layer_of_compile.module.walk()
    combine = next(op for op in ops if isinstance(op, comm.Combine))
    dispatch = combine.origin.owner
    assert isinstance(dispatch, comm.Dispatch)
    assert copy_bytes(dispatch, combine) == layer.row
    slots = -(-layer.experts // RANKS)
    assert layer_of_compile.memory["expert weights"] == pytest.approx(
        slots * layer.expert_bytes, rel=1e-12
    )
    works = kernels_on(name, machine)
    assert [work.kind for work in works(parse_deployment(DEPLOYMENT))] == ["experts"]
    (row,) = moe_layer_table(load_machine(machine), model, works, (RANKS,), (BATCH,))
    for phase, seconds in phases(layer_of_compile.tasks).items():
        assert getattr(row, phase) == pytest.approx(seconds, rel=0, abs=NANOSECONDS), phase


# ---- compile and plan --------------------------------------------------------------------------

KEYS = {
    "deepseek_v4_pro": ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
                        "expert_dtype", "n_shared_experts", "num_hash_layers", "hidden_size"),
    "deepseek_v3": ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
                    "n_shared_experts", "first_k_dense_replace", "n_group",
                    "hidden_size"),
    "qwen3_30b_a3b": ("num_experts", "num_experts_per_tok", "moe_intermediate_size",
                      "hidden_size"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "machine"), [*zip(KEYS, ("ascend-910c", "h200", "h200"), strict=True)]
)
def test_plan_says_the_same_and_neither_needs_the_keys_of_the_config(
    name: str, machine: str
) -> None:
    """Once the module is built, the keys about experts are deleted."""
    config = last_layer(name)
    layer = compiled(config, machine, "uniform")
    assert compiled(config, machine, "uniform", forgotten=KEYS[name]) == layer
    travel = planned(name, machine, ())
    assert planned(name, machine, KEYS[name]) == travel
    assert travel.seconds == pytest.approx(phases(layer.tasks), rel=0, abs=NANOSECONDS)


def planned(name: str, machine: str, forgotten: tuple[str, ...]) -> Travel:
    """What `supertile plan` says of one layer with its experts dealt, its loads alike."""
    module, target = graph_module(name), load_machine(machine)
    model = deployed_model(module, without(config_of(name), forgotten), target)
    deployment, works = parse_deployment(DEPLOYMENT), ExpertKernels(module, target, model)
    load = loads_from("uniform", expert_layers(model)).total[-1:]
    slots = np.array(expert_slots(deployment, model))
    placed = dealt_map(load.shape[1], slots, 1)
    return travel_of(target, model, deployment, load, placed, works(deployment))
