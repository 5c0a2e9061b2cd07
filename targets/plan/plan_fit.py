"""Whether a plan was made for what it is taken for: model, machine, phase and layers.

Where experts live is right or wrong for a model of these layers and experts, on ranks in domains of
these sizes. A plan of another model, machine or phase is refused by name, unless it is allowed; of
what changes no more than how well a plan fits, such as the batch, a line tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from supertile.ir.errors import UserError
from supertile.targets.deploy import Deployment, parse_deployment
from supertile.targets.machine_types import Machine
from supertile.targets.plan.model import ExpertLayers, layers_text
from supertile.targets.plan.plan_types import PlanFile

TOLD = ("tp", "dp", "batch", "context", "chunk", "mtp", "cache")
"""Keys of a deployment that a plan is only more or less good for."""


@dataclass(frozen=True)
class Use:
    """What a plan is taken for; a run has no machine and no deployment."""

    model: str
    config: str
    machine: Machine | None = None
    deployment: Deployment | None = None


class Difference(NamedTuple):
    """Between what a plan was made for and what it is taken for."""

    what: str
    here: str
    plan: str


def spanned_domains(machine: Machine, ranks: int) -> dict[str, int]:
    """Devices of the machine's domains of which so many ranks span several, from inside."""
    sizes = ((domain.name, domain.devices.value) for domain in machine.domains)
    return {name: int(size) for name, size in sizes if size is not None and 1 < size < ranks}


def check_use(plan: PlanFile, use: Use, file: str, allowed: bool = False) -> list[str]:
    """What to tell of a plan that is taken for the use. `plan.other_use` where it was made for
    another model, machine or phase and that is not `allowed`."""
    refused = list(_refused(plan, use))
    if refused and not allowed:
        raise UserError(
            "plan.other_use",
            file=file,
            what=", ".join(one.what for one in refused),
            expected=", ".join(one.here for one in refused),
            found=", ".join(one.plan for one in refused),
        )
    named = [one.what for one in refused]
    told = [*refused, *(one for one in _told(plan, use) if one.what not in named)]
    return [_line(file, told)] if told else []


def check_layers(plan: PlanFile, model: ExpertLayers, file: str) -> None:
    """`plan.other_model` where the plan is of other layers or experts than the model's."""
    held = (plan.model_layers, plan.placement.experts, plan.numbers)
    wanted = (model.total, model.experts, model.moe)
    if held != wanted:
        raise UserError(
            "plan.other_model",
            file=file,
            expected=_layers_text(*wanted),
            found=_layers_text(*held),
        )


def _layers_text(layers: int, experts: int, numbers: Sequence[int]) -> str:
    return f"{layers} layers, with {experts} experts in {layers_text(numbers)}"


def _refused(plan: PlanFile, use: Use) -> Iterator[Difference]:
    if plan.model != use.model:
        yield Difference("model", use.model, plan.model)
    if use.machine is not None:
        yield from _other_machine(plan, use.machine)
    if use.deployment is not None:
        here, there = use.deployment.phase, parse_deployment(plan.deployment).phase
        if here != there:
            yield Difference("phase", f"phase={here}", f"phase={there}")


def _other_machine(plan: PlanFile, machine: Machine) -> Iterator[Difference]:
    """Domains are compared by size. A plan that does not say its own is known by its machine."""
    if plan.domains is None:
        if plan.machine != machine.name:
            yield Difference("machine", machine.name, plan.machine)
        return
    domains = spanned_domains(machine, plan.placement.ranks)
    if [*domains.values()] != [*plan.domains.values()]:
        here = f"{machine.name}, {_domains_text(domains)}"
        yield Difference("machine", here, f"{plan.machine}, {_domains_text(plan.domains)}")


def _domains_text(domains: Mapping[str, int]) -> str:
    sizes = [f"{size} ranks a {name}" for name, size in domains.items()]
    return " in ".join(sizes) if sizes else "all ranks in one domain"


def _told(plan: PlanFile, use: Use) -> Iterator[Difference]:
    if plan.config != use.config:
        yield Difference("config", use.config, plan.config)
    if use.machine is not None and plan.machine != use.machine.name:
        yield Difference("machine", use.machine.name, plan.machine)
    if use.deployment is None:
        return
    there = parse_deployment(plan.deployment)
    for key in TOLD:
        here, held = getattr(use.deployment, key), getattr(there, key)
        if here != held:
            yield Difference(key, f"{key}={here}", f"{key}={held}")


def _line(file: str, told: Sequence[Difference]) -> str:
    held, here = (
        " ".join(texts) for texts in ([one.plan for one in told], [one.here for one in told])
    )
    return f"note: the plan {file} was made for {held}, and is taken for {here}"
