"""Programs of a small model in planned bytes: orders, names, sizes, and what wrong orders do."""

import numpy as np
import pytest
from small_models import random_weights, small_module

from supertile.ir import sched
from supertile.ir.errors import UserError
from supertile.ir.text import context, parse_module, print_module
from supertile.passes.build_schedule import BuildSchedule
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.instruments import fill_locations
from supertile.passes.lower_to_tile import LowerToTile
from supertile.runtime.engine import Session
from supertile.runtime.execute import ExecutionError, Executor
from supertile.runtime.plan import plan_module
from supertile.runtime.sched_execute import ScheduledExecutor, random_order
from supertile.runtime.sched_plan import place

COUNTS = [[3, 2], [1, 4], [2, 0]]
IDS = [np.array([1, 2, 3, 4, 5]), np.array([6, 7, 8, 9, 10]), np.array([1, 1])]


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    module = small_module(tmp_path_factory.mktemp("small")).clone()
    for one in (ChooseTiles(), LowerToTile()):
        one.apply(context(), module)
    fill_locations(module)
    return module


def schedule(module, **options):
    result = module.clone()
    BuildSchedule(**{"tokens": 8, "batch": 2, "context": 16, "memory": "runtime"} | options).apply(
        context(), result
    )
    return result


def outputs(executor):
    """All bytes that calls of both entries give and leave."""
    session, draft = (Session(executor, entry, 2, 16) for entry in ("logits", "draft"))
    held = []
    for ids, counts in zip(IDS, COUNTS, strict=True):
        made = session.call({"ids": ids}, counts)
        held += [made["logits"].tobytes(), made["streams"].tobytes()]
        drafted = draft.call({"streams": made["streams"], "ids": ids}, counts)
        held.append(drafted["logits"].tobytes())
    return [*held, *(state.tobytes() for state in (*session.states, *draft.states))]


def executor_of(module, **options):
    return ScheduledExecutor(plan_module(module), random_weights, **options)


def test_all_orders_give_the_same_bytes(tiled):
    expected = outputs(Executor(plan_module(tiled), random_weights))
    programs = schedule(tiled)
    assert outputs(executor_of(programs)) == expected
    for seed in range(5):
        assert outputs(executor_of(programs, order=random_order(seed))) == expected


def test_the_text_of_a_schedule_runs(tiled):
    text = print_module(schedule(tiled))
    again = executor_of(parse_module(text, "again.mlir"))
    assert outputs(again) == outputs(Executor(plan_module(tiled), random_weights))


def test_random_orders_differ_and_obey_the_events(tiled):
    program = max(plan_module(schedule(tiled)).functions.values(), key=lambda p: len(p.actions))
    order = random_order(0)
    seen = set()
    for _ in range(10):
        chosen = [step.op for step in order(program)]
        assert sorted(map(id, chosen)) == sorted(id(step.op) for step in program.actions)
        for number, op in enumerate(chosen):
            assert set(op.awaited) <= set(chosen[:number])
        seen.add(tuple(map(id, chosen)))
    assert len(seen) > 1


def test_named_values_are_seen_and_replaced(tiled):
    def watched(executor):
        names = []

        def watch(name, value, step):
            names.append((name, np.array(value).tobytes()))
            return 2 * value if name == "layers.0.out" else value

        executor.watch = watch
        return names, outputs(executor)

    seen, expected = watched(Executor(plan_module(tiled), random_weights))
    found, held = watched(executor_of(schedule(tiled)))
    assert dict(found) == dict(seen) and len(found) == len(seen)
    assert held == expected


def test_a_call_must_fit_the_buffers(tiled):
    executor = executor_of(schedule(tiled, tokens=4))
    with pytest.raises(UserError, match="larger than what the program was scheduled for"):
        outputs(executor)


def test_bytes_of_a_device_do_not_run(tiled):
    with pytest.raises(UserError, match="memory=runtime"):
        outputs(executor_of(schedule(tiled, memory="device")))


def test_any_schedule_runs_in_memory_of_its_own(tiled):
    expected = outputs(Executor(plan_module(tiled), random_weights))
    small = executor_of(schedule(tiled, tokens=1, memory="device"), planned=False)
    assert outputs(small) == expected
    assert outputs(executor_of(tiled, planned=False)) == expected, "functions run as before"


# ---- what edges are for ------------------------------------------------------------------------


def without(module, number):
    """The module without one edge, and an order in which the task behind it runs too early."""
    weakened = module.clone()
    edges = [
        (op, event) for op in weakened.walk() if isinstance(op, sched.Action) for event in op.waits
    ]
    op, event = edges[number]
    op.wait_for([other for other in op.waits if other is not event])

    def order(program):
        late = {id(event.owner)}
        for step in program.actions:  # all that needs the task in front of the edge can wait
            if any(id(other) in late for other in step.op.awaited):
                late.add(id(step.op))
        if id(op) in late:
            return program.actions
        rest = [step for step in program.actions if id(step.op) in late]
        hurried = [step for step in program.actions if id(step.op) not in late]
        return hurried + rest

    return weakened, order


def test_orders_without_an_edge_change_bytes(tiled):
    programs = schedule(tiled)
    expected = outputs(executor_of(programs))
    count = sum(len(op.waits) for op in programs.walk() if isinstance(op, sched.Action))
    changed = 0
    for number in range(count):
        weakened, order = without(programs, number)
        try:
            changed += outputs(executor_of(weakened, order=order)) != expected
        except (ExecutionError, IndexError, UserError):
            changed += 1  # undefined integers are row numbers that do not exist
    print(f"{changed} of {count} deleted edges change what is computed")
    assert changed >= 0.8 * count > 10


# ---- values in bytes ---------------------------------------------------------------------------


def test_a_value_fills_the_front_of_its_bytes():
    from supertile.ir.types import DYNAMIC, bf16, i32, tensor

    memory = np.full(64, 0xFF, np.uint8)
    value = place(memory, tensor([DYNAMIC, 4], bf16), [2, 4])
    assert np.isnan(value).all() and value.dtype == np.float32
    value[...] = 0
    assert not memory[:32].any() and (memory[32:] == 0xFF).all()
    assert (place(memory[32:], tensor([2], i32), [2]) == -1).all()
    with pytest.raises(UserError):
        place(memory, tensor([DYNAMIC, 4], bf16), [5, 4])
