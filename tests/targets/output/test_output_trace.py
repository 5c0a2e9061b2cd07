"""schedule.json obeys the rules of the Chrome trace event format, as viewers need it."""

import itertools
import json
from collections import Counter, defaultdict

import pytest
from example import HOSTILE, example, small

from supertile.targets.output.step import step_duration
from supertile.targets.output.trace import EVENT_LIMIT, schedule_text
from supertile.targets.timeline import Timeline

REQUIRED = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid", "args"},
    "M": {"name", "pid", "args"},
    "C": {"name", "ts", "pid", "args"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
}


def events_of(timeline: Timeline, **options: int) -> list[dict]:
    return json.loads(schedule_text(timeline, **options))["traceEvents"]


def slices_by_thread(events: list[dict]) -> dict[str, list[dict]]:
    """Name of the thread -> its slices in the order of the file."""
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    threads = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[names[event["tid"]]].append(event)
    return dict(threads)


def ns(microseconds: float) -> int:
    return round(microseconds * 1000)


def check_format(events: list[dict]) -> None:
    for event in events:
        needed = REQUIRED[event["ph"]]
        assert needed <= event.keys(), event
        assert event.get("ts", 0) >= 0 and event.get("dur", 0) >= 0
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)
    for slices in slices_by_thread(events).values():
        for a, b in itertools.pairwise(slices):
            assert ns(a["ts"]) + ns(a["dur"]) <= ns(b["ts"]), (a, b)


def check_arrows(events: list[dict]) -> int:
    """Each arrow has two ends, in time order, each within a slice of its thread."""
    slices = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            slices[event["tid"]].append((ns(event["ts"]), ns(event["ts"]) + ns(event["dur"])))
    ends = defaultdict(dict)
    for event in events:
        if event["ph"] in "sf":
            ends[event["id"]][event["ph"]] = event
            time = ns(event["ts"])
            assert any(start <= time <= end for start, end in slices[event["tid"]]), event
    for arrow in ends.values():
        assert arrow.keys() == {"s", "f"}
        assert arrow["s"]["ts"] <= arrow["f"]["ts"]
        assert arrow["s"]["tid"] != arrow["f"]["tid"]
    return len(ends)


@pytest.mark.parametrize("limit", [EVENT_LIMIT, 2000])
def test_a_real_size(limit):
    events = events_of(example(), limit=limit)
    check_format(events)
    assert check_arrows(events) > 20
    assert len(events) <= max(limit, 2500)


def test_threads_are_layers_kernels_engines_and_links():
    threads = slices_by_thread(events_of(example()))
    assert list(threads) == [
        "layers", "kernels", "busy: vector", "busy: hbm", "busy: cube", "busy: l2",
        "link: supernode", "busy: vector (2)",
    ]  # fmt: skip
    assert len(threads["layers"]) == 63
    assert len(threads["kernels"]) + len(threads["link: supernode"]) == 63 * 50


def test_the_whole_step_in_microseconds():
    threads = slices_by_thread(events_of(small()))
    assert [(e["name"], e["ts"], e["dur"]) for e in threads["kernels"]][3:6] == [
        ("first", 20.0, 10.0),
        ("second", 30.0, 4.0),
        ("third", 38.0, 2.0),
    ]
    last = threads["layers"][-1]
    assert last["ts"] + last["dur"] == pytest.approx(step_duration(small()) * 1e6)


def test_a_task_tells_its_formula_and_figures():
    threads = slices_by_thread(events_of(example()))
    arguments = next(e["args"] for e in threads["kernels"] if e["name"] == "attend")
    assert arguments["formula"].startswith("launch + max(cube")
    assert arguments["bound"] == "cube"
    assert "engines.cube.rate.i8" in arguments["figures"]
    assert arguments["bytes"].keys() == {"hbm", "l2"}


def test_counters_show_what_is_exposed():
    counts = [e for e in events_of(small()) if e["ph"] == "C"]
    now = [(e["ts"], e["args"]["now"]) for e in counts if "now" in e["args"]]
    assert now == [(14, 1), (18, 0), (34, 1), (38, 0), (54, 1), (58, 0)]
    total = [e["args"]["us"] for e in counts if "us" in e["args"]]
    assert total == [4, 8, 12]


def test_above_the_limit_each_program_is_drawn_first_and_last():
    timeline = small(order=(("layer", 10),))
    events = events_of(timeline, limit=40)
    check_format(events)
    names = [event["name"] for event in slices_by_thread(events)["layers"]]
    assert names == ["layer", "8 x layer, not drawn", "layer"]
    assert Counter(e["name"] for e in events)["first"] == 2
    hidden = [(e["ts"], e["args"]["now"]) for e in events if e["name"] == "layers not drawn"]
    assert hidden == [(20, 8), (180, 0)]
    assert [e["args"]["us"] for e in events if "us" in e.get("args", {})][-1] == 40


def test_alternating_layers_are_cut_too():
    events = events_of(example(), limit=2000)
    layers = slices_by_thread(events)["layers"]
    assert sum("not drawn" in event["name"] for event in layers) == 63 - 2 * 3 - 2
    assert json.loads(schedule_text(example()))["otherData"]["drawn"] == "all of the step"


def test_same_bytes_every_time_and_hostile_names_stay_text():
    assert schedule_text(example()) == schedule_text(example())
    assert json.loads(schedule_text(example(model=HOSTILE)))["otherData"]["model"] == HOSTILE


def test_an_empty_step():
    check_format(events_of(example(programs=(), order=())))
