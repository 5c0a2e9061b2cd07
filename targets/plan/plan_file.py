"""The file of a plan, `plan.json`: written whole, read with every value checked.

    write_plan("plan.json", plan)
    assert read_plan("plan.json") == plan

docs/plan_files.md says what the keys mean. One line holds one layer, so plans can be compared
line by line; equal plans are equal bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from supertile.ir.files import read_text, refuse_special, write_text
from supertile.ir.json_text import JsonSource, parse_json
from supertile.targets.plan.plan_reader import FORMAT, TEXTS, VERSION, plan_of
from supertile.targets.plan.plan_types import SHARE_PARTS, PlanFile

FILE_LIMIT = 2**27  # bytes; 61 layers of 16,384 weighted slots have some 20 million


def read_plan(path: str | Path) -> PlanFile:
    """The plan in a file. `UserError` with a `plan.` code where it is not a plan in full."""
    file = str(path)
    refuse_special(file, "plan")
    text = read_text(file, "plan", FILE_LIMIT)
    return plan_of(JsonSource(file, text), parse_json(file, text, "plan"))


def write_plan(path: str | Path, plan: PlanFile) -> None:
    """Write the plan, replacing the file."""
    write_text(path, plan_text(plan))


def plan_text(plan: PlanFile) -> str:
    """The plan as JSON."""
    slots = plan.placement.slots.tolist()
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    head |= {key: getattr(plan, key) for key in TEXTS}
    head |= {
        "seed": plan.seed,
        "model_layers": plan.model_layers,
        "experts": plan.placement.experts,
        "ranks": plan.placement.ranks,
        "slots": slots[0] if len(set(slots)) == 1 else slots,
        "shares": plan.shares,
    }
    if plan.shares == "weighted":
        head["share_parts"] = SHARE_PARTS
    if plan.domains is not None:
        head["domains"] = plan.domains
    if plan.engine:
        head["engine"] = plan.engine
    if plan.setting is not None:
        head["engine_setting"] = vars(plan.setting)
    tables = ("bounds", "comparison", "communication", "evidence", "notes")
    head |= {key: getattr(plan, key) for key in tables if getattr(plan, key)}
    lines = [f"{_text(key)}: {_text(value)}," for key, value in head.items()]
    layers = ",\n".join(_text(_layer(plan, index)) for index in range(len(plan.layers)))
    return "\n".join(["{", *lines, '"layers": [', layers, "]", "}", ""])


def _layer(plan: PlanFile, index: int) -> dict[str, Any]:
    layer = plan.layers[index]
    numbers = ("balancedness", "bound", "ratio", "max_load")
    row: dict[str, Any] = {"layer": layer.layer}
    row |= {key: float(getattr(layer, key)) for key in numbers}
    if layer.expected is not None:
        row["expected"] = float(layer.expected)
    if layer.bounds:
        row["bounds"] = layer.bounds
    if plan.load is not None:
        row["loads"] = [_whole(load) for load in plan.load[index].tolist()]
    row["slots"] = plan.placement.expert[index].tolist()
    if plan.shares == "weighted":
        parts = np.rint(plan.placement.share[index] * SHARE_PARTS)
        row["shares"] = parts.astype(np.int64).tolist()
    return row


def _whole(load: float) -> int | float:
    """Counts as they are counted: without a fraction that is none."""
    return int(load) if load.is_integer() else load


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
