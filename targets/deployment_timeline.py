"""The answer to a deployment: the timeline of one step, with memory, evidence and notes.

    tiled = read_tiled(module, work, question)          # behind the passes of the tiled level
    timeline = deployment_timeline(tiled, module, question)         # behind build-schedule

Costs are those of the fullest rank. With balanced routing it has the average rows of its experts
times the tail that chance alone gives (`cost.sizes.imbalance`); under loads, what placement, loads
and chance together bring to it (`cost.placed_loads`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import ModuleOp

from supertile.ir.comm_work import ARRIVED
from supertile.ir.even_parts import even_parts
from supertile.runtime.plan import plan_module
from supertile.targets.bounds import hide_condition
from supertile.targets.comm.choice import exchanges
from supertile.targets.cost.evidence import figure_uses, verdict
from supertile.targets.cost.memory import fit_text, what_fits
from supertile.targets.cost.placed_loads import BALANCED, PlacedLoads
from supertile.targets.cost.sizes import (
    imbalance,
    names_of,
    own_tokens,
    sizes_of,
    touched_experts,
)
from supertile.targets.cost.totals import totals
from supertile.targets.cost.values import Value
from supertile.targets.deploy import Deployment, Model, deployment_text
from supertile.targets.deployment_memory import (
    DeploymentMemory,
    deployment_memory,
    experts_and_choices,
)
from supertile.targets.machine_types import Machine
from supertile.targets.step import Sizes, program_of
from supertile.targets.step_costs import (
    Overlap,
    StepCosts,
    annotate_cost,
    costed_step,
    overlap_of,
    overlap_text,
)
from supertile.targets.step_work import StepWork, step_work
from supertile.targets.timeline import Timeline


@dataclass(frozen=True)
class Question:
    """What is asked: which model on which machine, deployed how."""

    model: str
    config_name: str
    config: Model
    machine: Machine
    deployment: Deployment
    entries: tuple[str, ...]
    """What a step calls: "logits", and "draft" where drafts are verified."""
    loads: PlacedLoads | None = None
    """Loads of the experts where they are placed; None: routing is balanced."""


@dataclass(frozen=True)
class Tiled:
    """What is read of a tiled module: memory as a function, and what tasks cost."""

    work: StepWork
    """Of the step as it is scheduled without overlap."""
    memory: DeploymentMemory
    costs: StepCosts


def read_tiled(module: ModuleOp, work: StepWork, question: Question) -> Tiled:
    """The memory of a tiled module, and what tasks cost; `work` is that of its plain schedule."""
    names = names_of(work.works())
    memory = deployment_memory(
        module,
        plan_module(module),
        question.entries,
        names,
        question.deployment,
        question.config,
        question.machine,
    )
    return Tiled(work, memory, step_costs(work, question))


def deployment_timeline(
    tiled: Tiled,
    module: ModuleOp,
    question: Question,
    ways: Mapping[Overlap, float] | None = None,
) -> Timeline:
    """The timeline of one step of a scheduled module, whose tasks get their costs.

    `ways` of hiding communication, with the seconds that a step takes scheduled for each, are told
    of beside that of the module. UserErrors name figures of the machine that are unknown.
    """
    machine, deployment, config = question.machine, question.deployment, question.config
    work = step_work(module, question.entries)
    overlap = overlap_of(module)
    step = costed_step(work, tiled.costs)
    annotate_cost(step, machine.main_memory.name)
    programs = tuple(program_of(name, held.tasks) for name, held in step.programs.items())
    figures = figure_uses(programs, step.order, machine)
    seconds = {way: held for way, held in (ways or {}).items() if way != overlap}
    memory = tiled.memory.use(deployment)
    evidence = verdict(figures)
    fit = what_fits(tiled.memory.use, deployment, config, tiled.memory.least)
    summary, definitions = totals(
        programs, step.order, deployment, config, machine, memory, fit, evidence
    )
    text = fit_text(fit, deployment, config)
    notes = (text, *_notes(work, tiled.costs.whole, question), *tiled.costs.notes)
    return Timeline(
        model=question.model,
        config=question.config_name,
        machine=machine.name,
        device_unit=machine.device_unit,
        deployment=deployment_text(deployment),
        phase=deployment.phase,
        ranks=deployment.ranks,
        programs=programs,
        order=step.order,
        memory=memory,
        figures=figures,
        summary=summary,
        definitions=definitions,
        notes=notes,
        loads=loads_text(question),
        overlap=overlap_text(overlap, step.duration, seconds) if deployment.ep > 1 else "",
        condition=condition_text(question) if deployment.ep > 1 else "",
        main_memory=machine.main_memory.name,
    )


def loads_text(question: Question) -> str:
    """The loads that the figures are for; nothing of a model without experts."""
    if question.loads is not None:
        return question.loads.text
    return "" if question.config.experts is None else BALANCED


def condition_text(question: Question) -> str:
    """Whether the experts' traffic can hide behind their arithmetic, at the rates of kernels."""
    machine, deployment, config = question.machine, question.deployment, question.config
    layer = config.expert_layer
    tokens = own_tokens(deployment, config)
    sent = exchanges(layer.row, deployment.ep, layer.experts, layer.choices, tokens)
    return str(hide_condition(machine, layer, sent))


def step_costs(work: StepWork, question: Question) -> StepCosts:
    """The costs of a step, and of its two micro-batches if there are two sequences."""
    machine, deployment, config = question.machine, question.deployment, question.config
    loads = question.loads
    whole = step_sizes(work, deployment, config, loads)
    if deployment.batch < 2:
        return StepCosts(machine, whole)
    first, last = even_parts(deployment.batch, 2)
    halves = {
        size: step_sizes(work, replace(deployment, batch=size), config, loads)
        for size in (first, last)
    }
    return StepCosts(machine, whole, (halves[first], halves[last]))


def step_sizes(
    work: StepWork, deployment: Deployment, config: Model, loads: PlacedLoads | None = None
) -> Sizes:
    """The sizes that a step is costed at, on the fullest rank under the loads."""
    values = dict(sizes_of(deployment, config, names_of(work.works())))
    if loads is None:
        tail = imbalance(deployment, config, values) if deployment.ep > 1 else 1.0
        share = touched_experts(deployment, config, values[ARRIVED] * tail)
    else:
        fullest = loads.fullest(float(values[ARRIVED]))
        tail, share = fullest.rows, fullest.touched
    experts, choices = experts_and_choices(config)
    copies = float(values[ARRIVED]) * float(tail)  # on average a rank sends as many as it receives
    values[ARRIVED] = values[ARRIVED] * tail
    labels = {label for one in work.works() for label, _ in one.read if "{e}" in label}
    touched: Mapping[str, Value] = dict.fromkeys(sorted(labels), share)
    return Sizes(values, touched, copies, deployment.ep, experts, choices, float(tail))


def _notes(work: StepWork, sizes: Sizes, question: Question) -> list[str]:
    notes, deployment = [], question.deployment
    if work.prepared:
        notes.append(
            f"{work.prepared} launches depend on weights alone; they run when the weights are "
            "loaded and are no part of the step."
        )
    if deployment.ep > 1:
        tail = sizes.copies / float(sizes_of(deployment, question.config)[ARRIVED])
        routing = "Routing is taken as balanced; by chance"
        if question.loads is not None:
            routing = "By the loads and by chance"
        notes.append(
            f"{routing} the fullest of {deployment.ep} ranks has {tail:.2f} times the average "
            "rows, and costs are those of that rank."
        )
    experts = question.config.experts
    if experts is not None and deployment.ep == 1 and deployment.dp > 1:
        notes.append(
            f"Each of the {deployment.dp} groups holds all {experts.experts} experts of a layer: "
            "a deployment cannot say that experts are sliced over the ranks of several groups."
        )
    return notes
