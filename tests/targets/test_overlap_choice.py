"""Which way of hiding communication is chosen, and what each is said to take."""

from dataclasses import replace

import pytest
from step_runs import Asked, asked

from supertile.targets.overlap_choice import (
    MATTERS,
    WAYS,
    OverlapChoice,
    choose_overlap,
    exchanged,
)
from supertile.targets.step_costs import NO_OVERLAP, Overlap

ONE_SLOT = "phase=decode ep=8 batch=8 context=64"


def choice(held: Asked, way: str = "auto") -> OverlapChoice:
    return choose_overlap(held.work, held.tiled.costs, way)


@pytest.fixture(scope="module")
def v4() -> Asked:
    return asked("deepseek_v4_deployed")


def test_every_way_is_told_with_the_step_it_takes(v4: Asked) -> None:
    found = choice(v4)
    assert [*found.seconds] == [NO_OVERLAP, Overlap(1, 2), Overlap(2, 1), Overlap(2, 2)]
    for way, seconds in found.seconds.items():
        assert seconds == v4.step(way).duration


def test_the_fastest_is_chosen_unless_a_simpler_one_hardly_takes_longer(v4: Asked) -> None:
    found = choice(v4)
    least = min(found.seconds.values())
    assert found.seconds[found.chosen] <= least * (1 + MATTERS)
    before = [*found.seconds][: [*found.seconds].index(found.chosen)]
    assert all(found.seconds[way] > least * (1 + MATTERS) for way in before)


def test_a_way_can_be_asked_for(v4: Asked) -> None:
    asked_for = {way: choice(v4, way).chosen for way in WAYS if way != "auto"}
    assert asked_for == {
        "none": NO_OVERLAP,
        "waves": Overlap(1, 2),
        "batches": Overlap(2, 1),
        "both": Overlap(2, 2),
    }


def test_one_expert_on_a_rank_has_no_waves() -> None:
    held = asked("deepseek_v4_deployed", deployment=ONE_SLOT)
    assert set(choice(held).seconds) == {NO_OVERLAP, Overlap(2, 1)}
    assert choice(held, "both").chosen == NO_OVERLAP


def test_one_sequence_has_no_halves(v4: Asked) -> None:
    costs = replace(v4.tiled.costs, halves=())
    found = choose_overlap(v4.work, costs, "auto")
    assert set(found.seconds) == {NO_OVERLAP, Overlap(1, 2)}
    assert choose_overlap(v4.work, costs, "batches").chosen == NO_OVERLAP


def test_a_dense_model_has_nothing_to_hide() -> None:
    found = choice(asked("llama", deployment="phase=decode batch=8 context=64"))
    assert (found.chosen, [*found.seconds]) == (NO_OVERLAP, [NO_OVERLAP])


def test_dispatch_combine_and_what_is_between_them_are_exchanged(v4: Asked) -> None:
    (layer, *_) = [one for one in v4.tiled.work.stretches if one.name.startswith("layers")]
    kinds = [item.work.kind if item.work else item.transfer for item in exchanged(layer)]
    assert kinds == ["dispatch", "experts", "combine"]
