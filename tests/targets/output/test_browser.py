"""The report in a real browser: drawn whole, quiet, and answering to clicks, keys and addresses."""

import subprocess

import pytest
from browser import OPTIONS, browser, run
from example import HOSTILE, example, layer

from supertile.targets.output.report import report_page

pytestmark = pytest.mark.skipif(
    browser() is None, reason="no browser: install chromium to see the report drawn"
)

# What one visit finds out; every step uses the page as a reader does.
VISIT = """
const all = selector => [...document.querySelectorAll(selector)];
const click = node => node.dispatchEvent(new MouseEvent("click", { bubbles: true }));
const box = node => { const r = node.getBoundingClientRect(); return [r.left, r.right, r.width]; };
const column = n => all("#operations tbody tr").map(row => row.cells[n].dataset.order);
const sheet = document.getElementById("details");
const found = { width: innerWidth, page: document.documentElement.scrollWidth, rows: {} };

for (const tab of all("#programs button").map((_, n) => n)) {
  click(all("#programs button")[tab]);
  const name = all("#programs [aria-selected=true]")[0].firstChild.textContent;
  found.rows[name] = all("#lanes .row").map(row => ({
    name: row.dataset.row, box: box(row.querySelector(".back")),
    bars: [...row.querySelectorAll(".bar")].map(box) }));
}
found.calls = all("#overview .call").length;

click(all("#programs button")[2]);
const bar = all('#lanes [data-role=lane] .bar[data-task="12"]')[0];
bar.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 300, clientY: 300 }));
found.tip = document.getElementById("tip").textContent;
found.tipHidden = document.getElementById("tip").hidden;
click(bar);
found.sheet = sheet.textContent;
found.address = location.hash;
click(sheet.querySelector("td button"));
found.figureRow = all("#figures tr.chosen").map(row => row.textContent);
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
found.closed = sheet.hidden;

const heads = all("#operations [data-sort]");
click(heads[4]); found.timesDown = column(4).map(Number);
click(heads[4]); found.timesUp = column(4).map(Number);
click(heads[0]); found.names = column(0);

click(all("[data-zoom]")[0]);
found.zoomed = document.getElementById("span").textContent;
click(all(".card")[0]);
found.card = sheet.textContent;
click(all("#details .link")[10]);
found.fromCard = sheet.querySelector("h2").textContent;
return found;
"""
VIEW = """
const chosen = document.querySelector("#programs [aria-selected=true]");
const sheet = document.getElementById("details");
return { width: innerWidth, page: document.documentElement.scrollWidth,
  program: chosen.firstChild.textContent, sheet: sheet.hidden ? "" : sheet.textContent,
  span: document.getElementById("span").textContent,
  sorted: document.querySelector("#operations [aria-sort]").textContent,
  title: document.querySelector("h1").textContent, images: document.images.length,
  rows: [...document.querySelectorAll("#lanes .back")].map(node => {
    const r = node.getBoundingClientRect(); return [r.left, r.right]; }) };
"""


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """One long visit at the size of a laptop."""
    folder = tmp_path_factory.mktemp("visit")
    (folder / "report.html").write_text(report_page(example()), encoding="utf-8")
    return run(folder / "report.html", "", 1280, VISIT, folder)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A phone, an address with a state in it, and names that try to be markup."""
    folder = tmp_path_factory.mktemp("narrow")
    hostile = layer(HOSTILE, 0.5)
    programs = (hostile, *example().programs[1:])
    timeline = example(model=HOSTILE, programs=programs, order=((HOSTILE, 1), ("csa_layer", 2)))
    (folder / "report.html").write_text(report_page(timeline), encoding="utf-8")
    address = "#program=csa_layer&task=20&zoom=0.25-0.75&sort=operations:1:up"
    return run(folder / "report.html", address, 400, VIEW, folder)


def test_the_harness_hears_errors(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<html><body><script>missing()</script></body></html>")
    heard = run(page, "", 400, "return 1", tmp_path)
    assert any("missing is not defined" in line for line in heard["console"])


def test_the_page_is_quiet_and_no_wider_than_its_window(visit, narrow):
    for result in (visit, narrow):
        assert result["console"] == []
        assert result["found"]["page"] <= result["found"]["width"]
    assert (visit["found"]["width"], narrow["found"]["width"]) == (1280, 400)


def test_every_lane_of_every_program_is_drawn_within_the_window(visit):
    programs = visit["found"]["rows"]
    assert list(programs) == [program.name for program in example().programs]
    for rows in programs.values():
        names = [row["name"] for row in rows]
        assert names[0] == "compute"
        assert {"cube", "vector", "hbm", "l2", "supernode"} <= set(names)
        for row in rows:
            left, right, _ = row["box"]
            assert 0 <= left < right <= 1280
            assert row["bars"], row["name"]
            for start, end, width in row["bars"]:
                assert width > 0 and left - 1 <= start and end <= right + 1


def test_bars_are_as_long_as_their_tasks(visit):
    program = example().program("csa_layer")
    (row,) = (row for row in visit["found"]["rows"]["csa_layer"] if row["name"] == "compute")
    tasks = [task for task in program.tasks if task.lane == "compute"]
    scale = row["box"][2] / program.duration
    for task, (left, _, width) in zip(tasks, row["bars"], strict=True):
        assert left - row["box"][0] == pytest.approx(task.start * scale, abs=0.6)
        assert width == pytest.approx(task.duration * scale, abs=1.1)


def test_the_overview_shows_every_layer(visit):
    assert visit["found"]["calls"] == 63


def test_a_bar_tells_its_formula_and_leads_to_the_source(visit):
    found, task = visit["found"], example().program("csa_layer").tasks[12]
    assert task.name in found["tip"] and not found["tipHidden"]
    for text in (task.name, task.formula, task.source, *task.figures, "CM384 Table 3", "assumed"):
        assert text in found["sheet"]
    assert found["address"] == "#program=csa_layer&task=12"
    (row,) = found["figureRow"]
    assert row.startswith(task.figures[0]) and "vendor" in row
    assert found["closed"]


def test_a_headline_leads_to_figures_and_tasks(visit):
    card = visit["found"]["card"]
    assert "33.89 ms" in card and example().definitions["step_ms"] in card
    assert "memories.hbm.read" in card
    assert visit["found"]["fromCard"] == "attend"


def test_tables_sort_both_ways(visit):
    found = visit["found"]
    assert found["timesDown"] == sorted(found["timesDown"], reverse=True)
    assert found["timesUp"] == sorted(found["timesUp"])
    assert found["timesUp"] != found["timesDown"]
    assert found["names"] == sorted(found["names"])


def test_zoom_narrows_the_view(visit):
    assert visit["found"]["zoomed"] == "csa_layer: 144.1 µs to 432.1 µs of 576.2 µs"


def test_the_address_holds_the_view(narrow):
    found, program = narrow["found"], example().program("csa_layer")
    assert found["program"] == "csa_layer"
    assert program.tasks[20].formula in found["sheet"]
    assert found["span"] == "csa_layer: 144.1 µs to 432.1 µs of 576.2 µs"
    assert found["sorted"] == "kind"
    assert all(0 <= left < right <= 400 for left, right in found["rows"])


def test_names_are_text(narrow):
    assert HOSTILE in narrow["found"]["title"]
    assert narrow["found"]["images"] == 0


def test_a_screenshot_is_not_blank(tmp_path):
    page, shot = tmp_path / "report.html", tmp_path / "shot.png"
    page.write_text(report_page(example()), encoding="utf-8")
    command = [str(browser()), *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1280,900", f"--screenshot={shot}", f"file://{page}"]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert shot.stat().st_size > 50_000  # a blank page of this size takes 5 kB
