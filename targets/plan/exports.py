"""Plans as the files that serving engines load.

    for note in export(plan, "sglang", "location.json"):
        print(note)

What an engine needs of a file, and on whose word, is in `targets/engines`. All of them want the
same number of slots on each rank, none idle, and split the tokens of an expert over its replicas by
rules of their own, without shares.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supertile.ir.errors import UserError, nearest
from supertile.ir.files import write_text
from supertile.ir.placement import IDLE
from supertile.targets.engines.engine import Engine, engine_named
from supertile.targets.plan.export_vllm import INTERFACES, policy_module
from supertile.targets.plan.export_vllm_map import MAPS, map_notes, map_text
from supertile.targets.plan.plan_types import PlanFile

Rows = list[list[int]]


@dataclass(frozen=True)
class Export:
    """The text of a file, and what its user should know."""

    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Drafts:
    """The draft layers of a model. No loads of theirs are known: they get the default layout."""

    layers: int = 0
    running: bool = False
    """Whether the deployment drafts."""


NO_DRAFTS = Drafts()


def export(
    plan: PlanFile,
    engine: str,
    path: str | Path,
    interface: str | None = None,
    drafts: Drafts = NO_DRAFTS,
) -> tuple[str, ...]:
    """Write the plan for an engine, and return what its user should know.

    `interface` is for vLLM alone: one of `export_vllm.INTERFACES` or `export_vllm_map.MAPS`.
    Errors: those of `export_text`, and `plan.export_suffix` where the engine would not load a file
    of this name.
    """
    made = export_text(plan, engine, interface, drafts)
    known = (".json",) if interface in MAPS else engine_named(engine).suffixes
    suffix = os.path.splitext(str(path))[1]
    if suffix not in known:
        expected, found = " or ".join(known), suffix or "no suffix"
        raise UserError(
            "plan.export_suffix", file=str(path), engine=engine, expected=expected, found=found
        )
    text = (
        made.text
        if suffix != ".json" or engine_named(engine).name != "trtllm"
        else _tensorrt_json(plan, drafts)
    )
    write_text(path, text)
    return made.notes


def export_files(plan: PlanFile, engine: str, drafts: Drafts = NO_DRAFTS) -> dict[str, Export]:
    """By name, all files for an engine: for vLLM maps beside the policy. Errors: `export_text`."""
    suffix = engine_named(engine).suffixes[0]
    files = {f"{engine}{suffix}": export_text(plan, engine, None, drafts)}
    if engine_named(engine).name != "vllm":
        return files
    for interface, form in MAPS.items():
        if not form.every_layer or len(plan.layers) == plan.model_layers:
            files[f"{engine}-{interface}.json"] = export_text(plan, engine, interface, drafts)
    return files


def export_text(
    plan: PlanFile, engine: str, interface: str | None = None, drafts: Drafts = NO_DRAFTS
) -> Export:
    """The plan for an engine. Errors: `engine.unknown`, `plan.export_uneven`, `.export_idle`,
    `.export_redundant`, `.export_dense`, `.interface`.
    """
    loader, interfaces = engine_named(engine), (*INTERFACES, *MAPS)
    if interface is not None and (loader.name != "vllm" or interface not in interfaces):
        known, hint = ", ".join(interfaces), nearest(interface, interfaces)
        raise UserError("plan.interface", found=interface, expected=known, hint=hint)
    _check_even(plan, engine)
    if loader.full_slots:
        _check_idle(plan, engine)
    _check_redundant(plan, loader)
    made = TEXT_OF[loader.name](plan, interface or INTERFACES[0], drafts)
    return Export(made.text, (*made.notes, *_share_notes(plan, engine)))


def _check_even(plan: PlanFile, engine: str) -> None:
    counts = np.unique(plan.placement.slots)
    if len(counts) > 1:
        total = int(plan.placement.slots.sum())
        found = f"{counts[0]} to {counts[-1]} slots on a rank"
        more = -(-total // plan.placement.ranks)
        raise UserError("plan.export_uneven", engine=engine, found=found, more=more)


def _check_idle(plan: PlanFile, engine: str) -> None:
    idle = plan.placement.expert == IDLE
    if idle.any():
        row, slot = np.unravel_index(int(idle.argmax()), idle.shape)
        layer, rank = plan.layers[row].layer, int(plan.placement.rank[slot])
        found = f"{int(idle.sum())}, the first on rank {rank} in layer {layer}"
        raise UserError("plan.export_idle", engine=engine, found=found)


def _check_redundant(plan: PlanFile, loader: Engine) -> None:
    limit, redundant = loader.redundant_limit, _redundant(plan)
    if limit is not None and redundant > limit:
        raise UserError("plan.export_redundant", engine=loader.name, limit=limit, found=redundant)


def _share_notes(plan: PlanFile, engine: str) -> tuple[str, ...]:
    if plan.shares == "equal":
        return ()
    return (
        f"{engine} splits the tokens of an expert over its replicas by its own rule; the shares of "
        "the plan are left out, and its balancedness holds for them alone",
    )


def _rows(plan: PlanFile) -> Rows:
    rows: Rows = plan.placement.expert.tolist()
    return rows


def _default_row(plan: PlanFile) -> list[int]:
    """What engines put into the slots of a layer that they have no placement for."""
    experts = plan.placement.experts
    return [slot % experts for slot in range(int(plan.placement.slots.sum()))]


def _redundant(plan: PlanFile) -> int:
    return int(plan.placement.slots.sum()) - plan.placement.experts


# ---- SGLang


def every_layer_rows(plan: PlanFile) -> Rows:
    """[model layers][P]: dense layers in the default layout."""
    rows: Rows = [_default_row(plan)] * plan.model_layers
    for layer, row in zip(plan.layers, _rows(plan), strict=True):
        rows[layer.layer] = row
    return rows


def _sglang(plan: PlanFile, drafts: Drafts) -> Export:
    """`physical_to_logical_map` [model layers, P]; dense layers have the engine's own default."""
    rows = map_text(every_layer_rows(plan)).removesuffix("\n")
    text = f'{{"physical_to_logical_map":{rows}}}\n'
    flags = f"--ep-size {plan.placement.ranks} --ep-num-redundant-experts {_redundant(plan)}"
    notes = [f"start SGLang with {flags} --init-expert-location and this file"]
    if drafts.running:
        notes.append("draft layers have no row: SGLang keeps its own layout for them")
    return Export(text, tuple(notes))


# ---- vllm-ascend


def _vllm_ascend(plan: PlanFile) -> Export:
    """Layers by position among those with experts; what each device holds."""
    width = int(plan.placement.slots[0])
    layers = [
        {
            "layer_id": position,
            "device_count": plan.placement.ranks,
            "device_list": [
                {"device_id": rank, "device_expert": row[rank * width : (rank + 1) * width]}
                for rank in range(plan.placement.ranks)
            ],
        }
        for position, row in enumerate(_rows(plan))
    ]
    lines = ",\n".join(json.dumps(layer, separators=(",", ":")) for layer in layers)
    text = f'{{"moe_layer_count":{len(layers)},"layer_list":[\n{lines}\n]}}\n'
    option = '{"eplb_config":{"expert_map_path":"FILE"}}'
    notes = (
        f"start vllm-ascend on {plan.placement.ranks} ranks with --additional-config '{option}'",
        "a layer of drafts takes the engine's default",
    )
    return Export(text, notes)


# ---- TensorRT-LLM


def _tensorrt(plan: PlanFile, drafts: Drafts) -> Export:
    """YAML; layers with experts alone, by their number in the model, drafts after the last."""
    lines = [f"num_slots: {int(plan.placement.slots.sum())}", "initial_global_assignments:"]
    for layer, row in _assignments(plan, drafts).items():
        lines.append(f"  {layer}: {json.dumps(row)}")
    lines.append("layer_updates_per_iter: 0")
    notes = [
        f"name this file as moe_config.load_balancer, with moe_expert_parallel_size "
        f"{plan.placement.ranks}"
    ]
    if drafts.running:
        notes.append("draft layers have a row with the default layout: their loads are not known")
    elif drafts.layers:
        notes.append(
            "the deployment does not draft, so draft layers have no row: an engine that drafts "
            "does not start with this file"
        )
    return Export("\n".join([*lines, ""]), tuple(notes))


def _assignments(plan: PlanFile, drafts: Drafts) -> dict[int, list[int]]:
    rows = {layer.layer: row for layer, row in zip(plan.layers, _rows(plan), strict=True)}
    if drafts.running:
        last = plan.model_layers + drafts.layers
        rows |= {layer: _default_row(plan) for layer in range(plan.model_layers, last)}
    return rows


def _tensorrt_json(plan: PlanFile, drafts: Drafts) -> str:
    """The same as JSON, whose keys are words: what reads it must make numbers of them."""
    assignments = {str(layer): row for layer, row in _assignments(plan, drafts).items()}
    table: Mapping[str, object] = {
        "num_slots": int(plan.placement.slots.sum()),
        "initial_global_assignments": assignments,
        "layer_updates_per_iter": 0,
    }
    return json.dumps(table, separators=(",", ":")) + "\n"


# ---- vLLM


def _vllm(plan: PlanFile, interface: str, drafts: Drafts) -> Export:
    if interface in MAPS:
        return _vllm_map(plan, interface, drafts)
    text = policy_module(_rows(plan), plan.placement.experts, plan.placement.ranks, interface)
    config = json.dumps({"num_redundant_experts": _redundant(plan)})
    notes = [
        f"start vLLM on {plan.placement.ranks} ranks with --enable-eplb --eplb-config '{config}', "
        "and call install() of this module in each of its processes",
        "vLLM starts with its own layout; the plan is in force from the first rearrangement on, "
        "after step_interval steps",
    ]
    if drafts.running:
        notes.append("draft layers are left to the policy that was there before")
    if interface == "plan":
        notes.append("no released vLLM with this interface was at hand: try it first")
    return Export(text, tuple(notes))


def _vllm_map(plan: PlanFile, form: str, drafts: Drafts) -> Export:
    """Rows of all layers and of the model's draft layers, or of the layers with experts alone."""
    rows = _rows(plan)
    if MAPS[form].every_layer:
        dense = plan.model_layers - len(rows)
        if dense:
            raise UserError("plan.export_dense", number=form.removeprefix("pr"), found=dense)
        rows += [_default_row(plan)] * drafts.layers
    return Export(map_text(rows), map_notes(form, plan.placement.ranks, _redundant(plan)))


TEXT_OF: Mapping[str, Callable[[PlanFile, str, Drafts], Export]] = {
    "sglang": lambda plan, _, drafts: _sglang(plan, drafts),
    "vllm": _vllm,
    "vllm-ascend": lambda plan, _, __: _vllm_ascend(plan),
    "trtllm": lambda plan, _, drafts: _tensorrt(plan, drafts),
}
"""Of a plan, an interface of vLLM's and draft layers, by the name of the engine."""
