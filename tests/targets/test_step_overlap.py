"""A step in waves and micro-batches: sums of its tasks, their order, and what is hidden."""

from dataclasses import replace
from itertools import pairwise

import pytest
from step_runs import Asked, asked

from supertile.passes.build_schedule import BuildSchedule
from supertile.passes.driver import run_passes
from supertile.passes.overlap_comm import OverlapComm
from supertile.targets.cost.totals import exposed_seconds, hidden_seconds
from supertile.targets.deployment_timeline import deployment_timeline
from supertile.targets.overlap import wave_time
from supertile.targets.step import WHOLE, Wave
from supertile.targets.step_overlap import (
    NO_OVERLAP,
    CostedProgram,
    CostedStep,
    Overlap,
    costed_step,
    parts_of,
    waved,
)
from supertile.targets.step_work import Item, StepWork, Stretch
from supertile.targets.timeline import Program, Task

WAYS = [Overlap(1, 2), Overlap(2, 1), Overlap(2, 2)]


@pytest.fixture(scope="module")
def v4() -> Asked:
    """Two experts and eight sequences on each of four ranks."""
    return asked("deepseek_v4_deployed")


def step(held: Asked, overlap: Overlap = NO_OVERLAP) -> CostedStep:
    return costed_step(held.tiled.work, overlap, held.tiled.costs)


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


# ---- parts of a layer --------------------------------------------------------------------------


def made(*items: tuple[str, tuple[int, ...]]) -> Stretch:
    held = [
        Item(n, waits, "", transfer=name if name in ("dispatch", "combine") else "")
        for n, (name, waits) in enumerate(items)
    ]
    return Stretch("layer", "layer", held)


def test_a_layer_has_a_head_a_middle_and_a_tail() -> None:
    layer = made(
        ("router", ()), ("dispatch", (0,)), ("experts", (1,)), ("counts", (1,)),
        ("combine", (2,)), ("shared", (0,)), ("join", (4, 5)),
    )  # fmt: skip
    parts = parts_of(layer)
    assert (parts.head, parts.middle, parts.tail) == ([0, 1, 5], [2, 3], [4, 6])
    assert waved(layer) == {1, 2, 4}, "what combine does not need has no waves"


def test_without_transfers_all_is_head() -> None:
    parts = parts_of(made(("a", ()), ("b", (0,))))
    assert (parts.head, parts.middle, parts.tail) == ([0, 1], [], [])


# ---- sums --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", WAYS)
def test_parts_do_the_work_of_the_whole(v4: Asked, overlap: Overlap) -> None:
    """Of two halves the bytes of the wire are those of two slowest ranks, which is more."""
    found, plain = step(v4, overlap), step(v4)
    assert total(found, "flops") == pytest.approx(total(plain, "flops"), rel=0.2)
    if overlap.microbatches == 1:
        assert total(found, "flops") == pytest.approx(total(plain, "flops"))
        assert total(found, "wire_bytes") == pytest.approx(total(plain, "wire_bytes"))
        assert total(found, "messages") == pytest.approx(total(plain, "messages"))
        moved = [sum(task.bytes.get("hbm", 0.0) for task in tasks(one)) for one in (found, plain)]
        assert moved[0] == pytest.approx(moved[1])


@pytest.mark.parametrize("overlap", WAYS)
def test_waves_launch_nothing_and_halves_twice(v4: Asked, overlap: Overlap) -> None:
    def launches(found: CostedStep, layers: bool) -> int:
        return sum(
            count * sum(task.lane == "compute" and not task.continues for task in program.tasks)
            for name, count in found.order
            if (program := found.programs[name]).stretch.is_layer == layers
        )

    found, plain = step(v4, overlap), step(v4)
    assert launches(found, True) == overlap.microbatches * launches(plain, True)
    assert launches(found, False) == launches(plain, False)


@pytest.mark.parametrize("overlap", [NO_OVERLAP, *WAYS])
def test_a_lane_runs_one_task_and_waits_are_kept(v4: Asked, overlap: Overlap) -> None:
    for program in step(v4, overlap).programs.values():
        for lane in {task.lane for task in program.tasks}:
            own = sorted((t.start, t.end) for t in program.tasks if t.lane == lane)
            assert all(a[1] <= b[0] + 1e-12 for a, b in pairwise(own))
        for task in program.tasks:
            assert all(program.tasks[n].end <= task.start + 1e-12 for n in task.waits)


# ---- waves -------------------------------------------------------------------------------------


def layer(found: CostedStep) -> CostedProgram:
    return next(one for one in found.programs.values() if one.stretch.is_layer)


def of_kind(program: CostedProgram, kind: str) -> list[Task]:
    return [task for task in program.tasks if kind in (task.name, task.kind)]


def test_waves_follow_the_recurrence(v4: Asked) -> None:
    """Beside a shared expert that is done with first, if it is there."""
    program = layer(step(v4, Overlap(1, 2)))
    parts = [of_kind(program, kind) for kind in ("dispatch", "experts", "combine")]
    assert [len(part) for part in parts] == [2, 2, 2]
    seconds = [[task.duration for task in part] for part in parts]
    found = parts[2][-1].end - parts[0][0].start
    beside = sum(task.duration for task in of_kind(program, "shared_expert"))
    alone = float(wave_time(*seconds, duplex=False))
    assert alone * (1 - 1e-9) <= found <= alone + beside


def test_a_later_wave_has_a_flag_in_place_of_a_start(v4: Asked) -> None:
    """62 us of start-up and 122 GB/s in the fit of dispatch on the 910C; 1.2 us of latency."""
    costs = v4.tiled.costs
    items = next(one.items for one in v4.tiled.work.stretches if one.is_layer)
    sent = replace(next(item for item in items if item.transfer == "dispatch"), route=None)
    whole, first, later = (costs.task(sent, None, one) for one in (WHOLE, *waves_of(2)))
    stream = whole.duration - 62e-6
    assert first.duration == pytest.approx(62e-6 + stream / 2)
    latency = v4.question.machine.need(f"domains.{first.lane}.latency", "this test")
    assert later.duration == pytest.approx(stream / 2 + latency)
    assert not first.continues and later.continues


def test_a_token_goes_once_to_a_rank_in_each_wave(v4: Asked) -> None:
    """So that waves send more rows than one deduplicated transfer, and fewer than all choices."""
    items = next(one.items for one in v4.tiled.work.stretches if one.is_layer)
    sent = next(item for item in items if item.transfer == "dispatch")
    whole, *waves = (one.of(v4.tiled.costs.whole).exchange(sent) for one in (WHOLE, *waves_of(2)))
    assert sum(wave.copies for wave in waves) == pytest.approx(whole.copies)
    assert whole.distinct() < sum(wave.distinct() for wave in waves) <= whole.copies
    assert all(wave.tokens == pytest.approx(whole.tokens) for wave in waves)


def waves_of(slots: int) -> list[Wave]:
    """One slot each."""
    return [Wave(number, 1, slots) for number in range(slots)]


def test_a_rank_with_one_expert_has_one_wave() -> None:
    held = asked("deepseek_v4_deployed", deployment="phase=decode ep=8 batch=8 context=64")
    assert step(held, Overlap(1, 4)).duration == step(held).duration


# ---- two micro-batches -------------------------------------------------------------------------


def test_the_second_half_is_a_combine_behind(v4: Asked) -> None:
    found = step(v4, Overlap(2, 1))
    names = [name for name, _ in found.order]
    layers = [name for name, one in found.programs.items() if one.stretch.is_layer]
    assert names[1].endswith(", first") and names[-2].endswith(", rest")
    assert sum(name.endswith((", first", ", rest")) for name in layers) == 2
    for name in layers:
        halves = [task.part for task in of_kind(found.programs[name], "combine")]
        expected = {"first": ["half 1"], "rest": ["half 2"]}
        assert halves == expected.get(name.rpartition(", ")[2], ["half 2", "half 1"])


def test_transfers_hide_under_the_other_half() -> None:
    """A layer whose kernels and transfers all take a second: half of each in a half."""
    held = made(
        ("attention", ()), ("dispatch", (0,)), ("experts", (1,)), ("combine", (2,)), ("join", (3,))
    )

    class Seconds:
        halves = (0, 1)

        def task(self, item: Item, half: int | None, wave: object) -> Task:
            lane = "node" if item.transfer else "compute"
            return Task(str(item.number), "", lane, 0.0, 1.0 if half is None else 0.5, ())

    work = StepWork((held,), (("layer", 10),), 0)
    plain, split = (costed_step(work, one, Seconds()) for one in (NO_OVERLAP, Overlap(2, 1)))  # type: ignore[arg-type]
    assert plain.duration == 50
    assert split.programs["layer"].duration == 3, "all transfers are hidden"
    exposed = exposed_seconds(Program("layer", split.programs["layer"].tasks))
    assert exposed == 0
    assert split.order == [("layer, first", 1), ("layer", 9), ("layer, rest", 1)]
    assert split.duration == pytest.approx(2.5 + 9 * 3 + 1)


def test_one_sequence_is_not_split(v4: Asked) -> None:
    held = replace(v4.tiled.costs, halves=())
    found = costed_step(v4.tiled.work, Overlap(2, 1), held)
    assert found.duration == step(v4).duration


# ---- in the timeline ---------------------------------------------------------------------------


def test_the_module_says_how_and_the_summary_what_is_hidden(v4: Asked) -> None:
    module = v4.module.clone()
    passes = [OverlapComm(microbatches=2, waves=2), BuildSchedule(tokens=8, batch=8, context=64)]
    run_passes(module, passes)
    timeline = deployment_timeline(v4.tiled, module, v4.question, [NO_OVERLAP, Overlap(1, 2)])
    assert timeline.overlap.startswith("2 batches of 2 waves ")
    assert "(none " in timeline.overlap and ", 2 waves " in timeline.overlap
    summary = timeline.summary
    programs = {one.name: one for one in timeline.programs}
    for key, part in (("exposed", exposed_seconds), ("hidden", hidden_seconds)):
        wanted = sum(count * part(programs[name]) for name, count in timeline.order)
        assert summary[f"{key}_communication_ms"] == pytest.approx(1e3 * wanted)
        assert wanted > 0
