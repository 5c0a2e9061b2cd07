"""Which sources get faults, how many, and which tests are there to notice them."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzing.mutants.sites import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[4]
FOLDER = ROOT / "tests" / "fuzz"
TABLE = FOLDER / "mutant_tests.toml"
EQUIVALENT = FOLDER / "equivalent_mutants.toml"


@dataclass(frozen=True)
class Source:
    """A file of the package, and its tests, the quickest first."""

    file: str
    tests: tuple[str, ...]
    count: int
    functions: tuple[str, ...]
    """Half of its mutants are in these."""

    @property
    def module(self) -> str:
        """The name that it is imported by."""
        return "supertile." + self.file.removesuffix(".py").replace("/", ".")

    @property
    def digest(self) -> str:
        """Of what a verdict follows from: the file and its tests."""
        digest = hashlib.sha256()
        for name in (self.file, *self.tests):
            digest.update((ROOT / name).read_bytes() + b"\0")
        return digest.hexdigest()


def sources(count: int) -> list[Source]:
    """The rows of the table, among which so many mutants are shared out evenly."""
    rows: Mapping[str, Mapping[str, Sequence[str]]] = tomllib.loads(TABLE.read_text())
    each, more = divmod(count, len(rows))
    return [
        Source(
            file,
            tuple(row["tests"]),
            each + (number < more),
            tuple(row.get("functions", ())),
        )
        for number, (file, row) in enumerate(rows.items())
    ]


def draw(source: Source, seed: int) -> list[Mutant]:
    """The mutants of a file under a seed, no two of them in place of the same expression.

    Each mutant has a number from its name and the seed, and the lowest are drawn: the others stay
    drawn when one function changes.
    """
    text = (ROOT / source.file).read_text()
    ordered = sorted(mutants_of(source.file, text), key=lambda one: _number(one, seed))
    named = [one for one in ordered if one.function in source.functions]
    half = -(-source.count // 2) if source.functions else 0
    chosen: dict[tuple[str, str], Mutant] = {}
    for candidates, limit in ((named, half), (ordered, source.count)):
        for one in candidates:
            if len(chosen) < limit and _compiles(one):
                chosen.setdefault((one.function, one.before), one)
    return sorted(chosen.values(), key=lambda one: one.line)


def _number(mutant: Mutant, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {mutant.file} {mutant.name}".encode()).digest()


def _compiles(mutant: Mutant) -> bool:
    """Some places of patterns take no parentheses."""
    try:
        compile(mutant.text, mutant.file, "exec")
    except SyntaxError:
        return False
    return True


def equivalent() -> dict[tuple[str, str], str]:
    """(file, name of a mutant) -> why no test can notice it."""
    rows = tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])
    return {(row["file"], row["name"]): row["why"] for row in rows}
