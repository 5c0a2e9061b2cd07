"""What is impossible about a deployment, and the nearest one that is possible.

A rule is a function that returns what is wrong together with a repaired deployment; the nearest
possible one is what repairing ends at. Whether the memory suffices is not judged here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from supertile.ir.errors import UserError
from supertile.ir.even_parts import even_parts
from supertile.targets.deployment import CACHES, Deployment, Model, deployment_text, value_text
from supertile.targets.machine_needs import check_costed

if TYPE_CHECKING:
    from supertile.targets.machine_types import Machine


class Problem(NamedTuple):
    """Why a deployment is impossible."""

    code: str
    keys: tuple[str, ...]
    """Where the text says it: the first of these that is given."""
    values: dict[str, Any]
    """For the error's text."""
    repaired: Deployment
    """The nearest deployment without this problem; it may have others."""


Rule = Callable[[Deployment], Problem | None]


def check_deployment(deployment: Deployment, model: Model, machine: Machine) -> None:
    """Raise the first reason why the model cannot be deployed so on the machine."""
    rules: tuple[Rule, ...] = (
        *FORM_RULES,
        lambda one: first_problem(one, MODEL_RULES, model),
        lambda one: first_problem(one, MACHINE_RULES, machine),
    )
    problem = first_problem(deployment, rules)
    if problem is not None:
        raise UserError(problem.code, **error_values(problem, rules))
    check_costed(machine, deployment.ranks, deployment.tp)


def first_problem(
    deployment: Deployment, rules: Sequence[Callable[..., Problem | None]], *about: object
) -> Problem | None:
    found = (rule(deployment, *about) for rule in rules)
    return next((problem for problem in found if problem is not None), None)


def error_values(problem: Problem, rules: Sequence[Rule]) -> dict[str, Any]:
    """What the error's text needs. No repair brings back what another repaired, so this ends."""
    deployment = problem.repaired
    while (next_problem := first_problem(deployment, rules)) is not None:
        deployment = next_problem.repaired
    return {**problem.values, "nearest": deployment_text(deployment)}


# Rules that need the deployment alone.


def counts(one: Deployment) -> Problem | None:
    """Texts cannot say 0, but code can."""
    sizes = {key: getattr(one, key) for key in ("ep", "tp", "dp", "batch", "context", "chunk")}
    key = next((key for key, size in sizes.items() if size is not None and size < 1), None)
    if key is None:
        return None
    repair: dict[str, Any] = {key: 1}
    told = {"key": key, "found": sizes[key]}
    return Problem("deploy.count", (key,), told, replace(one, **repair))


def phases(one: Deployment) -> Problem | None:
    """A chunk is a part of a prompt; drafts are accepted while decoding."""
    key, phase = ("chunk", "prefill") if one.phase == "decode" else ("mtp", "decode")
    if getattr(one, key) is None:
        return None
    told = {"key": key, "phase": phase, "found": one.phase}
    return Problem("deploy.phase", (key,), told, replace(one, chunk=None, mtp=None))


def chunk(one: Deployment) -> Problem | None:
    if one.chunk is None or one.chunk <= one.context:
        return None
    told = {"context": one.context, "found": one.chunk}
    return Problem("deploy.chunk", ("chunk", "context"), told, replace(one, chunk=one.context))


def world(one: Deployment) -> Problem | None:
    """Attention and experts run on the same ranks."""
    if one.ep == 1 or one.tp * one.dp == one.ep:
        return None
    repaired = _with_tp(one, min(one.tp, one.ep), lambda tp: True)
    told = {"ep": one.ep, "tp": one.tp, "dp": one.dp, "found": one.tp * one.dp}
    return Problem("deploy.world", ("tp", "dp", "ep"), told, repaired)


def slot_ranks(one: Deployment) -> Problem | None:
    """Each of the ep ranks has its number of slots, and at least one."""
    if one.slots is None or (len(one.slots) == one.ep and min(one.slots) >= 1):
        return None
    told = {"ep": one.ep, "found": sum(slots > 0 for slots in one.slots)}
    repaired = replace(one, slots=_respread(one.slots, one.ep))
    return Problem("deploy.slot_ranks", ("slots",), told, repaired)


FORM_RULES: tuple[Rule, ...] = (counts, phases, chunk, world, slot_ranks)


# Rules about the model.


def dense(one: Deployment, model: Model) -> Problem | None:
    """A dense model has no experts to spread or to hold."""
    if model.experts is not None or (one.ep == 1 and one.slots is None):
        return None
    key = "ep" if one.ep > 1 else "slots"
    told = {"key": key, "model": model.family}
    return Problem("deploy.dense", (key,), told, replace(one, ep=1, slots=None))


def heads(one: Deployment, model: Model) -> Problem | None:
    """The ranks of a group share the heads, and what heads have in common, evenly."""
    unshared = _unshared(one.tp, model)
    if unshared is None:
        return None
    limit = min(one.tp, model.size("num_attention_heads"))
    repaired = _with_tp(one, limit, lambda tp: _unshared(tp, model) is None)
    told = {"tp": one.tp, "shared": unshared}
    return Problem("deploy.heads", ("tp", "dp", "ep"), told, repaired)


def slot_counts(one: Deployment, model: Model) -> Problem | None:
    """Every expert has a slot, and no rank holds an expert twice."""
    if one.slots is None:
        return None
    experts = 0 if model.experts is None else model.experts.experts
    if sum(one.slots) < experts:
        repaired = replace(one, slots=_respread(one.slots, one.ep, experts))
        told = {"experts": experts, "found": sum(one.slots)}
        return Problem("deploy.few_slots", ("slots",), told, repaired)
    if max(one.slots) > experts:
        repaired = replace(one, slots=tuple(min(slots, experts) for slots in one.slots))
        told = {"experts": experts, "found": max(one.slots)}
        return Problem("deploy.many_slots", ("slots",), told, repaired)
    return None


def context(one: Deployment, model: Model) -> Problem | None:
    limit = model.size("max_position_embeddings")
    if not limit or one.context <= limit:
        return None
    told = {"limit": limit, "model": model.family, "found": f"context={one.context}"}
    return Problem("deploy.context", ("context",), told, replace(one, context=limit))


def reused_drafts(one: Deployment, model: Model) -> Problem | None:
    """A step drafts one token with each draft layer; a layer does not run several times."""
    layers = model.size("num_nextn_predict_layers")
    if one.mtp is None or not layers or not layers < one.mtp < math.inf:
        return None
    told = {"layers": layers, "model": model.family, "found": value_text(one.mtp)}
    return Problem("deploy.reused_drafts", ("mtp",), told, replace(one, mtp=float(layers)))


def drafts(one: Deployment, model: Model) -> Problem | None:
    """Accepted drafts are a number, of a model that drafts."""
    layers = model.size("num_nextn_predict_layers")
    if one.mtp is None or (layers and 0 <= one.mtp <= layers):
        return None
    wanted = f"mtp from 0 to {layers}" if layers else "no mtp: it has no draft layers"
    told = {"wanted": wanted, "model": model.family, "found": value_text(one.mtp)}
    return Problem("deploy.drafts", ("mtp",), told, replace(one, mtp=0.0 if layers else None))


MODEL_RULES: tuple[Callable[[Deployment, Model], Problem | None], ...] = (
    *(reused_drafts, dense, heads, slot_counts, context, drafts),
)


# Rules about the machine.


def devices(one: Deployment, machine: Machine) -> Problem | None:
    """A machine whose network reaches beyond it has as many ranks as that network has devices."""
    beyond = machine.domain("scale_out")
    if one.ranks == 1 or (beyond is not None and beyond.devices.value is None):
        return None
    needed_by = f"a deployment on {one.ranks} ranks"
    limit = int(machine.need("domains.scale_out.devices" if beyond else "devices", needed_by))
    if one.ranks <= limit:
        return None
    told = {"limit": limit, "unit": machine.device_unit, "machine": machine.name}
    keys = ("ep", "dp", "tp")
    return Problem("deploy.devices", keys, {**told, "found": one.ranks}, _shrunk(one, limit))


def cache(one: Deployment, machine: Machine) -> Problem | None:
    if one.cache != "fp8" or CACHES["fp8"] in machine.stored_formats:
        return None
    told = {"machine": machine.name, "found": ", ".join(machine.stored_formats)}
    return Problem("deploy.cache", ("cache",), told, replace(one, cache="bf16"))


MACHINE_RULES: tuple[Callable[[Deployment, Machine], Problem | None], ...] = (devices, cache)


# ---- repairs -----------------------------------------------------------------------------------


def _respread(slots: Sequence[int], ranks: int, least: int = 0) -> tuple[int, ...]:
    """About as many slots on so many ranks, one each at least; equal ones stay equal."""
    total = max(sum(slots), least, ranks)
    return (-(-total // ranks),) * ranks if len({*slots}) == 1 else even_parts(total, ranks)


def _with_tp(one: Deployment, limit: int, possible: Callable[[int], bool]) -> Deployment:
    """With the largest possible tp up to the limit, on the same ranks if ep > 1."""
    fits = (tp for tp in range(limit, 1, -1) if possible(tp))
    tp = next((tp for tp in fits if one.ep == 1 or one.ep % tp == 0), 1)
    return replace(one, tp=tp, dp=one.dp if one.ep == 1 else one.ep // tp)


def _shrunk(one: Deployment, limit: int) -> Deployment:
    """On `limit` ranks at most."""
    tp = min(one.tp, limit)
    dp = min(one.dp, limit // tp)
    ep = tp * dp if one.ep > 1 else 1
    slots = None if one.slots is None else _respread(one.slots, ep)
    return replace(one, ep=ep, tp=tp, dp=dp, slots=slots)


def _unshared(tp: int, model: Model) -> str | None:
    """What of the attention tp ranks cannot share evenly."""
    for key, name in (("num_attention_heads", "heads"), ("o_groups", "output groups")):
        whole = model.size(key)
        if whole % tp:
            return f"{whole} {name}"
    pairs = model.size("num_key_value_heads")
    if pairs and pairs % tp and tp % pairs:  # more ranks than these hold copies
        return f"{pairs} key-value heads"
    return None
