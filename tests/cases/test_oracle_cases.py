"""Models of other sizes than the shared cases: lengths, ratios, windows, heads, groups, selections.

The cases and how they were made: `tests/data/oracle_cases.py`.
"""

from pathlib import Path

import pytest
from case_runs import DATA, FEEDS, TOLERANCE, apart, oracle_case

NAMES = sorted(path.stem for path in (DATA / "oracle").glob("*.npz"))


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    case = oracle_case(name, tmp_path)
    for how, feed in FEEDS.items():
        found = case.model.run(case.rows, feed)
        assert apart(found.logits, case.logits) < TOLERANCE, how


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "ratios_2_8" in name or "v3_odd" in name]
)
def test_rows_of_unequal_length(name: str, tmp_path: Path) -> None:
    case = oracle_case(name, tmp_path)
    rows = [row[:length] for row, length in zip(case.rows, (1, 37, 14), strict=True)]
    for how, feed in FEEDS.items():
        found = case.model.run(rows, feed)
        for b, row in enumerate(rows):
            assert apart(found.logits[b, : len(row)], case.logits[b, : len(row)]) < TOLERANCE, how


def test_the_cases_are_there() -> None:
    assert len(NAMES) == 15
