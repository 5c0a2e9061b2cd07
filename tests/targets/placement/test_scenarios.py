"""Scenarios: their size, spread and streams."""

from __future__ import annotations

import numpy as np
import pytest

from supertile.targets.placement.scenarios import forecast_scenarios, window_scenarios

FORECAST = np.random.default_rng(0).lognormal(0, 0.5, (3, 64))


def test_drift_has_its_sigma_and_keeps_the_total() -> None:
    found = forecast_scenarios(FORECAST, 200, drift=0.2)
    assert found.sum(axis=2) == pytest.approx(np.broadcast_to(FORECAST.sum(axis=1), (200, 3)))
    assert np.log(found / FORECAST).std() == pytest.approx(0.2, rel=0.05)


def test_batches_are_counts_of_pairs_with_the_spread_of_samples() -> None:
    found = forecast_scenarios(FORECAST, 400, pairs=5000)
    counts = found / FORECAST.sum(axis=1)[:, None] * 5000
    assert counts == pytest.approx(np.round(counts)) and counts.sum(axis=2) == pytest.approx(5000)
    part = FORECAST / FORECAST.sum(axis=1)[:, None]
    assert counts.var(axis=0) == pytest.approx(5000 * part * (1 - part), rel=0.5)


def test_without_drift_and_batch_all_are_the_forecast() -> None:
    assert forecast_scenarios(FORECAST, 2) == pytest.approx(np.stack([FORECAST] * 2))


def test_same_seed_same_loads_and_streams_are_independent() -> None:
    def draw(**other: object) -> np.ndarray:
        return forecast_scenarios(FORECAST, 4, drift=0.2, pairs=999, **other)  # type: ignore[arg-type]

    assert (draw(seed=1) == draw(seed=1)).all()
    apart = [draw(seed=1), draw(seed=2), draw(seed=1, stream="hold-out")]
    parts = [(of / FORECAST).ravel() for of in apart]
    assert np.abs(np.corrcoef(parts) - np.eye(3)).max() < 0.15


def test_windows_plan_with_the_early_and_hold_out_the_late() -> None:
    windows = np.stack([np.full((2, 4), 1.0 + w) + w * np.eye(4)[w % 4] for w in range(6)])
    parts = windows / windows.sum(axis=2, keepdims=True)
    planning = window_scenarios(windows, 8, seed=3)
    later = window_scenarios(windows, 4, seed=3, stream="hold-out")
    for found, among in ((planning, parts[:4]), (later, parts[4:])):
        of_windows = (found / found.sum(axis=2, keepdims=True))[:, None]
        assert np.isclose(of_windows, among).all(axis=(2, 3)).sum(axis=1).min() == 1
        assert found.sum(axis=2) == pytest.approx(np.full((len(found), 2), windows.sum(2).mean()))


def test_layers_without_load_stay_without() -> None:
    empty = np.stack([FORECAST[0], np.zeros(64)])
    assert not forecast_scenarios(empty, 2, drift=0.1, pairs=100)[:, 1].any()


@pytest.mark.parametrize("wrong", [{"drift": -1.0}, {"drift": np.nan}, {"pairs": 0}, {"count": 0}])
def test_wrong_numbers(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"not \d or more"):
        forecast_scenarios(FORECAST, **{"count": 1, **wrong})  # type: ignore[arg-type]


def test_one_window_holds_nothing_out() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        window_scenarios(FORECAST[None], 1)
