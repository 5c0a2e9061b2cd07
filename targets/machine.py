"""Machine descriptions: engines, memories and links, each figure with unit, source and evidence.

    machine = load_machine("ascend-910c")          # or the path of a file of the user's own
    machine.need("engines.cube.rate.bf16", "the time of attention")   # 353.9e12, FLOP/s

The shipped files lie in `machines/`; docs/machines.md says how to write one.
"""

from __future__ import annotations

import os
from dataclasses import replace
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
    "is_shipped",
    "load_machine",
    "machine_names",
    "shadowed_file",
]

FOLDER = Path(__file__).parent / "machines"


def machine_names() -> tuple[str, ...]:
    """The shipped machines, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_machine(name_or_path: str | Path) -> Machine:
    """The machine of a shipped name, or of a file, whatever the file is called.

    A file of the user's own that says to be a shipped machine is named with its path.
    """
    machine = read_machine(_file_of(str(name_or_path)))
    check_machine(machine)
    if machine.name in machine_names() and not is_shipped(machine):
        shown = machine.file if machine.file.isprintable() else ascii(machine.file)
        return replace(machine, name=f"{machine.name} (file {shown})")
    return machine


def is_shipped(machine: Machine) -> bool:
    """Whether it is read from the file that Supertile ships."""
    folder = os.path.dirname(os.path.realpath(machine.file))
    return folder == os.path.realpath(FOLDER)


def shadowed_file(name: str) -> bool:
    """Whether a file here has the name of a shipped machine, which means that machine."""
    return name in machine_names() and os.path.isfile(name)


def _file_of(name: str) -> str:
    if name in machine_names():
        return str(FOLDER / f"{name}.toml")
    looks_like_path = "/" in name or "\\" in name or name.endswith(".toml")
    if looks_like_path or os.path.exists(name):
        return name  # reading it says what is wrong with the path
    known = machine_names()
    hint = nearest(name, known, "write a file for it: docs/machines.md")
    raise UserError("machine.unknown", name=name, known=", ".join(known), hint=hint)
