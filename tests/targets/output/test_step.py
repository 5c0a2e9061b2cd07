"""Every moment of a step belongs to one part: programs by hand, of whole microseconds."""

import pytest
from example import example, small, task
from hypothesis import given, strategies as st

from supertile.targets.output.ops import intensity, kinds_of, operations_of
from supertile.targets.output.step import (
    EXPOSED,
    PARTS,
    exposed_intervals,
    parts_of_names,
    split_program,
    split_step,
    step_duration,
)
from supertile.targets.timeline import Program

NAMES = {"hbm": "memory", "cube": "compute", "launch": "launch"}
US = 1e-6


def split(*tasks) -> dict[str, float]:
    """The parts that are not zero, in whole microseconds."""
    seconds = split_program(Program("p", tasks), NAMES)
    return {part: round(time / US, 3) for part, time in seconds.items() if time}


def test_a_kernel_counts_by_its_bound():
    assert split(task("a", "compute", 0, 5, bound="hbm")) == {"memory": 5}
    assert split(task("a", "compute", 0, 5, bound="cube")) == {"compute": 5}
    assert split(task("a", "compute", 0, 5, bound="launch")) == {"launch": 5}
    assert split(task("a", "compute", 0, 5, bound="no such")) == {"other": 5}


def test_a_transfer_counts_where_no_kernel_runs():
    kernel = task("k", "compute", 2, 4, bound="cube")
    assert split(task("t", "link", 0, 10), kernel) == {"compute": 4, EXPOSED: 6}
    assert split(task("t", "link", 3, 2), kernel) == {"compute": 4, "idle": 2}


def test_what_runs_at_once_shares_the_moment():
    both = task("a", "compute", 0, 4, bound="cube"), task("b", "compute", 0, 2, bound="hbm")
    assert split(*both) == {"compute": 3, "memory": 1}


def test_exposed_intervals_are_joined():
    tasks = (
        task("a", "near", 0, 4),
        task("b", "far", 2, 6),
        task("k", "compute", 5, 1, bound="cube"),
    )
    spans = exposed_intervals(Program("p", tasks))
    assert [(round(a / US), round(b / US)) for a, b in spans] == [(0, 5), (6, 8)]


tasks = st.builds(
    task,
    st.just("t"),
    st.sampled_from(["compute", "near", "far"]),
    st.integers(0, 50),
    st.integers(0, 20),
    bound=st.sampled_from(["cube", "hbm", "launch", "?"]),
)


@given(st.lists(tasks, max_size=12))
def test_the_parts_are_the_whole(some):
    program = Program("p", tuple(some))
    parts = split_program(program, NAMES)
    assert list(parts) == list(PARTS)
    assert sum(parts.values()) == pytest.approx(program.duration)
    exposed = sum(end - start for start, end in exposed_intervals(program))
    assert exposed == pytest.approx(parts[EXPOSED])


def test_the_step_repeats_its_programs():
    timeline = small()
    assert step_duration(timeline) == pytest.approx(60 * US)
    whole = {part: round(time / US) for part, time in split_step(timeline).items() if time > 1e-12}
    assert whole == {"compute": 12, "memory": 30, "launch": 6, EXPOSED: 12}


def test_figures_tell_what_a_name_is():
    parts = parts_of_names(example())
    assert (parts["cube"], parts["vector"]) == ("compute", "compute")
    assert (parts["hbm"], parts["l2"], parts["supernode"]) == ("memory", "memory", EXPOSED)


def test_equal_tasks_are_one_operation():
    operations = operations_of(example())
    attend = operations[0]
    assert (attend.task.name, attend.programs, attend.count) == ("attend", ("csa_layer",), 58)
    assert attend.seconds == pytest.approx(58 * attend.task.duration)
    assert [one.own for one in operations] == sorted((one.own for one in operations), reverse=True)
    assert sum(one.own for one in operations) == pytest.approx(step_duration(example()))


def test_what_kernels_hide_is_counted_apart():
    kinds = kinds_of(operations_of(small()))
    (kind,) = kinds.values()
    assert kind.own[EXPOSED] == pytest.approx(3 * 4 * US)
    assert kind.hidden == pytest.approx(3 * 4 * US)
    assert kind.total == pytest.approx(step_duration(small()))


def test_intensity_is_of_the_main_memory():
    one = task("a", "compute", 0, 1, flops=100.0, bytes={"hbm": 20.0, "l2": 50.0})
    assert (intensity(one, "hbm"), intensity(one, "dram")) == (5.0, None)
