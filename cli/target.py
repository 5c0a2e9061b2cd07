"""The machine of `--target`, and what there is to say of a file of the user's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supertile.targets.machine_types import Machine


def target_machine(name: str) -> Machine:
    """The shipped machine, or that of a file; notes on a file go to stderr, a line each."""
    from supertile.targets.machine import is_shipped, load_machine, shadowed_file

    machine = load_machine(name)
    if is_shipped(machine) and not shadowed_file(name):
        return machine  # there is nothing to say, and what says it takes time to load
    from supertile.targets.machine_notes import machine_notes, shadow_note

    notes = shadow_note(name) if is_shipped(machine) else machine_notes(machine)
    for line in notes:
        print(line, file=sys.stderr)
    return machine
