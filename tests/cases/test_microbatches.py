"""Whole models in two micro-batches: the numbers of one, on every executor, however it is fed."""

from functools import cache

import numpy as np
import pytest
from case_runs import FEEDS, TOLERANCE, Rows, apart, rows_of, shared_model
from scheduled_runs import model_of, scheduled, tiled
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import sched
from supertile.ir.text import context
from supertile.ir.verify import verify_module
from supertile.passes.overlap_comm import OverlapComm
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generated, Generator, Request
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
from supertile.runtime.sched_execute import ScheduledExecutor, ScheduledRanks, random_order
from supertile.runtime.trace import Recorder

CASES = ("deepseek_v4", "deepseek_v3")


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


def generated(
    case: str,
    module: ModuleOp,
    count: int,
    request: Request,
    recorder: Recorder | None = None,
) -> Generated:
    model = model_of(case, module)
    executor = Executor(model.plan, model.weights.get, recorder.watch if recorder else None)
    fed = rows(case, count)
    size = len(fed), max(map(len, fed)) + request.decode

    def session(entry: str) -> Session:
        if model.plan.ranks is None:
            return Session(executor, entry, *size)
        return LockstepSession(LockstepExecutor(executor, model.plan.ranks), entry, *size)

    draft = session("draft") if "draft" in model.plan.entries else None
    return Generator(session("logits"), draft, recorder).run(fed, request)


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


# ---- who looks on ------------------------------------------------------------------------------


def test_traces_are_those_of_one_batch() -> None:
    """Rows of both halves come one after the other, as they stand in the whole batch."""
    case, count = "deepseek_v4", 3
    recorders = Recorder(("*",)), Recorder(("*",))
    generated(case, split(case), count, Request(), recorders[0])
    shared_model(case).run(rows(case, count), Request(), recorders[1])
    found, wanted = (recorder.arrays() for recorder in recorders)
    assert list(found) == list(wanted)
    by_token = [name for name in wanted if wanted[name].shape[:2] == (count, 12)]
    close = [name for name in by_token if np.allclose(found[name], wanted[name], 1e-4, 1e-4, True)]
    assert len(by_token) > 50
    assert set(by_token) - set(close) == set()


# ---- programs ----------------------------------------------------------------------------------

SIZES = {"tokens": 24, "batch": 3, "context": 12, "memory": "runtime"}
WAYS = OverlapComm(microbatches=2, waves=3)


@cache
def tiled_split(ranks: int) -> ModuleOp:
    module = tiled("deepseek_v4", ranks=ranks).clone()
    WAYS.apply(context(), module)
    return module


def numbers(module: ModuleOp, kind: type, name: str) -> set[int]:
    held = [getattr(op, name) for op in module.walk() if isinstance(op, kind)]
    return {one.value.data for one in held if one is not None}


def few_rows() -> Rows:
    return [row[:6] for row in rows("deepseek_v4", 3)]


def test_programs_give_the_bytes_of_the_tiled_module() -> None:
    """On one rank, in any order of tasks, each half in planned bytes of its own."""
    before, model = (model_of("deepseek_v4", m) for m in (tiled_split(1), _programs(1)))
    request = Request(chunk=4)
    plain = Executor(before.plan, before.weights.get)
    programmed = ScheduledExecutor(model.plan, model.weights.get, order=random_order(0))
    found, wanted = (
        Generator(Session(one, "logits", 3, 12)).run(few_rows(), request).logits
        for one in (programmed, plain)
    )
    assert not np.isnan(wanted[:, 0]).any()
    assert found.tobytes() == wanted.tobytes()


def test_programs_of_ranks_in_lock_step() -> None:
    """Three sequences on two ranks: the second one has nothing to split."""
    before, model = (model_of("deepseek_v4", m) for m in (tiled_split(2), _programs(2)))
    assert numbers(model.module, sched.Layers, "microbatches") == {2}
    assert numbers(model.module, sched.Transfer, "waves") == {3}
    fed, request = few_rows(), Request(chunk=4)
    plain = LockstepExecutor(Executor(before.plan, before.weights.get), 2)
    order = random_order(1)
    programmed = ScheduledRanks(ScheduledExecutor(model.plan, model.weights.get, order=order), 2)
    found, wanted = (
        Generator(LockstepSession(one, "logits", 3, 12)).run(fed, request).logits
        for one in (programmed, plain)
    )
    assert found.tobytes() == wanted.tobytes()
    assert apart(found, shared_model("deepseek_v4").run(fed, request).logits) < TOLERANCE


def _programs(ranks: int) -> ModuleOp:
    return scheduled(tiled_split(ranks), **SIZES)
