"""Whole models in two micro-batches: the numbers of one, on every executor, however it is fed."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from case_runs import FEEDS, TOLERANCE, Array, Rows, apart, rows_of, shared_model
from scheduled_runs import model_of, scheduled, tiled
from xdsl.dialects.builtin import ModuleOp

from supertile.ir.text import context
from supertile.ir.verify import verify_module
from supertile.passes.overlap_comm import OverlapComm
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generated, Generator, Request
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
from supertile.runtime.sched_execute import ScheduledExecutor, ScheduledRanks, random_order

CASES = ("deepseek_v4", "deepseek_v3")
RAGGED = Request(prompt=1, chunk=1, teacher=True)


def rows(case: str, count: int) -> Rows:
    """Sequences of different lengths."""
    first, second = rows_of(case)
    return [first[:12], second[:7], first[:1], second[3:13], first[5:9]][:count]


@cache
def split(case: str, ranks: int | None = None) -> ModuleOp:
    module = shared_model(case).module.clone()
    placed = "" if ranks is None else f",plan-experts{{ranks={ranks}}}"
    for one in [*parse_pipeline(f"canonicalize,cse{placed}"), OverlapComm(microbatches=2)]:
        one.apply(context(), module)
    verify_module(module, "placed")
    return module


def generated(case: str, module: ModuleOp, count: int, request: Request) -> Generated:
    model = model_of(case, module)
    executor = Executor(model.plan, model.weights.get)
    fed = rows(case, count)
    size = len(fed), max(map(len, fed)) + request.decode

    def session(entry: str) -> Session:
        if model.plan.ranks is None:
            return Session(executor, entry, *size)
        return LockstepSession(LockstepExecutor(executor, model.plan.ranks), entry, *size)

    draft = session("draft") if "draft" in model.plan.entries else None
    return Generator(session("logits"), draft).run(fed, request)


@cache
def whole(case: str, count: int, feed: str) -> Generated:
    return shared_model(case).run(rows(case, count), FEEDS[feed])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "count, feed",
    [(5, "one shot"), (5, "chunks of 7"), (4, "a prompt, then single tokens"), (1, "one shot")],
)
def test_two_halves_are_one_batch(case: str, count: int, feed: str) -> None:
    """Sequences that have ended leave halves of different sizes, and some without tokens."""
    found, wanted = generated(case, split(case), count, FEEDS[feed]), whole(case, count, feed)
    assert apart(found.logits, wanted.logits) < TOLERANCE
    assert (found.draft is None) == (wanted.draft is None)
    if found.draft is not None:
        assert apart(found.draft, wanted.draft) < TOLERANCE
    if count == 1:
        assert found.logits.tobytes() == wanted.logits.tobytes()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ranks, feed", [(2, "one shot"), (4, "chunks of 7")])
def test_ranks_in_lock_step(case: str, ranks: int, feed: str) -> None:
    """Five sequences on four ranks: two of the first are two halves, the others have one."""
    found = generated(case, split(case, ranks), 5, FEEDS[feed])
    assert apart(found.logits, whole(case, 5, feed).logits) < TOLERANCE
