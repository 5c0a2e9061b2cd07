"""Cases as overlapped schedules, and what runs them."""

from functools import cache

import numpy as np
from case_runs import Rows, rows_of
from numpy.typing import NDArray
from scheduled_runs import model_of, scheduled, tiled
from xdsl.dialects.builtin import ModuleOp

from supertile.ir.text import context
from supertile.passes.overlap_comm import OverlapComm
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generator, Request
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
from supertile.runtime.sched_execute import ScheduledExecutor, ScheduledRanks

WAVES, BATCHES = OverlapComm(waves=3), OverlapComm(microbatches=2)
BOTH = OverlapComm(microbatches=2, waves=2)
SIZES = {"tokens": 24, "batch": 3, "context": 12, "memory": "runtime"}
CHUNKS = Request(chunk=4)


@cache
def overlapped(case: str, ranks: int, overlap: OverlapComm) -> ModuleOp:
    module = tiled(case, ranks=ranks).clone()
    overlap.apply(context(), module)
    return scheduled(module, **SIZES)


def rows(case: str, count: int = 3) -> Rows:
    """Sequences of different lengths, of up to six tokens: some end before others."""
    first, second = rows_of(case)
    return [row[:6] for row in (first[:12], second[:4], first[:1], second[3:13])][:count]


def run(case: str, executor: Executor, ranks: int, count: int = 3) -> NDArray[np.float32]:
    """The logits of the rows, fed in chunks of four."""
    if ranks == 1:
        session = Session(executor, "logits", count, 12)
    else:
        scheduled = isinstance(executor, ScheduledExecutor)
        held = ScheduledRanks(executor, ranks) if scheduled else LockstepExecutor(executor, ranks)
        session = LockstepSession(held, "logits", count, 12)
    return Generator(session).run(rows(case, count), CHUNKS).logits


@cache
def wanted(case: str, ranks: int, count: int = 3) -> NDArray[np.float32]:
    """Of the tiled module."""
    model = model_of(case, tiled(case, ranks=ranks))
    return run(case, Executor(model.plan, model.weights.get), ranks, count)
