"""report.html as text: whole, escaped, of bounded size, and consistent with the timeline."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from example import HOSTILE, example, small

from supertile.targets.output import report
from supertile.targets.output.report import SIZE_LIMIT, headline_keys, report_page
from supertile.targets.output.report_data import report_data, script_text
from supertile.targets.timeline import MemoryUse, Timeline

VOID = {"meta"}


class Checked(HTMLParser):
    """Tags in the order of the page, all of which must close; attributes and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if self.open[-1:] in (["script"], ["style"]) else data


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def rows_of(page: str, table: str) -> list[list[str]]:
    """The cells of a table as text."""
    body = re.search(rf'id="{table}".*?<tbody>(.*?)</tbody>', page, re.S)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    cells = [re.findall(r"<td.*?>(.*?)</td>", row, re.S) for row in rows]
    return [[html.unescape(re.sub("<.*?>", "", cell)) for cell in row] for row in cells]


def test_the_page_is_well_formed_and_asks_the_network_for_nothing():
    page = report_page(example())
    checked = Checked(page)
    assert not [tag for tag, given in checked.tags if given.keys() & {"src", "href"}]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page)
    identities = [given["id"] for _, given in checked.tags if "id" in given]
    assert len(identities) == len(set(identities))


def test_same_bytes_and_a_bounded_size():
    assert report_page(example()) == report_page(example())
    assert len(report_page(example()).encode()) < 400_000


def test_long_formulas_are_cut_before_the_page_grows_too_large():
    programs = tuple(
        replace(p, tasks=tuple(replace(t, formula=f"{p.name} {n} " + "x" * 3500)
                               for n, t in enumerate(p.tasks)))
        for p in example().programs
    )  # fmt: skip
    page = report_page(example(programs=programs))
    assert len(page.encode()) < SIZE_LIMIT
    longest = max(data_of(page)["texts"], key=len)
    assert longest.endswith(" ...") and len(longest) > 300


@pytest.mark.parametrize(
    "field", ["model", "config", "machine", "device_unit", "deployment", "phase"]
)
def test_texts_of_the_user_are_escaped(field):
    page = report_page(example(**{field: HOSTILE}))
    assert HOSTILE not in page
    assert HOSTILE in Checked(page).text or field == "config"


def hostile_everywhere() -> Timeline:
    task = replace(
        small().programs[0].tasks[0],
        **dict.fromkeys(("name", "kind", "lane", "bound", "formula", "source", "part"), HOSTILE),
        busy={HOSTILE: 1e-6},
        bytes={HOSTILE: 5.0},
        figures=(HOSTILE,),
    )
    program = replace(small().programs[0], name=HOSTILE, tasks=(task,))
    figure = replace(
        example().figures[0],
        **dict.fromkeys(("path", "value", "source", "evidence"), HOSTILE),
    )
    return example(
        programs=(program,),
        order=((HOSTILE, 2),),
        memory=MemoryUse(((HOSTILE, 1.0),), 2.0),
        figures=(figure,),
        summary={HOSTILE: HOSTILE, "x_ms": 1.0, f"{HOSTILE}_ms": 2.0},
        definitions={HOSTILE: HOSTILE, "x_ms": HOSTILE},
        notes=(HOSTILE,),
        overlap=HOSTILE,
        condition=HOSTILE,
    )


def test_no_text_anywhere_becomes_markup():
    page = report_page(hostile_everywhere())
    checked = Checked(page)
    assert HOSTILE not in page
    assert "img" not in {tag for tag, _ in checked.tags}
    assert not [given for _, given in checked.tags if any(key.startswith("on") for key in given)]
    assert data_of(page)["programs"][0]["name"] == HOSTILE
    assert "<" not in script_text(report_data(hostile_everywhere(), 1000))


def test_headlines_stand_on_top_with_their_definitions():
    text = Checked(report_page(example())).text
    assert headline_keys(example())[:2] == ["step_ms", "time_per_output_token_ms"]
    assert "time_to_first_token_ms" not in headline_keys(example())
    assert "33.89 ms" in text and example().definitions["step_ms"] in text
    assert len(headline_keys(example(summary={f"x{n}_ms": n for n in range(9)}))) == 4


def test_parts_of_the_step():
    text = Checked(report_page(small())).text
    for shown in ("20.0 % compute", "50.0 % memory", "10.0 % launch"):
        assert shown in " ".join(text.split())
    assert "20.0 % exposed communication, 12 µs" in " ".join(text.split())
    assert "idle" not in text.split("Timeline")[1].split("By kind")[0]


def test_how_communication_is_hidden_stands_below_the_parts():
    told = small(overlap="4 waves 57 ms (none 63 ms)", condition="C / B = 2 <= 3: traffic hides")
    section = Checked(report_page(told)).text.split("By kind")[0]
    assert "hidden by: 4 waves 57 ms (none 63 ms)." in section
    assert "C / B = 2 <= 3: traffic hides." in section
    assert "hidden by" not in Checked(report_page(small())).text


def test_parts_of_a_task_are_told_apart_in_the_timeline_and_one_row_in_the_table():
    timeline = small()
    (program,) = timeline.programs
    halves = [replace(task, part=f"half {n + 1}") for n, task in enumerate(program.tasks)]
    page = report_page(replace(timeline, programs=(replace(program, tasks=tuple(halves)),)))
    assert "first, half 1" in data_of(page)["texts"]
    assert "first" in [row[0] for row in rows_of(page, "operations")]


def test_operations_are_listed_with_their_numbers():
    rows = rows_of(report_page(small()), "operations")
    assert [row[0] for row in rows] == ["first", "second", "send", "third"]
    assert [row[5] for row in rows] == ["50.0 %", "20.0 %", "20.0 %", "10.0 %"]
    name, kind, programs, count, time, share, each, bound, *_ = rows[0]
    assert (name, kind, programs, count) == ("first", "linear", "layer", "3")
    assert (time, share, each, bound) == ("30 µs", "50.0 %", "10 µs", "hbm")


def test_figures_of_the_machine_by_share_with_source_and_evidence():
    rows = rows_of(report_page(example()), "figures")
    assert rows[0] == ["memories.hbm.read", "1.6 TB/s", "vendor", "33.0 %", "CM384 section 3"]
    shares = [float(row[3].split()[0]) for row in rows]
    assert shares == sorted(shares, reverse=True)


def test_what_does_not_fit_is_said_first():
    full = MemoryUse((("weights", 50e9), ("main cache", 20e9)), 62e9)
    page = report_page(example(memory=full, notes=("the largest batch that fits is 40",)))
    assert page.index("8 GB too much") < page.index('class="cards"')
    assert page.index("the largest batch that fits is 40") < page.index('class="cards"')
    assert 'class="warning"' not in report_page(example())
    assert 'class="excess" style="left:88.571%"' in page


def test_every_call_of_the_step_is_in_the_overview():
    calls = data_of(report_page(example()))["calls"]
    assert len(calls) == 63
    assert [start + length for _, start, length, _ in calls[:-1]] == [c[1] for c in calls[1:]]
    many = data_of(report_page(small(order=(("layer", 1000),))))["calls"]
    assert many == [[0, 0, 20_000_000, 1000]]


@pytest.mark.parametrize("changes", [
    {"programs": (), "order": ()},
    {"figures": (), "notes": (), "summary": {}, "definitions": {}},
    {"memory": MemoryUse((), 0.0)},
    {"order": ()},
])  # fmt: skip
def test_little_or_nothing_to_show(changes):
    Checked(report_page(example(**changes)))


def test_scripts_and_style_are_in_the_package():
    for name in ("report.css", *report.SCRIPTS):
        assert (report.FOLDER / name).stat().st_size > 1000
