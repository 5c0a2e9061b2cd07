"""Placements for expected loads beside EPLB: balance against the bound, time, memory.

    python bench/placement.py [--full]

Loads are synthetic and seeded: Zipf with a permutation per layer, log-normal. Seconds are CPU time
of all layers. EPLB's is of its algorithm on Python's floats (torch's scalars take ten times as
long), run in full up to 768 slots; above, of one layer times the layers (marked ~; at 4,096 ranks
and more also of the first replicas only, unless --full). Its balance comes from a packing by heap
that gives the same placements.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from supertile.targets.placement.bounds import equal_bound, placement_bound
from supertile.targets.placement.check import Claim, check_map
from supertile.targets.placement.eplb import (
    eplb_map,
    heap_packing,
    pack_plainly,
    replicate_experts,
)
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers
from supertile.targets.placement.group_bound import raised_bound
from supertile.targets.placement.plan_map import plan_map

SEED = 0
ZIPF, LOGNORMAL = (0.3, 0.6, 1.0), (0.5, 1.0)
SCARCE = ("zipf 0.6", "logn 1")
"""Loads whose gap to the bound is required where slots are scarce."""
IN_FULL = 768
FIRST = 256
"""Replicas that stand for all, of EPLB's packing on very many ranks."""
MANY = 4096
BALANCE, MEGABYTES = 0.999, 2000
EXAMPLE = np.array([[600.0, 560, 120, 120, 20, 10, 10, 10]])

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    layers: int
    experts: int
    ranks: int
    slots: int
    exact: bool = False
    """Whether the mean load is required."""
    seconds: float | None = None
    """Required of the weighted placement, and of its bound where a gap is required too."""
    gap: float | None = None
    """Required of the largest load over its bound in the worst layer, weighted and equal."""

    @property
    def held(self) -> Integers:
        """Slots of each rank [G], the first with one more where they do not divide."""
        each, more = divmod(self.slots, self.ranks)
        return each + (np.arange(self.ranks) < more).astype(np.int64)


SETTINGS = (
    Setting(58, 256, 32, 288, exact=True),
    Setting(58, 256, 64, 320, exact=True),
    Setting(58, 256, 64, 288),
    Setting(58, 256, 96, 288),
    Setting(58, 256, 144, 288),
    Setting(61, 384, 144, 400, seconds=2.0, gap=1.04),
    Setting(61, 384, 64, 444, seconds=2.0, gap=1.04),
    Setting(61, 384, 384, 384),
    Setting(61, 384, 384, 432),
    Setting(61, 384, 384, 768, exact=True, seconds=1.0),
    Setting(61, 384, 384, 1152, exact=True, seconds=1.5),
    Setting(61, 384, 8192, 8192),
    Setting(61, 384, 8192, 8575, exact=True, seconds=5.0),
    Setting(61, 384, 8192, 16384, exact=True, seconds=5.0),
)


def shapes(layers: int, experts: int) -> Iterator[tuple[str, Floats]]:
    random = np.random.default_rng(SEED)
    for exponent in ZIPF:
        load = np.arange(1, experts + 1) ** -exponent
        yield f"zipf {exponent:g}", np.stack([random.permutation(load) for _ in range(layers)])
    for sigma in LOGNORMAL:
        yield f"logn {sigma:g}", np.exp(sigma * random.standard_normal((layers, experts)))


def timed(function: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    found = function()
    return found, time.process_time() - start


def eplb_seconds(load: Floats, of: Setting, full: bool) -> tuple[float, bool]:
    """(seconds of all layers, whether they are extrapolated)."""
    if of.slots <= IN_FULL or of.slots == of.ranks:
        return timed(lambda: eplb_map(load, of.slots, of.ranks))[1], False
    (expert, _, counts), replicating = timed(lambda: replicate_experts(load, of.slots))
    parts = -np.sort(-(load[0] / counts[0])[expert[0]])
    if of.ranks >= MANY and not full:  # each replica looks at all ranks, whichever it takes
        parts = parts[:FIRST]
    each = of.slots // of.ranks
    packing = timed(lambda: pack_plainly(parts.tolist(), of.ranks, each))[1]
    return replicating + packing * of.slots / len(parts) * len(load), True


class Required:
    """Figures and whether they are reached."""

    def __init__(self) -> None:
        self.failed = 0

    def check(self, good: bool, text: str) -> None:
        self.failed += not good
        print(f"  {'PASS' if good else 'FAIL'}  {text}", flush=True)


def twins(map: ExpertMap) -> NDArray[np.bool_]:
    """[L]: whether a rank holds an expert twice, which no other placement here may."""
    held = np.sort(map.rank * map.experts + map.expert, axis=1)
    return np.any(held[:, 1:] == held[:, :-1], axis=1)


def raised(
    bound: Callable[[Floats, Integers], Floats], load: Floats, slots: Integers, largest: Floats
) -> Floats:
    return raised_bound(load, slots, bound(load, slots), largest)


def row(name: str, load: Floats, of: Setting, full: bool) -> list[bool]:
    held = of.held
    weighted, weighted_time = timed(lambda: plan_map(load, held, "weighted"))
    equal, equal_time = timed(lambda: plan_map(load, held, "equal"))
    largest = [found.loads(load).max(axis=1) for found in (weighted, equal)]
    bound, bounding = timed(lambda: raised(placement_bound, load, held, largest[0]))
    bound_equal = raised(equal_bound, load, held, largest[1])
    mean = load.sum(axis=1) / of.ranks
    cells = [f"{name:9}{(mean / bound).mean():7.4f}"]
    eplb, seconds, about, valid = None, None, "", np.ones(of.layers, bool)
    if of.slots % of.ranks == 0:
        placed = eplb_map(load, of.slots, of.ranks, packing=heap_packing)
        eplb = placed.loads(load).max(axis=1)
        valid = ~twins(placed)
        seconds, extrapolated = eplb_seconds(load, of, full)
        about = "~" if extrapolated else " "
    cells.append(f"{(mean / eplb).mean():8.4f}" if eplb is not None else f"{'-':>8}")
    cells += [f"{(mean / one).mean():8.4f}" for one in largest]
    cells.append(f"{(bound / largest[0]).mean():9.4f} ({(bound / largest[0]).min():.4f})")
    cells.append(f"{(bound_equal / largest[1]).min():8.4f}")
    cells.append(f"{about}{seconds:9.1f}" if seconds is not None else f"{'-':>10}")
    cells.append(f"{weighted_time:9.2f}{equal_time:8.2f}{bounding:8.2f}")
    print("  " + "".join(cells), flush=True)
    wrong = []
    for found, one, low in ((weighted, largest[0], bound), (equal, largest[1], bound_equal)):
        wrong += check_map(found, load, Claim(one, low))
    for text in wrong[:3]:
        print(f"    {text}")
    scarce = of.gap is not None and name in SCARCE
    over = [(largest[0] / bound).max(), (largest[1] / bound_equal).max()]
    return [
        not wrong,
        not of.exact or bool((bound / largest[0] >= BALANCE).all()),
        of.seconds is None or of.gap is not None or weighted_time <= of.seconds,
        not scarce or weighted_time + bounding <= (of.seconds or np.inf),
        not scarce or bool(max(over) <= (of.gap or np.inf)),
        eplb is None or bool((largest[1] <= eplb * (1 + 1e-9))[valid].all()),
        eplb is None or bool((largest[0] <= eplb * (1 + 1e-9)).all()),
    ]


def setting(of: Setting, full: bool, required: Required) -> None:
    print(f"\n{of.layers} layers x {of.experts} experts, {of.ranks} ranks, {of.slots} slots")
    print(f"  {'load':9}  bound    EPLB weighted equal  bound/weighted (worst)  /equal", end="")
    print("    EPLB s weigh. s equal s bound s")
    rows = [row(*one, of, full) for one in shapes(of.layers, of.experts)]
    clean, balanced, fast, soon, close, equal, weighted = (
        all(column) for column in zip(*rows, strict=True)
    )
    required.check(clean, "both maps pass the independent check")
    if of.exact:
        required.check(balanced, f"weighted at least {BALANCE} of the bound on each layer")
    if of.gap is not None:
        laws = " and ".join(SCARCE)
        required.check(soon, f"{laws}: weighted and its bound in at most {of.seconds:g} s")
        required.check(close, f"{laws}: no layer over {of.gap:g} of its bound, weighted and equal")
    elif of.seconds is not None:
        required.check(fast, f"weighted in at most {of.seconds:g} s")
    if of.slots % of.ranks == 0:
        required.check(
            equal and weighted,
            "no layer worse than EPLB; equal: where EPLB holds no expert twice on a rank",
        )


def example(required: Required) -> None:
    print("loads 600 560 120 120 20 10 10 10 on 8 ranks of 2 slots (EPLB 232, FlashLB 205)")
    slots = np.full(8, 2)
    for shares, most in (("weighted", 181.25 * (1 + 1e-9)), ("equal", 205.0)):
        found: ExpertMap = plan_map(EXAMPLE, slots, shares)  # type: ignore[arg-type]
        largest = float(found.loads(EXAMPLE).max())
        required.check(largest <= most, f"{shares} {largest:.2f}, at most {most:.2f}")


def main() -> None:
    full = "--full" in sys.argv[1:]
    required = Required()
    start = time.perf_counter()
    example(required)
    for of in SETTINGS:
        setting(of, full, required)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print()
    required.check(peak < MEGABYTES, f"{peak:.0f} MB at most, under {MEGABYTES}")
    print(f"{time.perf_counter() - start:.0f} s in all, {required.failed} figures missed")
    sys.exit(bool(required.failed))


if __name__ == "__main__":
    main()
