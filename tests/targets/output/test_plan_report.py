"""The page of a plan: pictures of what is planned, drawn in a real browser, without scripts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from browser import browser, run

from supertile.cli.main import main
from supertile.targets.output.load_picture import layer_picture, rank_picture
from supertile.targets.output.plan_report import POLICY
from supertile.targets.placement.expert_map import over_mean

DATA = Path(__file__).parents[2] / "data"
HOSTILE = "<script>alert(1)</script>"
VISIT = """
const all = selector => [...document.querySelectorAll(selector)];
const inside = svg => [...svg.children].every(part => {
  const box = part.getBoundingClientRect(), whole = svg.getBoundingClientRect();
  return box.left >= whole.left - 1 && box.right <= whole.right + 1 &&
    box.top >= whole.top - 1 && box.bottom <= whole.bottom + 1;
});
return { width: innerWidth, page: document.documentElement.scrollWidth,
  inside: all("svg").map(inside), dots: all("svg circle").length,
  lines: all("svg polyline").length, rows: all("tbody tr").length,
  scripts: document.scripts.length, shown: document.body.innerText };
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    line = ["plan", "deepseek_v4", "--config", str(DATA / "deepseek_v4"), "--target", "ascend-910c"]
    asked = ["--deploy", "phase=decode ep=4 batch=64 slots=12", "--loads", "zipf:0.8"]
    assert main([*line, *asked, "-o", str(folder)]) == 0
    return folder / "report.html"


@pytest.mark.skipif(browser() is None, reason="no browser: install chromium to see the page drawn")
def test_the_page_is_drawn(page: Path, tmp_path: Path) -> None:
    """Six layers, of each the fullest rank of three placements; a curve for each, and the bound;
    a row for each placement and for each layer."""
    text = page.read_text()
    assert POLICY in text  # under which the visit could not look around
    probed = tmp_path / "page.html"
    probed.write_text(text.replace(POLICY, f"{POLICY}; script-src 'unsafe-inline'"))
    seen = run(probed, "", 1200, VISIT, tmp_path)
    found = seen["found"]
    assert seen["console"] == [] and found["scripts"] == 1  # that of the visit
    assert found["inside"] == [True, True]
    assert (found["dots"], found["lines"], found["rows"]) == (3 * 6, 1 + 3, 3 + 6)
    assert found["page"] <= found["width"]
    assert "phase=decode ep=4" in found["shown"] and "lower bound" in found["shown"]


def test_a_layer_without_load_is_balanced() -> None:
    assert over_mean(np.array([[0.0, 0.0], [1.0, 3.0]])).tolist() == [[1, 1], [0.5, 1.5]]


def test_names_are_text() -> None:
    loads = np.array([[1.0, 3.0]])
    for drawn in (
        layer_picture([0], [(HOSTILE, loads)], np.array([2.0])),
        rank_picture([(HOSTILE, loads[0])]),
    ):
        assert HOSTILE not in drawn and "&lt;script&gt;" in drawn


def test_thousands_of_ranks_are_few_points_and_the_fullest_is_one() -> None:
    loads = np.ones(8192)
    loads[4000] = 5
    drawn = rank_picture([("planned", loads)])
    assert drawn.count(",") < 500
    assert 'points="52.0,35.' in drawn  # at the top of the picture


def test_the_axis_fits_what_was_made_for_the_loads() -> None:
    """Placements within 2 % stand apart; one that is eight times as uneven stops at the edge."""
    sides = [
        ("round-robin", np.array([[8.0, 0, 0, 0, 0, 0, 0, 0]])),
        ("EPLB", np.array([[1.02] + [6.98 / 7] * 7])),
        ("planned", np.ones((1, 8))),
    ]
    drawn = layer_picture([0], sides, np.ones(1), ("EPLB", "planned"))
    heights = [float(found) for found in re.findall(r'cy="([\d.]+)"', drawn)]
    assert heights[0] == 26 < heights[1] < heights[2] - 50
    assert "round-robin, fullest rank: 8 to 8, beyond the axis" in drawn
    assert drawn.count("beyond the axis") == 1
    assert ">1.01<" in drawn, "the grid has values between the two"
    whole = layer_picture([0], sides, np.ones(1))
    assert "beyond the axis" not in whole and ">6<" in whole


def test_ranks_beyond_the_axis_are_told_in_the_legend() -> None:
    sides = [("round-robin", np.array([4.0, 0, 0, 0])), ("planned", np.ones(4))]
    drawn = rank_picture(sides, ("planned",))
    assert "round-robin: 0 to 4, beyond the axis" in drawn
