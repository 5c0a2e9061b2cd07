"""A few draws of every kind, and the faults that the fuzzer itself must notice."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fuzzing import inputs
from fuzzing.commands import Commands
from fuzzing.materials import TextInput
from fuzzing.outcome import FINE, REFUSED, Outcome, of_paragraph
from fuzzing.pool import Limits, attempts
from fuzzing.readers import READERS, Reader
from fuzzing.reading import Readings

from supertile.ir.errors import UserError

SEED = 20
DRAWS, COMMANDS = 100, 6


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    inputs.prepare()


def told(found: list[tuple[int, Outcome]]) -> list[str]:
    """What is told of findings, if there are any."""
    return [f"{number}: {one.kind}\n{one.text}" for number, one in found if one.is_finding]


def test_malformed_inputs_end_as_success_or_as_one_paragraph() -> None:
    found = [*attempts(Readings(SEED), range(DRAWS), Limits(jobs=1))]
    assert told(found) == []
    ends = Counter(outcome.kind for _, outcome in found)
    assert ends[REFUSED] > DRAWS // 2 and ends[FINE] > DRAWS // 10


def test_every_reader_takes_the_inputs_that_faults_are_put_into(tmp_path: Path) -> None:
    """Otherwise all draws end at the same first check."""
    for reader in READERS:
        folder = tmp_path / reader.name.replace(" ", "_")
        folder.mkdir()
        for name, data in reader.beside().items():
            (folder / name).write_bytes(data)
        good = [data for one in reader.materials() if (data := getattr(one, "data", b""))]
        path = folder / reader.file
        assert not good or any(accepts(reader, path, data) for data in good), reader.name


def accepts(reader: Reader, path: Path, data: bytes) -> bool:
    """Whether the reader takes a file with this content."""
    path.write_bytes(data)
    try:
        reader.read(path, Random(1))
    except UserError:
        return False
    return True


def test_commands_end_with_0_or_1() -> None:
    found = [*attempts(Commands(SEED), range(COMMANDS), Limits(seconds=120, jobs=1))]
    assert told(found) == []


# ---- what is found ------------------------------------------------------------------------------


def reader_of(read: object) -> Reader:
    return Reader("a reader", "f.txt", lambda: [TextInput(b"1 2 3")], read)  # type: ignore[arg-type]


def raises(error: Exception) -> object:
    def read(path: Path, random: Random) -> None:
        raise error

    return read


def hangs(path: Path, random: Random) -> None:
    while True:
        time.process_time()


def takes_all_memory(path: Path, random: Random) -> object:
    return [bytes(1 << 28) for _ in range(100)]


def overflows(path: Path, random: Random) -> object:
    return np.float32(1e38) * np.float32(10)


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (raises(AssertionError("no")), "a reader: AssertionError"),
        (raises(RecursionError()), "a reader: RecursionError"),
        (hangs, "it takes too long"),
        (takes_all_memory, "a reader: MemoryError"),
        (overflows, "a reader: RuntimeWarning"),
        (lambda path, random: None, FINE),
        (raises(UserError("command.memory")), REFUSED),
    ],
)
def test_what_a_finding_is(read: object, kind: str) -> None:
    limits = Limits(seconds=1, memory=8 << 30, jobs=1)
    ends = [*attempts(Readings(1, [reader_of(read)]), range(1), limits)]
    assert [outcome.kind for _, outcome in ends] == [kind]
    assert all(outcome.files for _, outcome in ends if outcome.is_finding)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("error: ", "an error without a text"),
        ("nothing", "an error without a text"),
        ("error: x\nTraceback", "a traceback in an error"),
        ("error: x\n\nerror: y", "an error of several paragraphs"),
        ("error: " + "x" * 4000, "an error that is too long"),
        ("f:1:2: error: this is wrong\n  expected: another", REFUSED),
    ],
)
def test_what_a_paragraph_is(text: str, kind: str) -> None:
    assert of_paragraph(text).kind == kind


def test_a_draw_is_the_same_again() -> None:
    reader, random = READERS[0], Random(5)
    assert reader.given(Random(5)) == reader.given(random) != reader.given(random)
