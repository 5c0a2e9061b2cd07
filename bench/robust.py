"""Robust placements against packing and alias tables, on loads that are not as forecast.

    python bench/robust.py

61 layers of 384 experts on 384 ranks, forecast log-normal 0.5. Scenarios: batches of 64 tokens a
rank, top-6, loads drifted by sigma. Balancedness is the mean over layers and hold-out scenarios,
shares split anew in each. Loads are synthetic.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.placement.resplit import resplit
from supertile.targets.placement.robust import robust_map
from supertile.targets.placement.scenarios import forecast_scenarios
from supertile.targets.placement.starts import packed_layer
from supertile.targets.placement.weighted import weighted_map

LAYERS, EXPERTS, RANKS, SCENARIOS = 61, 384, 384, 16
PAIRS = 64 * 6 * RANKS
LIMIT_SECONDS, LIMIT_MEGABYTES = 60.0, 2000.0
LEAST = {(3, 0.2): 0.98, (2, 0.2): 0.77}
"""By slots of a rank and drift."""


def main() -> None:
    forecast = np.random.default_rng(5).lognormal(0, 0.5, (LAYERS, EXPERTS))
    print("slots  drift   packed   alias  robust  its forecast  seconds  result")
    passed = True
    for slots, drift in ((3, 0.2), (3, 0.0), (2, 0.2), (2, 0.0)):
        passed &= row(forecast, slots, drift)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    passed &= peak <= LIMIT_MEGABYTES
    print(f"\npeak {peak:.0f} MB of {LIMIT_MEGABYTES:.0f}, {LIMIT_SECONDS:.0f} s a plan")
    print("PASS" if passed else "FAIL")
    sys.exit(not passed)


def row(forecast: Floats, slots: int, drift: float) -> bool:
    each = np.full(RANKS, slots)
    planning, hold_out = (
        forecast_scenarios(forecast, SCENARIOS, drift=drift, pairs=PAIRS, stream=stream)
        for stream in ("planning", "hold-out")
    )
    start = time.process_time()
    plan = robust_map(forecast, each, planning)
    seconds = time.process_time() - start
    packed = ExpertMap.equal(EXPERTS, each, np.stack([packed_layer(of, each) for of in forecast]))
    found = [
        float(resplit(map, hold_out).expected.mean())
        for map in (packed, weighted_map(forecast, each), plan.map)
    ]
    passed = found[2] >= LEAST.get((slots, drift), 0.0) and seconds <= LIMIT_SECONDS
    values = "  ".join(f"{value:6.4f}" for value in found)
    result = "PASS" if passed else "FAIL"
    own = float(plan.forecast.mean())
    print(f"{slots:5d}  {drift:5.1f}   {values}  {own:12.4f}  {seconds:7.1f}  {result}")
    return bool(passed)


if __name__ == "__main__":
    main()
