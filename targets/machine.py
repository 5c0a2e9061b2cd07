"""Machine descriptions: engines, memories and links, each figure with unit, source and evidence.

    machine = load_machine("ascend-910c")          # or the path of a file of the user's own
    machine.need("engines.cube.rate.bf16", "the time of attention")   # 353.9e12, FLOP/s

The shipped files lie in `machines/`; docs/machines.md says how to write one.
"""

from __future__ import annotations

import os
from pathlib import Path

from supertile.ir.errors import UserError, nearest
from supertile.targets.machine_checks import check_machine
from supertile.targets.machine_reader import read_machine
from supertile.targets.machine_types import (
    EVIDENCE,
    Domain,
    Engine,
    Figure,
    Formats,
    Machine,
    Memory,
    Protocol,
)

__all__ = [
    "EVIDENCE",
    "Domain",
    "Engine",
    "Figure",
    "Formats",
    "Machine",
    "Memory",
    "Protocol",
    "load_machine",
    "machine_names",
]

FOLDER = Path(__file__).parent / "machines"


def machine_names() -> tuple[str, ...]:
    """The shipped machines, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_machine(name_or_path: str | Path) -> Machine:
    """The machine of a shipped name, or of a file; a file of that name wins."""
    machine = read_machine(_file_of(str(name_or_path)))
    check_machine(machine)
    return machine


def _file_of(name: str) -> str:
    if os.path.isfile(name):
        return name
    if name in machine_names():
        return str(FOLDER / f"{name}.toml")
    looks_like_path = "/" in name or "\\" in name or name.endswith(".toml")
    if looks_like_path or os.path.isdir(name):
        return name  # a path that is wrong: reading it says how
    known = machine_names()
    hint = nearest(name, known, "write a file for it: docs/machines.md")
    raise UserError("machine.unknown", name=name, known=", ".join(known), hint=hint)
