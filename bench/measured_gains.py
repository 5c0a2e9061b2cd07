"""What better placed experts gain, beside gains that were measured: one parameter, two predictions.

    python bench/measured_gains.py [MACHINE [DEPLOYMENT]]

ROCm/ATOM, pull request 1210, measured prefill of DeepSeek-V4-Pro on 8 GPUs with expert parallelism,
over the engine's own placement: rearranged in as many slots as there are experts, with 64
replicas more, and better placed. Neither the loads nor the lengths of prompts are published with
it. Here loads follow a law with one parameter, the least with which the first gain is the measured
one; the other two gains are what comes out. The machine, an AMD GPU, is none of those shipped: one
with as much memory and bandwidth a device stands in, so that ratios are compared and no rates.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from supertile.cli.deploy import Goal
from supertile.cli.inputs import config_path
from supertile.cli.placement_steps import PlacementSteps, compile_options
from supertile.frontend.hf_config import read_config
from supertile.targets.cost.placed_loads import PlacedLoads
from supertile.targets.deploy import parse_deployment
from supertile.targets.engines.engine import own_balance
from supertile.targets.engines.starts import in_order
from supertile.targets.machine import load_machine
from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.placement.plan_map import plan_map
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.comparison import step_figures
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.model import expert_layers

MACHINE, DEPLOYMENT = "gb300-nvl72", "phase=prefill ep=8 batch=1 context=8192"
MODEL, CONFIG = "deepseek_v4", "deepseek_v4_pro"
REPLICAS = 64
MEASURED = {"rearranged": 0.167, "64 replicas": 0.244, "better placed": 0.340}
LAWS = {"zipf": 0.05, "lognormal": 0.1}
"""Laws of loads, and the step in which their parameter is looked for."""
LIMIT, HALVINGS = 3.0, 6
SEEDS = range(3)

Placer = Callable[[Floats, int, int], ExpertMap]


def balanced(load: Floats, slots: int, ranks: int) -> ExpertMap:
    """What EPLB makes of the loads."""
    return own_balance(load, slots, ranks)


def planned(load: Floats, slots: int, ranks: int) -> ExpertMap:
    """The plan for engines that split the tokens of an expert evenly."""
    return plan_map(load, np.full(ranks, slots // ranks), "equal")


def started(load: Floats, slots: int, ranks: int) -> ExpertMap:
    """Experts in order, as engines start with them."""
    row = in_order(load.shape[1], ranks, slots // ranks)
    each = np.full(ranks, slots // ranks)
    return ExpertMap.equal(load.shape[1], each, np.tile(row, (len(load), 1)))


class Steps:
    """Steps of the deployment with and without replicas."""

    def __init__(self, machine: str, deployment: str) -> None:
        self.machine, self.deployment = load_machine(machine), parse_deployment(deployment)
        self.config = read_config(config_path(CONFIG))
        self.steps: dict[int, PlacementSteps] = {}
        self.experts = self._goal_of(None).goal.model.expert_layer.experts

    def _goal_of(self, slots: int | None) -> PlacementSteps:
        ranks = self.deployment.ep
        each = None if slots is None else (slots // ranks,) * ranks
        deployment = replace(self.deployment, slots=each)
        goal = Goal((MODEL, CONFIG), self.config, self.machine, deployment)
        module, _ = goal.build(compile_options(goal))
        return PlacementSteps(goal.of_module(module), module)

    def loads(self, text: str) -> Loads:
        return loads_from(text, expert_layers(self._of(self.experts).goal.model))

    def _of(self, slots: int) -> PlacementSteps:
        if slots not in self.steps:
            self.steps[slots] = self._goal_of(slots)
        return self.steps[slots]

    def rate(self, loads: Loads, place: Placer, replicas: int = 0) -> float:
        """Prompt tokens per second per device."""
        slots = self.experts + replicas
        placed = place(loads.total, slots, self.deployment.ep)
        put = PlacedLoads.of(placed, loads.total, loads.source, place.__name__)
        timeline = self._of(slots).timeline(put)
        return step_figures(timeline, len(loads.layers)).tokens_per_second_per_device


def gain(steps: Steps, law: str, place: Placer, replicas: int = 0) -> Floats:
    """Of a placement over the one that engines start with, [seeds]: other experts are loaded."""
    found = []
    for seed in SEEDS:
        loads = steps.loads(f"{law},seed={seed}")
        found.append(steps.rate(loads, place, replicas) / steps.rate(loads, started) - 1)
    return np.array(found)


def fitted(steps: Steps, law: str) -> float | None:
    """The least parameter with which rearranging gains, on average over the seeds, what was
    measured; None: none does."""

    @cache
    def is_enough(value: float) -> bool:
        return bool(gain(steps, f"{law}:{value:.6f}", balanced).mean() >= MEASURED["rearranged"])

    step, low = LAWS[law], 0.0
    while not is_enough(low + step):
        low += step
        if low > LIMIT:
            return None
    high = low + step
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def main() -> None:
    given = sys.argv[1:3]
    machine, deployment = (*given, *(MACHINE, DEPLOYMENT)[len(given) :])
    start = time.process_time()
    steps = Steps(machine, deployment)
    print(f"{MODEL} on {machine}: {deployment}; gains over experts in order")
    print(f"{'':<18}" + "".join(f"{name:>26}" for name in MEASURED))
    print(f"{'measured':<18}" + "".join(f"{value:>+26.1%}" for value in MEASURED.values()))
    for law in LAWS:
        value = fitted(steps, law)
        if value is None:
            print(f"{law:<18}  no parameter gives the first gain")
            continue
        text = f"{law}:{value:.3f}"
        kinds: tuple[tuple[Placer, int], ...] = (
            (balanced, 0),
            (balanced, REPLICAS),
            (planned, REPLICAS),
        )
        found = [gain(steps, text, place, replicas) for place, replicas in kinds]
        cells = (f"{one.mean():+.1%} ({one.min():+.1%} to {one.max():+.1%})" for one in found)
        print(f"{text:<18}" + "".join(f"{cell:>26}" for cell in cells))
    print(f"mean over {len(SEEDS)} seeds (least to most); the first is fitted")
    print(f"{time.process_time() - start:.0f} s of CPU time")


if __name__ == "__main__":
    main()
