"""What a step cannot be costed without, all of it at once: one file with many unknown figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supertile.ir.errors import UserError
from supertile.targets.machine import Machine, load_machine, machine_names
from supertile.targets.machine_needs import check_costed, device_needs, uses_lacking
from supertile.targets.machine_notes import machine_notes

PAGE = (Path(__file__).parents[2] / "docs" / "machines.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]


def without(tmp_path: Path, *starts: str) -> Machine:
    """The page's example with figures unknown: those of the lines that start so."""
    lines = []
    for line in EXAMPLE.splitlines():
        hidden = any(line.startswith(start) for start in starts)
        key = line.partition(" =")[0]
        lines.append(f'{key} = {{ value = "unknown", reason = "hidden" }}' if hidden else line)
    file = tmp_path / "m.toml"
    file.write_text("\n".join(lines) + "\n")
    return load_machine(file)


ALL = ("read = { value = 3.2", "rate.f32", "capacity = { value = 256", "latency = { value = 3.2")


def test_all_that_a_step_lacks_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_costed(without(tmp_path, *ALL), ranks=64, tp=1)
    error = caught.value
    assert error.code == "machine.uncosted"
    assert error.message == (
        "a step on example-npu cannot be costed without `memories.hbm.read`, "
        "`engines.simd.rate.f32`, `memories.scratch.capacity`, `domains.pod.latency`: unknown"
    )
    assert error.found == (
        "`memories.hbm.read`: hidden; `engines.simd.rate.f32`: hidden; "
        "`memories.scratch.capacity`: hidden; `domains.pod.latency`: hidden"
    )
    assert error.spot is not None and error.spot.text.startswith("read = ")


def test_ranks_on_one_board_need_no_figure_of_the_pod(tmp_path: Path) -> None:
    machine = without(tmp_path, "latency = { value = 3.2")
    check_costed(machine, ranks=8, tp=1)
    assert [*uses_lacking(machine)] == [
        ("traffic of more than 8 chips (pod)", ["domains.pod.latency"])
    ]


def test_what_is_missing_for_which_use_is_told_at_load(tmp_path: Path) -> None:
    notes = [note.replace(str(tmp_path), "") for note in machine_notes(without(tmp_path, *ALL))]
    assert notes == [
        "note: /m.toml: a step cannot be costed: `memories.hbm.read`: hidden; "
        "`engines.simd.rate.f32`: hidden; `memories.scratch.capacity`: hidden",
        "note: /m.toml: traffic of more than 8 chips (pod) cannot be costed: "
        "`domains.pod.latency`: hidden",
    ]


def test_a_file_without_memory_for_tiles_is_told_at_load(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(re.sub(r"\[memories.scratch\].*?\n\n", "", EXAMPLE, flags=re.DOTALL))
    uses = [*uses_lacking(load_machine(file))]
    assert uses == [("a kernel", ["memories.NAME.capacity"])]


@pytest.mark.parametrize("name", machine_names())
def test_what_shipped_machines_lack(name: str) -> None:
    machine = load_machine(name)
    beyond = ("traffic of more than 8192 chips (scale_out)", ["domains.scale_out.latency"])
    assert device_needs(machine) == []
    assert [*uses_lacking(machine)] == ([beyond] if name == "ascend-950dt" else [])
