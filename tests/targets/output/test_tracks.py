"""Tracks hold every task once, without overlaps."""

import itertools

from example import example, task
from hypothesis import given, strategies as st

from supertile.targets.output.tracks import duration_of, track_names, tracks_of
from supertile.targets.timeline import Program


def test_kernels_engines_memories_links_from_top_to_bottom():
    assert track_names(example()) == [
        ("lane", "compute"),
        ("busy", "cube"),
        ("busy", "vector"),
        ("busy", "hbm"),
        ("busy", "l2"),
        ("lane", "supernode"),
    ]


def test_engines_work_after_the_launch_and_within_the_task():
    one = task("a", "compute", 10, 8, launch=3e-6, busy={"cube": 5e-6, "hbm": 7e-6, "l2": 9e-6})
    tracks = tracks_of(Program("p", (one,)), [("busy", name) for name in one.busy])
    spans = {track.name: (track.slices[0].start, track.slices[0].end) for track in tracks}
    assert spans == {"cube": (13000, 18000), "hbm": (11000, 18000), "l2": (10000, 18000)}


tasks = st.builds(
    task,
    st.just("t"),
    st.sampled_from(["compute", "link"]),
    st.floats(0, 50),
    st.floats(0, 20),
    busy=st.dictionaries(st.sampled_from(["cube", "hbm"]), st.floats(1e-9, 3e-5)),
    launch=st.floats(0, 5e-6),
)
NAMES = [("lane", "compute"), ("lane", "link"), ("busy", "cube"), ("busy", "hbm")]


@given(st.lists(tasks, max_size=10))
def test_slices_of_a_track_never_overlap_and_none_is_lost(some):
    program = Program("p", tuple(some))
    tracks = tracks_of(program, NAMES)
    for track in tracks:
        assert all(a.end <= b.start for a, b in itertools.pairwise(track.slices))
        assert all(one.start >= 0 and one.end <= duration_of(program) for one in track.slices)
    lanes = [one.task for track in tracks if track.role == "lane" for one in track.slices]
    assert sorted(lanes) == list(range(len(some)))


def test_tasks_that_follow_one_another_stay_on_one_track():
    times = list(itertools.accumulate([0.1] * 40))  # sums that floating point does not hit exactly
    row = tuple(task("t", "compute", time, 0.1) for time in times)
    (track,) = tracks_of(Program("p", row), NAMES)
    assert len(track.slices) == 40
