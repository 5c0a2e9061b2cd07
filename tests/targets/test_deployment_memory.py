"""What fits a device: the largest batch and context fit, one more does not, whatever was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from step_runs import asked

from supertile.targets.cost.memory import Fit, positions_of, what_fits
from supertile.targets.deploy import Deployment
from supertile.targets.deployment_memory import DeploymentMemory

# Model, machine, deployment with batches and contexts that are asked for.
CASES = [
    ("llama", "h200", "phase=decode batch={} context=64", (1, 1500000)),
    ("deepseek_v4", "h200", "phase=decode ep=8 batch={} context=64", (2, 3000)),
    ("deepseek_v4", "ascend-910c", "phase=decode ep=8 batch={} context=64", (1, 99)),
    ("deepseek_v3", "gb200-nvl72", "phase=prefill ep=4 batch={} context=64 chunk=32", (1, 700)),
    ("qwen3_moe", "ascend-950dt", "phase=decode ep=4 tp=2 batch={} context=64", (1, 70000)),
]


def fit_of(case: str, machine: str, deployment: str) -> tuple[Fit, DeploymentMemory, Deployment]:
    found = asked(case, machine, deployment)
    memory, one = found.tiled.memory, found.question.deployment
    return what_fits(memory.use, one, found.question.config, memory.least), memory, one


@pytest.mark.parametrize(("case", "machine", "text", "batches"), CASES)
def test_what_fits_and_what_does_not(
    case: str, machine: str, text: str, batches: tuple[int, int]
) -> None:
    known = [fit_of(case, machine, text.format(batch)) for batch in batches]
    assert known[0][0].batch == known[1][0].batch, "the batch that was asked changes nothing"
    for fit, memory, one in known:
        assert memory.use(replace(one, batch=fit.batch)).fits
        assert not memory.use(replace(one, batch=fit.batch + 1)).fits
        positions = positions_of(asked(case, machine, text.format(batches[0])).question.config)
        assert 0 <= fit.context <= positions
        if fit.context:
            assert memory.use(replace(one, context=fit.context)).fits
        if fit.context < positions:
            assert not memory.use(replace(one, context=fit.context + 1)).fits


@pytest.mark.parametrize(("case", "machine", "text", "batches"), CASES)
def test_nothing_takes_less_than_the_least(
    case: str, machine: str, text: str, batches: tuple[int, int]
) -> None:
    _, memory, one = fit_of(case, machine, text.format(batches[0]))
    sizes = [memory.least(replace(one, batch=batch)).total for batch in (1, 2, 5, 40, 600, 10**6)]
    assert sizes == sorted(sizes)
    for batch in (1, 3, 64, 1000):
        deployment = replace(one, batch=batch)
        assert memory.least(deployment).total <= memory.use(deployment).total
