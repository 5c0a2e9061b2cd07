"""Doubts about a machine file by example: one figure changed, and the note that it draws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supertile.ir.error_texts.machine_notes import MACHINE_NOTES
from supertile.targets.machine import load_machine, machine_names
from supertile.targets.machine_notes import machine_notes, times_text
from supertile.targets.machine_relations import doubts

SHIPPED = Path(__file__).parents[2] / "targets" / "machines"


def changed(tmp_path: Path, machine: str, place: str, old: str, new: str) -> tuple[list[str], int]:
    """The notes on a shipped file with one text behind `place` changed; and the line of it."""
    text = (SHIPPED / f"{machine}.toml").read_text()
    at = text.index(old, text.index(place))
    text = (text[:at] + new + text[at + len(old) :]).replace(f'"{machine}"', '"mine"', 1)
    file = tmp_path / "m.toml"
    file.write_text(text)
    notes = machine_notes(load_machine(file))
    return [note.replace(str(file), "m.toml") for note in notes], text[:at].count("\n") + 1


@pytest.mark.parametrize("name", machine_names())
def test_shipped_machines_have_no_doubts(name: str) -> None:
    assert [*doubts(load_machine(name))] == []


# Machine, where, what is changed to what; the note behind "m.toml:LINE:COLUMN: note: ".
FAULTS = [
    ("h200", "engines.tensor.rate", '989, unit = "TFLOP/s"', '989, unit = "GFLOP/s"',
     "`engines.tensor.rate.bf16` is 989 GFLOP/s on 132 cores x 1.83 GHz: 1/3.91 of what a core "
     "plausibly does in a clock, 16 operations on 16 bits"),
    ("h200", "engines.cuda]", "1.83", "1830",
     "`engines.cuda.rate.f32` is 61.8 TFLOP/s on 132 cores x 1830 GHz: 1/1.95 of what a core "
     "plausibly does in a clock, 1 operations on 16 bits"),
    ("gb300-nvl72", "engines.tensor.rate", "2500", "25000",
     "`engines.tensor.rate.bf16` is 25000 TFLOP/s, 5 times `engines.tensor.rate.f8e4m3`, "
     "5000 TFLOP/s, whose numbers are narrower"),
    ("h200", "memories.hbm", "4.8", "4800",
     "`memories.hbm.read` is 4800 TB/s, 1,000 times `memories.hbm.write`, 4.8 TB/s"),
    ("h200", "memories.smem", "234.2", "2.342",
     "`memories.smem.read` is 2.342 GB/s x 132, 1/15.5 of `memories.hbm.read`, 4.8 TB/s: outer "
     "memories are the slower ones"),
    ("ascend-910c", "memories.l1]", "198", "1980",
     "`memories.l1.fill` is 1980 GB/s x 24, 10 times `memories.l2.read`, 4752 GB/s, where that "
     "comes from"),
    ("ascend-910c", "domains.package", "270", "27",
     "`domains.node.bandwidth` is 196 GB/s, 7.26 times `domains.package.bandwidth`, 27 GB/s, of "
     "the domain inside it"),
    ("h200", "domains.node", "10, unit", "100, unit",
     "`domains.node.latency` is 100 us, 10 times `domains.scale_out.latency`, 10 us, of the "
     "domain around it"),
    ("ascend-950dt", "domains.cabinet", "value = 56,", "value = 5.6,",
     "`domains.cabinet.port_bandwidth` is 5.6 GB/s x 18, 1/10 of `domains.cabinet.bandwidth`, "
     "1008 GB/s, which they make up"),
    ("h200", "domains.node.protocols.dispatch", 'unit = "us"', 'unit = "ms"',
     "`domains.node.protocols.dispatch.write_latency` is 12.9 ms, 1,290 times "
     "`domains.node.latency`, 10 us, of its link"),
    ("h200", "domains.node.protocols.dispatch", 'unit = "us"', 'unit = "ns"',
     "`domains.node.protocols.dispatch.write_latency` is 12.9 ns, 1/775 of "
     "`domains.node.latency`, 10 us, of its link"),
    ("h200", "domains.node.protocols.combine", "268", "2.68",
     "`domains.node.protocols.combine.write_bandwidth` is 2.68 GB/s, 1/168 of "
     "`domains.node.bandwidth`, 450 GB/s, of its link"),
    ("ascend-910c", "domains.node.protocols.load_store", "engine_cores = { value = 24",
     "engine_cores = { value = 96",
     "`domains.node.protocols.load_store.engine_cores` is 96, 2 times `engines.vector.cores`, 48, "
     "all that there are"),
    ("h200", "[parameters]", 'launch_matrix = { value = 3, unit = "us"',
     'launch_matrix = { value = 3, unit = "ms"',
     "`parameters.launch_matrix` is 3 ms, 600 times that of ascend-910c, 5 us, the nearest of "
     "shipped machines"),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "place", "old", "new", "note"), FAULTS)
def test_a_note(tmp_path: Path, machine: str, place: str, old: str, new: str, note: str) -> None:
    notes, line = changed(tmp_path, machine, place, old, new)
    texts = {text.partition(" note: ")[2]: text for text in notes}
    assert note in texts, "\n".join(notes)
    is_at_the_change = any(text.startswith(f"m.toml:{line}:") for text in notes)
    # A clock has no relation of its own: the rates that it does not fit are told.
    assert is_at_the_change or "cores x" in note or "domain inside" in note


def test_every_relation_has_a_seeded_fault() -> None:
    """Each text, its blanks filled by anything, is that of a note above."""
    blank = re.compile(r"\\{\w+\\}")
    texts = {
        code: text.message for code, text in MACHINE_NOTES.items() if "{times}" in text.message
    }
    for code, text in texts.items():
        pattern = blank.sub(".+", re.escape(text))
        assert any(re.fullmatch(pattern, note) for *_, note in FAULTS), code


def test_how_figures_compare() -> None:
    assert times_text(1000) == "1,000 times"
    assert times_text(0.001) == "1/1,000 of"
    assert times_text(4.25) == "4.25 times"
