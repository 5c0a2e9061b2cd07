"""Evidence by example: shares of figures, the verdict, the sentence on assumed ones."""

from __future__ import annotations

import pytest
from cost_examples import machine

from supertile.targets.cost.evidence import figure_shares, figure_uses, verdict
from supertile.targets.timeline import FigureUse, Program, Task

RATE, FRACTION = "engines.cube.rate.bf16", "parameters.matrix_fraction"
HBM, LAUNCH = "memories.hbm.read", "parameters.launch_matrix"


def task(duration: float, *figures: str, launch: float = 0.0) -> Task:
    return Task("k", "linear", "compute", 0.0, duration, (), launch=launch, figures=figures)


PROGRAMS = (
    Program("dense", (task(2.0, RATE, FRACTION),)),
    Program("layer", (task(3.0, HBM, LAUNCH, launch=1.0), task(1.0, RATE))),
)
ORDER = (("dense", 1), ("layer", 1), ("layer", 1))  # 2 + 4 + 4 seconds


def use(evidence: str, share: float) -> FigureUse:
    return FigureUse(f"the.{evidence}.figure", "1 TB/s", "TEST", evidence, share)


def test_shares_of_the_step() -> None:
    assert figure_shares(PROGRAMS, ORDER) == pytest.approx(
        {RATE: 0.4, FRACTION: 0.2, HBM: 0.4, LAUNCH: 0.2}
    )


def test_a_program_that_does_not_run_does_not_count() -> None:
    assert figure_shares(PROGRAMS, (("dense", 3),)) == {RATE: 1.0, FRACTION: 1.0}
    assert figure_shares(PROGRAMS, ()) == {}


def test_figures_come_with_their_words() -> None:
    uses = figure_uses(PROGRAMS, ORDER, machine())
    assert [one.path for one in uses] == [RATE, HBM, LAUNCH, FRACTION]
    assert uses[3] == FigureUse(FRACTION, "0.5", "TEST", "assumed", pytest.approx(0.2))
    assert verdict(uses) == "unverified"


@pytest.mark.parametrize(
    ("weakest", "expected"),
    [
        ("measured", "verified"),
        ("vendor", "partly verified"),
        ("derived", "partly verified"),
        ("assumed", "unverified"),
        ("unknown", "unverified"),
    ],
)
def test_the_weakest_figure_decides(weakest: str, expected: str) -> None:
    assert verdict((use("measured", 1.0), use(weakest, 0.05))) == expected


def test_a_figure_behind_little_of_the_step_does_not() -> None:
    uses = (use("measured", 1.0), use("assumed", 0.049))
    assert verdict(uses) == "verified"


def test_nothing_is_not_verified() -> None:
    assert verdict(()) == "unverified"
