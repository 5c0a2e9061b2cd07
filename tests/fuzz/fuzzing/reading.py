"""Draws of malformed inputs: a reader, an input with faults, and what the reader makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzzing.outcome import FINE, Outcome, of_exception, of_paragraph
from fuzzing.readers import READERS, Reader


@dataclass(frozen=True)
class Readings:
    """The draws of a seed; the same number is always the same input for the same reader."""

    seed: int
    readers: Sequence[Reader] = READERS

    def reader(self, random: Random) -> Reader:
        return random.choices(self.readers, [reader.weight for reader in self.readers])[0]

    def __call__(self, number: int, folder: Path) -> Outcome:
        random = Random(f"{self.seed} inputs {number}")
        reader = self.reader(random)
        empty(folder)
        for name, data in reader.beside().items():
            (folder / name).write_bytes(data)
        path = folder / reader.file
        path.write_bytes(reader.given(random))
        outcome = read(reader, path, random)
        if not outcome.is_finding:
            return outcome
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        return Outcome(f"{reader.name}: {outcome.kind}", outcome.text, files)


def read(reader: Reader, path: Path, random: Random) -> Outcome:
    """What a reader makes of a file."""
    from supertile.ir.errors import UserError

    try:
        reader.read(path, random)
    except UserError as error:
        return of_paragraph(error.render())
    except Exception as error:
        return of_exception(error)
    return Outcome(FINE)


def empty(folder: Path) -> None:
    """What the draw before has left does not last."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
