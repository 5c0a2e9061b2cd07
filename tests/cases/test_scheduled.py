"""Whole models as programs: any order of tasks that the events allow gives the same bytes.

Arenas are full of NaN before every call, so that what runs too early is seen.
"""

from dataclasses import replace

import numpy as np
import pytest
from case_runs import TOLERANCE, apart, rows_of
from placement_plans import plan_for
from scheduled_runs import model_of, programs, scheduled, symbols, tiled

from supertile.ir import sched
from supertile.ir.sched_check import before_each, order_problems, traced
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generator, Request
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
from supertile.runtime.sched_execute import (
    ScheduledExecutor,
    ScheduledRanks,
    random_order,
)

PLAN = plan_for(list(range(6)), 8, 2, (6, 5))
SIZES = {"tokens": 16, "batch": 2, "context": 12, "memory": "runtime"}
# Chunks of two rows, smaller than the buffers, then single tokens.
REQUEST = Request(prompt=7, chunk=7, teacher=True)


def rows(case):
    return [row[:8] for row in rows_of(case)]


def generated(case, executor):
    """Logits, and the state that is left."""
    session = Session(executor, "logits", 2, 12)
    logits = Generator(session).run(rows(case), REQUEST).logits
    return [logits.tobytes(), *(state.tobytes() for state in session.states)], logits


@pytest.mark.parametrize("case", ["llama", "deepseek_v4"])
def test_every_order_gives_the_bytes_of_the_tiled_module(case):
    before = model_of(case, tiled(case))
    expected, logits = generated(case, Executor(before.plan, before.weights.get))
    assert not np.isnan(logits).any()
    model = model_of(case, scheduled(tiled(case), **SIZES))
    for seed in range(3):
        executor = ScheduledExecutor(model.plan, model.weights.get, order=random_order(seed))
        found, _ = generated(case, executor)
        assert found == expected, seed


def test_ranks_run_programs_in_lock_step():
    """Under a plan; on the way the tiled level runs under it, and agrees with one rank."""
    case = "deepseek_v4"
    request = Request(chunk=7)

    def run(executor):
        return Generator(LockstepSession(executor, "logits", 2, 12)).run(rows(case), request).logits

    module = tiled(case, ranks=2, plan=PLAN)
    before = model_of(case, module)
    plain = Executor(before.plan, before.weights.get)
    model = model_of(case, scheduled(module, **{**SIZES, "batch": 1}))
    programmed = ScheduledExecutor(model.plan, model.weights.get, order=random_order(1))
    expected = run(LockstepExecutor(plain, 2))
    assert run(ScheduledRanks(programmed, 2)).tobytes() == expected.tobytes()
    alone = model_of(case, tiled(case))
    session = Session(Executor(alone.plan, alone.weights.get), "logits", 2, 12)
    assert apart(expected, Generator(session).run(rows(case), request).logits) < TOLERANCE


def test_transfers_hold_back_nothing_that_does_not_need_them():
    """The shared expert runs while rows travel, in the bytes that are planned for both."""
    module = scheduled(tiled("deepseek_v4", ranks=2))
    for program in programs(module).values():
        trace = traced(program, symbols(module))
        sent = [n for n, op in enumerate(trace.actions) if isinstance(op, sched.Transfer)]
        shared = [
            number
            for number, op in enumerate(trace.actions)
            if isinstance(op, sched.Task) and op.kernel.data.startswith("shared_expert")
        ]
        assert len(sent) == 2 * len(shared)
        for number in shared:
            assert not any(trace.before[number] >> other & 1 for other in sent)
            assert not any(trace.before[other] >> number & 1 for other in sent)


@pytest.mark.parametrize("case, ranks", [("llama", 1), ("deepseek_v4", 1), ("deepseek_v4", 2)])
def test_every_deleted_edge_is_noticed(case, ranks):
    module = scheduled(tiled(case, ranks=ranks))
    noticed = edges = 0
    for program in programs(module).values():
        trace = traced(program, symbols(module))
        for op in program.actions:
            for event in list(op.waits):
                edges += 1
                noticed += _is_noticed(program, trace, op, event)
    print(f"{case} on {ranks}: {noticed} of {edges} deletions noticed")
    assert noticed == edges > 10


def _is_noticed(program, trace, op, event):
    """Whether the checks see that an action no longer waits for an event; it waits again after."""
    held = list(op.waits)
    op.wait_for([other for other in held if other is not event])
    weakened = replace(trace, before=before_each(program.actions))
    found = any(True for _ in order_problems(program, weakened))
    op.wait_for(held)
    return found
