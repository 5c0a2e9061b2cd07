"""The critical path of a program and the slack of its tasks, by hand and against schedules."""

from dataclasses import replace

import pytest
from example import example

from supertile.targets.output.critical import criticality, task_graph
from supertile.targets.step import program_of, timed
from supertile.targets.timeline import Program, Task


def task(name: str, seconds: float, *waits: int, lane: str = "compute") -> Task:
    return Task(name, "", lane, 0.0, seconds, waits)


def program(*tasks: Task) -> Program:
    return program_of("p", timed(tasks))


EXPERTS = (
    task("router", 1.0),
    task("dispatch", 5.0, 0, lane="node"),
    task("shared", 2.0, 0),
    task("experts", 3.0, 1),
    task("combine", 4.0, 3, lane="node"),
    task("join", 1.0, 2, 4),
)


def test_what_hides_under_a_transfer_has_slack() -> None:
    held = program(*EXPERTS)
    found = criticality(held)
    names = [held.tasks[number].name for number in found.path]
    assert names == ["router", "dispatch", "experts", "combine", "join"]
    slack = {one.name: found.slack[number] for number, one in enumerate(held.tasks)}
    assert slack == {**dict.fromkeys(names, 0.0), "shared": 3.0}


def test_a_task_follows_the_one_before_it_on_its_lane() -> None:
    """So that the first of two may not end later, though nothing waits for it."""
    found = criticality(program(task("a", 1.0), task("b", 2.0)))
    assert (found.path, found.slack) == ((0, 1), (0.0, 0.0))
    assert {*task_graph(program(task("a", 1.0), task("b", 2.0))).edges} == {(0, 1)}


@pytest.mark.parametrize("number", range(len(EXPERTS)))
def test_a_task_may_take_so_much_longer_and_no_more(number: int) -> None:
    held = program(*EXPERTS)
    name = EXPERTS[number].name
    slack = criticality(held).slack[[one.name for one in held.tasks].index(name)]
    for more, longer in ((slack, 0.0), (slack + 0.5, 0.5)):
        tasks = list(EXPERTS)
        tasks[number] = replace(tasks[number], duration=tasks[number].duration + more)
        assert program(*tasks).duration == held.duration + longer


def test_the_critical_path_is_as_long_as_its_program() -> None:
    for held in example().programs:
        tasks = [held.tasks[number] for number in criticality(held).path]
        assert sum(one.duration for one in tasks) <= held.duration * (1 + 1e-9)


def test_a_program_without_tasks_has_none() -> None:
    assert criticality(Program("p", ())).path == ()
