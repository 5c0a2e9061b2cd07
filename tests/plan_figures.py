"""Reads every figure of plan.json and of what is printed of it, and says which contradict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from output_figures import NUMBER, SCALES, differs, number, rounds_to

TIME = rf"({NUMBER}) (ns|µs|ms|s)"
ROW = re.compile(
    rf"^(\S.*?) +({NUMBER}) +({NUMBER}) +({NUMBER}) +{TIME} +{TIME} +{TIME} +({NUMBER})",
    re.MULTILINE,
)
"""placement, load / mean, worst, balancedness, rank time, layer time, step, tokens a second"""


def plan_faults(plan: dict[str, Any], terminal: str) -> Iterator[str]:
    """A sentence for each contradiction."""
    yield from chain(_layers(plan), _table(plan, terminal), _bounds(plan, terminal))


def _layers(plan: dict[str, Any]) -> Iterator[str]:
    ranks = plan["ranks"]
    for one in plan["layers"]:
        name = f"layer {one['layer']}"
        if not 1 / ranks - 1e-9 <= one["balancedness"] <= 1 + 1e-9:
            yield f"{name}: balancedness is not in [1 / ranks, 1]"
        if differs(one["ratio"], one["max_load"] / one["bound"]):
            yield f"{name}: the ratio is not the fullest rank over its bound"
        mean = sum(one["loads"]) / ranks
        if differs(one["balancedness"], mean / one["max_load"]):
            yield f"{name}: balancedness is not the mean over the fullest rank"
        if one["bound"] > one["max_load"] * (1 + 1e-9) or one["bound"] < mean * (1 - 1e-9):
            yield f"{name}: the bound is above what is reached, or below the mean"
        whole: dict[int, float] = {}
        for expert, share in zip(one["slots"], one.get("shares", ()), strict=False):
            whole[expert] = whole.get(expert, 0) + share
        if any(total != plan["share_parts"] for expert, total in whole.items() if expert >= 0):
            yield f"{name}: the shares of an expert do not add up"


def _table(plan: dict[str, Any], terminal: str) -> Iterator[str]:
    rows = {match[1]: match for match in ROW.finditer(terminal)}
    for name, told in plan["comparison"].items():
        row = rows.get(name)
        if row is None:
            yield f"no row of {name}"
            continue
        mean, worst, balance = (number(row[n]) for n in (2, 3, 4))
        if not rounds_to(row[2], told["load_over_mean"]):
            yield f"{name}: load / mean is told twice"
        if not 1 / plan["ranks"] - 1e-4 <= balance <= 1 or not 1 <= mean <= worst:
            yield f"{name}: load / mean, worst and balancedness are out of range"
        if balance < 1 / worst - 1e-4 or balance > 1 / mean + 0.05:
            yield f"{name}: balancedness is no mean of inverses"
        for key, place in (("layer_seconds", 7), ("step_seconds", 9)):
            if not rounds_to(row[place], told[key] * 1e3, SCALES[row[place + 1]]):
                yield f"{name}: {key} is told twice"
        if not rounds_to(row[11], told["tokens_per_second_per_device"]):
            yield f"{name}: tokens a second are told twice"
        if told["layer_seconds"] > told["step_seconds"]:
            yield f"{name}: a layer takes longer than the step"
    rates = {key: one["tokens_per_second_per_device"] for key, one in plan["comparison"].items()}
    gain = re.search(rf"The plan gives ({NUMBER}) ", terminal)
    if gain is None or not rounds_to(gain[1], rates["planned"]):
        yield "the gain is of other tokens a second"
    steps = {key: one["step_seconds"] * rates[key] for key, one in plan["comparison"].items()}
    if any(differs(value, steps["planned"]) for value in steps.values()):
        yield "steps of one deployment have different tokens"


def _bounds(plan: dict[str, Any], terminal: str) -> Iterator[str]:
    bounds = plan["bounds"]
    parts = [bounds[key] for key in ("wire", "latency", "arithmetic", "weights")]
    if differs(bounds["overlapped"], max(parts)):
        yield "the overlapped bound is not the largest of its parts"
    compute = max(bounds["arithmetic"], bounds["weights"])
    least, most = bounds["latency"] + compute, bounds["latency"] + compute + 2 * bounds["wire"]
    if not least * (1 - 1e-9) <= bounds["serial"] <= most * (1 + 1e-9):
        yield "the serial bound is not the sum of its phases"
    told = dict(
        re.findall(rf"^  (dispatch|experts|combine|in all) +({NUMBER} \S+)", terminal, re.M)
    )
    times = {name: number(text.split()[0]) * SCALES[text.split()[1]] for name, text in told.items()}
    whole = times.pop("in all")
    if differs(sum(times.values()), whole, 0.01 * whole):
        yield "phases of a layer do not add up"
    if whole / 1e3 < bounds["serial"] * 0.995:
        yield "a layer takes less than its lower bound"
    for name, one in plan["communication"].items():
        text, unit = told[name].split()
        if not rounds_to(text, one["seconds"] * 1e3, SCALES[unit]):
            yield f"seconds of {name} are told twice"
        if (one["messages"] > 0) != (one["wire_bytes"] > 0):
            yield f"{name} has messages without bytes"
    ratio = re.search(rf"({NUMBER}) x the bound of one phase after\s", terminal)
    expected = whole / 1e3 / bounds["serial"]
    if ratio is None or differs(number(ratio[1]), expected, 0.006 + 0.01 * expected):
        yield "the ratio to the serial bound is of other times"
