"""One step as tasks: what waits for what, which lane runs it when, and costs in the IR."""

from dataclasses import replace
from itertools import pairwise

import pytest
from step_runs import Asked, asked

from supertile.ir import comm, sched
from supertile.ir.comm_work import copy_bytes
from supertile.targets.cost.route import route_time
from supertile.targets.deployment_timeline import deployment_timeline, step_sizes
from supertile.targets.step import Costs, program_of, timed
from supertile.targets.step_costs import costed_step
from supertile.targets.step_work import Stretch
from supertile.targets.timeline import Task


def task(name: str, duration: float, *waits: int, lane: str = "compute") -> Task:
    return Task(name, "", lane, 0.0, duration, waits)


def starts(*tasks: Task) -> dict[str, float]:
    return {done.name: done.start for done in timed(tasks)}


def test_a_lane_runs_one_task_at_a_time() -> None:
    assert starts(task("a", 2), task("b", 3), task("c", 1)) == {"a": 0, "b": 2, "c": 5}


def test_a_transfer_hides_behind_a_kernel_that_does_not_wait_for_it() -> None:
    found = starts(
        task("router", 1),
        task("dispatch", 5, 0, lane="node"),
        task("experts", 2, 1),
        task("shared", 4, 0),
    )
    assert found == {"router": 0, "dispatch": 1, "shared": 1, "experts": 6}


def test_of_tasks_that_could_start_alike_the_first_in_program_order_does() -> None:
    assert starts(task("a", 1), task("b", 1, 0), task("c", 1, 0)) == {"a": 0, "b": 1, "c": 2}


def test_a_program_is_in_order_of_start_and_waits_follow() -> None:
    done = timed([task("a", 1), task("far", 5, 0, lane="node"), task("b", 1, 1), task("c", 1, 0)])
    program = program_of("p", done)
    assert [one.name for one in program.tasks] == ["a", "far", "c", "b"]
    assert [one.waits for one in program.tasks] == [(), (0,), (0,), (1,)]


# ---- of a module -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def v4() -> Asked:
    return asked("deepseek_v4_deployed")


def layers(held: Asked) -> list[Stretch]:
    return [one for one in held.tiled.work.stretches if one.name.startswith("layers")]


def test_every_layer_runs_once(v4: Asked) -> None:
    order = v4.tiled.work.order
    count = sum(times for name, times in order if name.startswith("layers"))
    assert count == v4.question.config.values["num_hidden_layers"]
    assert order[0] == ("logits: before layers", 1)
    assert order[-1] == ("logits: behind layers", 1)


def test_tasks_wait_for_earlier_ones_only(v4: Asked) -> None:
    for stretch in v4.tiled.work.stretches:
        for number, item in enumerate(stretch.items):
            assert all(wait < number for wait in item.waits)


def test_experts_wait_for_the_transfer_and_the_shared_expert_does_not(v4: Asked) -> None:
    for stretch in layers(v4):
        kinds = [item.work.kind if item.work else item.transfer for item in stretch.items]
        dispatch, experts = kinds.index("dispatch"), kinds.index("experts")
        assert dispatch in stretch.items[experts].waits
        assert experts in stretch.items[kinds.index("combine")].waits
        assert dispatch not in stretch.items[kinds.index("shared_expert")].waits


def test_what_depends_on_weights_alone_is_no_task() -> None:
    held = asked("deepseek_v3")
    assert held.tiled.work.prepared > 0
    kinds = {work.kind for work in held.tiled.work.works()}
    assert "dequantize" not in kinds


def test_equal_launches_cost_the_same_and_are_costed_once(v4: Asked) -> None:
    costs = replace(v4.tiled.costs, costs={}, tasks={})
    costed_step(v4.tiled.work, costs)
    (held,) = costs.costs.values()
    assert 0 < len(held.tasks) < sum(1 for _ in v4.tiled.work.works())


def test_the_arena_of_activations_grows_with_the_batch(v4: Asked) -> None:
    one = v4.question.deployment
    sizes = [
        dict(v4.tiled.memory.use(replace(one, batch=batch)).parts)["activations"]
        for batch in (1, 8, 64)
    ]
    assert all(a < b for a, b in pairwise(sizes))


def test_costs_go_to_the_tasks_of_the_schedule(v4: Asked) -> None:
    module = v4.scheduled()
    timeline = deployment_timeline(v4.tiled, module, v4.question)
    programs = {op.sym_name.data: op for op in module.ops if isinstance(op, sched.Program)}
    for program in timeline.programs:
        if program.name not in programs:
            continue
        costs = [a.cost for a in programs[program.name].actions if a.cost is not None]
        found = sorted((cost.fields()["start"], cost.fields()["duration"]) for cost in costs)
        wanted = [(round(one.start * 1e9), round(one.duration * 1e9)) for one in program.tasks]
        assert found == sorted(wanted)


# ---- routes ------------------------------------------------------------------------------------


def transfers(held: Asked) -> list[comm.Dispatch | comm.Combine]:
    return [op for op in held.module.walk() if isinstance(op, comm.Dispatch | comm.Combine)]


@pytest.mark.parametrize("machine", ["ascend-910c", "h200"])
@pytest.mark.parametrize("case", ["deepseek_v4_deployed", "deepseek_v3"])
def test_rows_are_as_the_route_was_chosen_for(case: str, machine: str) -> None:
    held = asked(case, machine)
    combine = next(op for op in transfers(held) if isinstance(op, comm.Combine))
    dispatch = combine.origin.owner
    assert isinstance(dispatch, comm.Dispatch)
    expected = held.question.config.expert_layer.row
    assert copy_bytes(dispatch, combine) == expected


def test_transfers_take_the_time_of_their_route(v4: Asked) -> None:
    question = v4.question
    sizes = step_sizes(v4.tiled.work, question.deployment, question.config)
    routes = {op.name.removeprefix("comm."): op.route for op in transfers(v4)}
    for item in (one for held in layers(v4) for one in held.items if one.transfer):
        task, route = Costs().task(item, question.machine, sizes), routes[item.transfer]
        assert route is not None and item.route == route.route
        assert task.route == str(item.route)
        time = route_time(question.machine, sizes.exchange(item), item.route)
        assert task.duration == time.duration
        plain = Costs().task(replace(item, route=None), question.machine, sizes)
        assert (plain.route, plain.duration) != (task.route, task.duration)
