"""summary.json keeps the order of its fields; the terminal shows them with their definitions."""

import io
import json
from dataclasses import replace

from example import HOSTILE, example

from supertile.targets.output.summary import print_summary, summary_text
from supertile.targets.timeline import MemoryUse, Timeline

FULL = MemoryUse((("weights", 50e9), ("main cache", 20e9)), 62e9)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(timeline: Timeline, stream: io.StringIO | None = None) -> list[str]:
    stream = stream or io.StringIO()
    print_summary(timeline, stream)
    return stream.getvalue().splitlines()


def test_fields_in_order_then_definitions():
    timeline = example()
    fields = json.loads(summary_text(timeline))
    assert list(fields) == [*timeline.summary, "machine", "loads", "definitions"]
    assert fields["time_to_first_token_ms"] is None
    assert list(fields["definitions"]) == [*timeline.definitions, "machine", "loads"]
    assert summary_text(timeline) == summary_text(example())


def test_every_figure_has_its_definition_beside_it():
    lines = printed(example())
    step = next(line for line in lines if line.startswith("step "))
    assert "33.89 ms  Milliseconds from the start of one" in step
    assert "not applicable to decode: time to first token" in lines


def test_lines_are_at_most_100_wide_and_parts_have_their_own():
    long = "Routing is taken as balanced, " * 8
    lines = printed(example(notes=(long.strip(),)))
    assert max(map(len, lines)) <= 100
    purpose = next(n for n, line in enumerate(lines) if line.startswith("memory bytes by purpose"))
    assert [line.split() for line in lines[purpose + 1 : purpose + 3]] == [
        ["weights", "21.4", "GB"],
        ["main", "cache", "18.2", "GB"],
    ]
    note = next(n for n, line in enumerate(lines) if line.startswith("note: "))
    assert lines[note + 1].startswith("  ")


def test_assumed_figures_are_named_by_share():
    lines = printed(example())
    start = next(n for n, line in enumerate(lines) if line.startswith("rests on assumed figures"))
    named = [line.split()[2] for line in lines[start + 1 : start + 4]]
    assert named == ["parameters.memory_fraction", "parameters.matrix_fraction",
                     "parameters.launch_matrix"]  # fmt: skip
    figures = tuple(replace(figure, evidence="measured") for figure in example().figures)
    assert any(line.startswith("no assumed figure") for line in printed(example(figures=figures)))


def test_how_communication_is_hidden_is_told_with_what_other_ways_take():
    told = {"overlap": "4 waves 57 ms (none 63 ms)", "condition": "C / B = 2: traffic hides"}
    lines = printed(replace(example(), **told))
    assert "overlap: 4 waves 57 ms (none 63 ms)" in lines
    assert any(line.endswith("C / B = 2: traffic hides") for line in lines)
    assert not any(line.startswith("overlap") for line in printed(example()))


def test_what_does_not_fit_comes_first():
    lines = printed(example(memory=FULL, notes=("the largest batch that fits is 40",)))
    assert lines[1] == "memory does not fit: 70 GB needed, 62 GB a die, 8 GB too much"
    assert lines[2] == "  the largest batch that fits is 40"
    assert sum("largest batch" in line for line in lines) == 1
    assert "memory fits: 46.5 GB of 62 GB a die" in printed(example())


def test_a_terminal_gets_a_table_and_names_are_no_markup(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    definitions = {"step_ms": f"[red]{HOSTILE}[/red]"}
    text = "\n".join(printed(example(definitions=definitions), Terminal()))
    assert "figure" in text and "what it is" in text
    assert "[red]" in text
