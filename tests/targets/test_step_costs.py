"""The costs of scheduled steps: sums of tasks, their order, and what waves and halves hide."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from step_runs import Asked, asked

from supertile.ir import sched
from supertile.ir.sched_costs import cost_problems
from supertile.ir.verify import verify_module
from supertile.targets.cost.totals import exposed_seconds, hidden_seconds
from supertile.targets.deployment_timeline import deployment_timeline
from supertile.targets.machine import machine_names
from supertile.targets.overlap import wave_time
from supertile.targets.step import WHOLE, Wave
from supertile.targets.step_costs import (
    NO_OVERLAP,
    CostedProgram,
    CostedStep,
    Overlap,
    annotate_cost,
    costed_step,
    overlap_of,
)
from supertile.targets.step_work import Item
from supertile.targets.timeline import Program, Task

WAYS = [Overlap(1, 2), Overlap(2, 1), Overlap(2, 2)]


@pytest.fixture(scope="module")
def v4() -> Asked:
    """Two experts and eight sequences on each of four ranks."""
    return asked("deepseek_v4_deployed")


@cache
def step(overlap: Overlap = NO_OVERLAP) -> CostedStep:
    return asked("deepseek_v4_deployed").step(overlap)


def tasks(found: CostedStep, lane: str | None = None) -> list[Task]:
    """All tasks of a step, as often as they run."""
    return [
        task
        for name, count in found.order
        for task in found.programs[name].tasks * count
        if lane is None or task.lane == lane
    ]


def total(found: CostedStep, what: str) -> float:
    return sum(getattr(task, what) for task in tasks(found))


def is_layer(name: str) -> bool:
    return name.startswith("layers")


# ---- sums --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", WAYS)
def test_parts_do_the_work_of_the_whole(overlap: Overlap) -> None:
    """Of two halves the bytes of the wire are those of two slowest ranks, which is more."""
    found, plain = step(overlap), step()
    assert total(found, "flops") == pytest.approx(total(plain, "flops"), rel=0.2)
    if overlap.microbatches == 1:
        assert total(found, "flops") == pytest.approx(total(plain, "flops"))
        assert total(found, "wire_bytes") == pytest.approx(total(plain, "wire_bytes"))
        assert total(found, "messages") == pytest.approx(total(plain, "messages"))
        moved = [sum(task.bytes.get("hbm", 0.0) for task in tasks(one)) for one in (found, plain)]
        assert moved[0] == pytest.approx(moved[1])


@pytest.mark.parametrize("overlap", WAYS)
def test_waves_launch_nothing_and_halves_twice(overlap: Overlap) -> None:
    def launches(found: CostedStep, layers: bool) -> int:
        return sum(
            count * sum(task.lane == "compute" and not task.continues for task in program.tasks)
            for name, count in found.order
            if (program := found.programs[name]) and is_layer(name) == layers
        )

    found, plain = step(overlap), step()
    assert launches(found, True) == overlap.microbatches * launches(plain, True)
    assert launches(found, False) == launches(plain, False)


@pytest.mark.parametrize("overlap", [NO_OVERLAP, *WAYS])
def test_a_lane_runs_one_task_and_waits_are_kept(overlap: Overlap) -> None:
    for program in step(overlap).programs.values():
        for lane in {task.lane for task in program.tasks}:
            own = sorted((t.start, t.end) for t in program.tasks if t.lane == lane)
            assert all(a[1] <= b[0] + 1e-12 for a, b in pairwise(own))
        for task in program.tasks:
            assert all(program.tasks[n].end <= task.start + 1e-12 for n in task.waits)


# ---- waves -------------------------------------------------------------------------------------


def layer(found: CostedStep) -> CostedProgram:
    return next(one for name, one in found.programs.items() if is_layer(name))


def of_kind(program: CostedProgram, kind: str) -> list[Task]:
    return [task for task in program.tasks if kind in (task.name, task.kind)]


def test_waves_follow_the_recurrence() -> None:
    """Beside a shared expert that is done with first, if it is there."""
    program = layer(step(Overlap(1, 2)))
    parts = [of_kind(program, kind) for kind in ("dispatch", "experts", "combine")]
    assert [len(part) for part in parts] == [2, 2, 2]
    seconds = [[task.duration for task in part] for part in parts]
    found = parts[2][-1].end - parts[0][0].start
    beside = sum(task.duration for task in of_kind(program, "shared_expert"))
    alone = float(wave_time(*seconds, duplex=False))
    assert alone * (1 - 1e-9) <= found <= alone + beside


def dispatch(held: Asked) -> Item:
    """One without overlap."""
    stretches = held.tiled.work.stretches
    items = next(one.items for one in stretches if is_layer(one.name))
    return next(item for item in items if item.transfer == "dispatch")


def test_a_later_wave_has_a_flag_in_place_of_a_start(v4: Asked) -> None:
    """62 us of start-up and 122 GB/s in the fit of dispatch on the 910C; 1.2 us of latency."""
    costs, sent = v4.tiled.costs, replace(dispatch(v4), route=None)
    whole, first, later = (costs.task(sent, None, one) for one in (WHOLE, *waves_of(2)))
    stream = whole.duration - 62e-6
    assert first.duration == pytest.approx(62e-6 + stream / 2)
    latency = v4.question.machine.need(f"domains.{first.lane}.latency", "this test")
    assert later.duration == pytest.approx(stream / 2 + latency)
    assert not first.continues and later.continues


def test_a_token_goes_once_to_a_rank_in_each_wave(v4: Asked) -> None:
    """So that waves send more rows than one deduplicated transfer, and fewer than all choices."""
    sent, sizes = dispatch(v4), v4.tiled.costs.whole
    whole, *waves = (one.of(sizes).exchange(sent) for one in (WHOLE, *waves_of(2)))
    assert sum(wave.copies for wave in waves) == pytest.approx(whole.copies)
    assert whole.distinct() < sum(wave.distinct() for wave in waves) <= whole.copies
    assert all(wave.tokens == pytest.approx(whole.tokens) for wave in waves)


def waves_of(slots: int) -> list[Wave]:
    """One slot each."""
    return [Wave(number, 1, slots) for number in range(slots)]


def test_a_rank_with_one_expert_has_one_wave() -> None:
    held = asked("deepseek_v4_deployed", deployment="phase=decode ep=8 batch=8 context=64")
    assert held.step(Overlap(1, 4)).duration == held.step().duration


# ---- two micro-batches -------------------------------------------------------------------------


def test_the_second_half_is_a_combine_behind() -> None:
    found = step(Overlap(2, 1))
    names = [name for name, _ in found.order if is_layer(name)]
    assert names[0].endswith("_first") and names[-1].endswith("_rest")
    for name in names:
        halves = [task.part for task in of_kind(found.programs[name], "combine")]
        expected = {"first": ["half 1"], "rest": ["half 2"]}
        assert halves == expected.get(name.rpartition("_")[2], ["half 2", "half 1"])


def test_transfers_hide_under_the_other_half() -> None:
    """Of the time on which links are busy half is hidden, where next to nothing was."""

    def hidden(found: CostedStep) -> float:
        both = [0.0, 0.0]
        for name, count in found.order:
            program = Program(name, found.programs[name].tasks)
            both[0] += count * hidden_seconds(program)
            both[1] += count * exposed_seconds(program)
        return both[0] / sum(both)

    held = asked("deepseek_v4_deployed", deployment="phase=decode ep=4 batch=64 context=64")
    assert hidden(held.step()) < 0.1
    assert hidden(held.step(Overlap(2, 1))) > 0.45


# ---- in the module -----------------------------------------------------------------------------


def test_the_module_says_how_and_the_summary_what_is_hidden(v4: Asked) -> None:
    ways = {way: v4.step(way).duration for way in (NO_OVERLAP, Overlap(1, 2))}
    timeline = deployment_timeline(v4.tiled, v4.scheduled(Overlap(2, 2)), v4.question, ways)
    assert timeline.overlap.startswith("2 batches of 2 waves ")
    assert "(none " in timeline.overlap and ", 2 waves " in timeline.overlap
    summary = timeline.summary
    programs = {one.name: one for one in timeline.programs}
    for key, part in (("exposed", exposed_seconds), ("hidden", hidden_seconds)):
        wanted = sum(count * part(programs[name]) for name, count in timeline.order)
        assert summary[f"{key}_communication_ms"] == pytest.approx(1e3 * wanted)
        assert wanted > 0


@pytest.mark.parametrize("overlap", [NO_OVERLAP, *WAYS])
def test_a_way_can_be_told_from_the_module(v4: Asked, overlap: Overlap) -> None:
    assert overlap_of(v4.scheduled(overlap)) == overlap


@pytest.mark.parametrize("overlap", [NO_OVERLAP, *WAYS])
def test_every_action_gets_its_cost(v4: Asked, overlap: Overlap) -> None:
    """Programs add up to the step: the layers of an entry take what their programs take."""
    found = v4.step(overlap)
    annotate_cost(found, "hbm")
    programs = {one.stretch.program for one in found.programs.values()}
    for program in programs:
        assert all(op.cost is not None for op in program.actions)
        assert [*cost_problems(program)] == []
    (entry,) = [one for one in programs if one.sym_name.data == "logits"]
    end = max(op.cost.end for op in entry.actions if op.cost is not None)
    assert end * 1e-9 == pytest.approx(found.duration, rel=1e-12)


def faults(overlap: Overlap, delay: int, kind: type[sched.Action]) -> list[str]:
    """Problems where every action of a kind takes so many nanoseconds more than others know."""
    found = asked("deepseek_v4_deployed").step(overlap)
    annotate_cost(found, "hbm")
    program = layer(found).stretch.program
    for op in program.actions:
        if isinstance(op, kind) and op.cost is not None and op.cost.end > op.cost.start:
            fields = op.cost.fields()
            fields["duration"] += delay
            op.cost = sched.CostAttr.of(**fields)
    messages = [message for _, message in cost_problems(program)]
    annotate_cost(found, "hbm")
    return messages


@pytest.mark.parametrize("overlap", [NO_OVERLAP, *WAYS])
def test_a_task_that_starts_too_early_is_noticed(overlap: Overlap) -> None:
    assert faults(overlap, 0, sched.Transfer) == []
    late = faults(overlap, 1_000_000, sched.Transfer)
    assert any("but waits for dispatch" in message for message in late)
    assert any("runs until" in message for message in faults(overlap, 1, sched.Task))


MACHINES = [name for name in machine_names() if name != "numpy"]
PHASES = {
    "decode": "phase=decode ep=4 batch=8 context=64",
    "prefill": "phase=prefill ep=4 batch=2 context=64",
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("machine", MACHINES)
def test_no_task_starts_early_on_any_machine(machine: str, phase: str) -> None:
    """However communication is hidden: `auto` is one of these ways."""
    held = asked("deepseek_v3", machine, PHASES[phase])
    for overlap in (NO_OVERLAP, *WAYS):
        module = held.schedules.scheduled(overlap)
        annotate_cost(
            costed_step(held.schedules.work(overlap), held.tiled.costs),
            held.question.machine.main_memory.name,
        )
        verify_module(module, "scheduled")
        costed = [op for op in module.walk() if isinstance(op, sched.Action) and op.cost]
        assert len(costed) > 30
