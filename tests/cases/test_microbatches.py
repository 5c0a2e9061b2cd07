"""Whole models in waves and in two micro-batches: NumPy runs the programs in any order of tasks."""

import numpy as np
import pytest
from case_runs import TOLERANCE, apart, shared_model
from numpy.typing import NDArray
from overlapped_runs import BATCHES, BOTH, CHUNKS, WAVES, overlapped, rows, run, wanted
from scheduled_runs import model_of, programs, tiled
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import sched
from supertile.passes.overlap_comm import OverlapComm
from supertile.runtime.execute import Executor
from supertile.runtime.sched_execute import ScheduledExecutor, random_order


@pytest.mark.parametrize("case, ranks, overlap", [
    ("deepseek_v4", 2, WAVES),
    ("deepseek_v4", 2, BATCHES),
    ("deepseek_v4", 1, BOTH),
    ("deepseek_v3", 2, BOTH),
])  # fmt: skip
def test_any_order_gives_the_numbers_of_the_tiled_module(
    case: str, ranks: int, overlap: OverlapComm
) -> None:
    """In planned bytes, two of three sequences on the first of two ranks. With waves alone the
    bits are the same; halves may add up the rows of an expert in another order."""
    model = model_of(case, overlapped(case, ranks, overlap))
    expected = wanted(case, ranks)
    assert not np.isnan(expected[:, 0]).any()
    for seed in range(2):
        executor = ScheduledExecutor(model.plan, model.weights.get, order=random_order(seed))
        found = run(case, executor, ranks)
        assert apart(found, expected) < 1e-5
        if overlap.microbatches == 1:
            assert found.tobytes() == expected.tobytes()
    assert apart(found, shared_model(case).run(rows(case), CHUNKS).logits) < TOLERANCE


@pytest.mark.parametrize("overlap", [BATCHES, BOTH])
def test_in_exact_arithmetic_all_bits_are_those_of_the_tiled_module(overlap: OverlapComm) -> None:
    """Of one rank, while the programs run on two."""
    before, model = (
        model_of("deepseek_v3", module, row_invariant=True)
        for module in (tiled("deepseek_v3"), overlapped("deepseek_v3", 2, overlap))
    )
    expected = run("deepseek_v3", Executor(before.plan, before.weights.get), 1)
    executor = ScheduledExecutor(model.plan, model.weights.get, order=random_order(2))
    assert run("deepseek_v3", executor, 2).tobytes() == expected.tobytes()


def test_one_sequence_leaves_the_second_half_empty() -> None:
    model = model_of("deepseek_v4", overlapped("deepseek_v4", 1, BATCHES))
    found = run("deepseek_v4", ScheduledExecutor(model.plan, model.weights.get), 1, count=1)
    assert found.tobytes() == wanted("deepseek_v4", 1, 1).tobytes()


def test_a_dense_model_runs_in_halves_that_leave_nothing() -> None:
    module = overlapped("llama", 1, BATCHES)
    names = [*programs(module)]
    assert not any(name.endswith("_rest") for name in names)
    model = model_of("llama", module)
    order = random_order(0)
    found = run("llama", ScheduledExecutor(model.plan, model.weights.get, order=order), 1)
    assert apart(found, wanted("llama", 1)) < 1e-5


# ---- programs ----------------------------------------------------------------------------------


def actions(module: ModuleOp, name: str) -> list[sched.Action]:
    return next(one.actions for key, one in programs(module).items() if key.endswith(name))


def kinds(found: list[sched.Action]) -> list[str]:
    return [sched.action_name(op) for op in found if isinstance(op, sched.Transfer)]


def test_waves_are_tasks() -> None:
    (layer, *_) = [
        one for name, one in programs(overlapped("deepseek_v4", 2, WAVES)).items()
        if name.startswith("layers")
    ]  # fmt: skip
    names = [f"{kind}, wave {n}" for kind in ("dispatch", "combine") for n in (1, 2, 3)]
    assert kinds(layer.actions) == names
    experts = [op for op in layer.actions if isinstance(op, sched.Task) and op.wave is not None]
    assert [[*op.wave.slots] for op in experts if op.wave] == [[0, 1], [2], [3]]
    sent = [op for op in layer.actions if isinstance(op, sched.Transfer)][:3]
    for number, op in enumerate(experts):
        (before,) = [one for one in op.awaited if isinstance(one, sched.Transfer)]
        assert before is sent[number]


def test_the_second_half_is_a_combine_behind() -> None:
    module = overlapped("deepseek_v4", 2, BATCHES)
    sends = ["dispatch, half 1", "dispatch, half 2"]
    assert kinds(actions(module, "_first")) == [*sends, "combine, half 1"]
    assert kinds(actions(module, "_rest")) == ["combine, half 2"]
    steady = kinds(actions(module, "_after_csa_hash_router"))
    assert steady == ["dispatch, half 1", "combine, half 2", "dispatch, half 2", "combine, half 1"]


# ---- who looks on ------------------------------------------------------------------------------


Seen = dict[str, list[NDArray[np.float32]]]


def seen_by(case: str, module: ModuleOp, kind: type[Executor], ranks: int) -> Seen:
    """Every named value of floats in each call."""
    found: Seen = {}

    def watch(name: str, value: object, step: object) -> object:
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            found.setdefault(name, []).append(value.copy())
        return value

    model = model_of(case, module)
    run(case, kind(model.plan, model.weights.get, watch), ranks)
    return found


def test_onlookers_see_the_values_of_one_batch() -> None:
    """Rows of both halves come one after the other, as they stand in the whole batch."""
    expected = seen_by("deepseek_v4", tiled("deepseek_v4", ranks=2), Executor, 2)
    found = seen_by("deepseek_v4", overlapped("deepseek_v4", 2, BOTH), ScheduledExecutor, 2)
    assert {*found} == {*expected}
    compared = 0
    for name, values in expected.items():
        for whole, value in zip(values, found[name], strict=True):
            # What experts get is sorted by expert within each half.
            if "experts" not in name and value.shape == whole.shape:
                compared += 1
                np.testing.assert_allclose(value, whole, 1e-4, 1e-5, err_msg=name)
    assert compared > 100
