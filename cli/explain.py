"""`supertile explain`: why a figure of a deployment is what it is, and what else was possible."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from supertile.cli.compile import add_overlap_option, add_plan_option, answer
from supertile.cli.inputs import add_model_options, choose

if TYPE_CHECKING:
    from supertile.cli.deploy import Goal
    from supertile.targets.output.explain_comm import PlacementFacts
    from supertile.targets.timeline import Timeline

TRANSFERS = ("dispatch", "combine")
# What `supertile compile` asks besides, and explain does not.
UNASKED = {
    "pipeline": None, "stop_after": None, "entry": None, "tiles": "machine", "dump_ir": None,
    "stats": False, "check_numerics": False, "no_cache": False, "output": None,
}  # fmt: skip


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command, numerics=None)
    command.add_argument("--target", required=True, metavar="T", help="a machine, or its file")
    command.add_argument(
        "--deploy", required=True, metavar="D", help="'phase=decode ep=384 batch=96 context=4K'"
    )
    command.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help="a task such as dispatch, or a figure such as step_ms; without it the list of them",
    )
    add_overlap_option(command)
    add_plan_option(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(**UNASKED)


def run(options: argparse.Namespace) -> int:
    from supertile.cli.deploy import Goal
    from supertile.targets.output.explain import explain, explainable, explanation_lines

    goal = Goal.of(options)
    timeline = answer(options, goal, keep=True)[0].timeline
    assert timeline is not None, "a deployment is costed"
    known = explainable(timeline)
    if options.what is None:
        _print_known(known, options.json)
        return 0
    name = choose(options.what, known, "command.explain")
    if options.json:
        print(json.dumps(explained(options, goal, timeline, name), indent=2))
        return 0
    found = explain(timeline, goal.machine, name)
    placed = _placement(options, goal, timeline, name)
    lines = [line for one in found for line in explanation_lines(one)]
    print("\n".join([*lines, *_placement_lines(placed)]))
    return 0


def explained(
    options: argparse.Namespace, goal: Goal, timeline: Timeline, name: str
) -> dict[str, object]:
    """What is printed as JSON of a task or a figure."""
    from supertile.targets.output.explain import explain

    found = explain(timeline, goal.machine, name)
    placed = _placement(options, goal, timeline, name)
    told = {"explanations": [one.as_dict() for one in found]}
    return told | {"placement": placed and placed.as_dict()}


def _print_known(known: dict[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(known, indent=2))
        return
    width = max(map(len, known))
    for name, text in known.items():
        print(f"{name:<{width}}  {text}")


def _placement(
    options: argparse.Namespace, goal: Goal, timeline: Timeline, name: str
) -> PlacementFacts | None:
    """Of a transfer between ranks; None for anything else."""
    deployment = goal.deployment
    assert deployment is not None, "explain has a deployment"
    if name not in TRANSFERS or deployment.ep == 1:
        return None
    from supertile.targets.cost.sizes import own_tokens
    from supertile.targets.deploy import expert_slots
    from supertile.targets.output.explain_comm import layer_span, placement_facts

    goal = goal.of_module(goal.build(options)[0])
    tokens = own_tokens(deployment, goal.model)
    slots = max(expert_slots(deployment, goal.model))
    layer, span = goal.model.expert_layer, layer_span(timeline)
    tail = None
    if goal.loads is not None:
        tail = goal.loads.fullest(tokens * layer.choices).rows
    return placement_facts(goal.machine, layer, goal.placements, name, slots, span, tail)


def _placement_lines(placed: PlacementFacts | None) -> Iterator[str]:
    if placed is not None:
        from supertile.targets.output.explain_comm import placement_lines

        yield from placement_lines(placed)
