"""The recurrence of waves, Comet's pairs, and DeepGEMM's policy, by hand and by property."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from supertile.targets.overlap import reference_waves, wave_time


def equal_waves(total, waves):
    """`total` [...] in equal parts [..., waves]."""
    return np.repeat(np.asarray(total, np.float64)[..., None] / waves, waves, axis=-1)


def pairwise_time(dispatch, first, second, combine, pieces=np.inf):
    """Dispatch under the first product, combine under the second, in so many pieces each."""
    pairs = ((dispatch, first), (second, combine))
    return sum(np.maximum(a, b) + np.minimum(a, b) / pieces for a, b in pairs)


quick = settings(max_examples=60, deadline=None)
seconds = st.floats(0.01, 10)
both = pytest.mark.parametrize("duplex", [True, False])


def waves(dispatch, experts, combine, count, duplex=True):
    parts = (equal_waves(part, count) for part in (dispatch, experts, combine))
    return wave_time(*parts, duplex=duplex)


@both
@given(seconds, seconds, seconds)
@quick
def test_one_wave_is_serial(duplex, dispatch, experts, combine):
    assert waves(dispatch, experts, combine, 1, duplex) == pytest.approx(
        dispatch + experts + combine
    )


@both
@given(seconds, seconds, seconds, st.integers(1, 40))
@quick
def test_between_what_is_slowest_and_serial(duplex, dispatch, experts, combine, count):
    found = waves(dispatch, experts, combine, count, duplex)
    links = max(dispatch, combine) if duplex else dispatch + combine
    assert max(links, experts) - 1e-9 <= found <= dispatch + experts + combine + 1e-9
    # The first rows have to arrive, and the last results to return.
    ends = (dispatch + combine) / count
    assert found <= max(links, experts) + ends + experts / count * (not duplex) + 1e-9


def test_many_waves_leave_the_slower_side():
    """Experts of 1 s under transfers of 0.92 s: their ends vanish."""
    found = [float(waves(0.92 / 3, 1.0, 0.92 * 2 / 3, count)) for count in (1, 4, 32, 10000)]
    assert found == sorted(found, reverse=True)
    assert found[1] == pytest.approx(1 + 0.92 / 4)
    assert found[-1] == pytest.approx(1, abs=1e-3)


@both
def test_the_order_on_the_link_costs_nothing_while_experts_are_slower(duplex):
    assert waves(1, 6, 2, 4, duplex) == pytest.approx(6 + 3 / 4)


def test_one_direction_at_a_time_costs_where_transfers_are_slower():
    assert waves(4, 1, 4, 100, duplex=True) < waves(4, 1, 4, 100, duplex=False)


def test_waves_by_hand():
    """Arrivals at 1, 3, 6; products end at 5, 7, 8; results are back at 7, 9, 12."""
    assert wave_time([1, 2, 3], [4, 2, 1], [2, 2, 3]) == 12
    assert wave_time([1, 2, 3], [4, 2, 1], [2, 2, 3], duplex=False) == 13


def test_arrays_are_sweeps():
    ratio = np.array([0.25, 0.5, 0.9])
    found = waves(ratio / 3, np.ones(3), ratio * 2 / 3, 8)
    assert found == pytest.approx([float(waves(r / 3, 1, r * 2 / 3, 8)) for r in ratio])


@pytest.mark.parametrize("count, speed_up", [(4, 1.55), (8, 1.71), (32, 1.85)])
def test_speed_ups_at_a_ratio_of_nine_tenths(count, speed_up):
    assert 1.9 / waves(0.3, 1.0, 0.6, count) == pytest.approx(speed_up, abs=0.005)


def test_the_theory_of_the_v4_report_with_one_ratio():
    """1.42 for Comet and 1.92 for waves, both at transfers of 0.92 of the experts' time.

    D : C = 1 : 2 (FP8 out, BF16 back) and L1 : L2 = 2 : 1. Pairs without ends would give 1.50 at
    any ratio from a half to two; pairs in nine pieces give the report's number.
    """
    ratio = 0.92
    serial = 1 + ratio
    pairs = ratio / 3, 2 / 3, 1 / 3, 2 * ratio / 3
    assert serial / waves(ratio / 3, 1.0, 2 * ratio / 3, 100_000) == pytest.approx(1.92, abs=5e-3)
    assert serial / pairwise_time(*pairs) == pytest.approx(1.50, abs=5e-3)
    assert serial / pairwise_time(*pairs, pieces=9) == pytest.approx(1.42, abs=5e-3)


@pytest.mark.parametrize(
    "slots, rows, tiles, cores, expected",
    [
        (48, 0.5, 8, 132, 1),  # less than one row an expert: all at once
        (48, 64, 48, 132, 8),  # 2 x 132 / 48: 6 experts a wave, no short last wave
        (6, 64, 11, 36, 1),  # 7 experts would fill the cores: there are 6
        (50, 64, 96, 132, 10),  # 3 experts a wave would leave one of 2: 5 divide 50
        (1, 100, 10, 10, 1),
    ],
)
def test_the_reference_policy(slots, rows, tiles, cores, expected):
    assert reference_waves(slots, rows, tiles, cores) == expected


@given(st.integers(1, 60), st.floats(0.1, 500), st.floats(0.1, 500), st.integers(1, 200))
@quick
def test_the_reference_policy_has_no_empty_wave(slots, rows, tiles, cores):
    assert 1 <= reference_waves(slots, rows, tiles, cores) <= slots
