"""Time, memory and live ops of one `supertile` command, each time in a fresh interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = f"{'s':>6}{'user s':>8}{'MB':>6}{'ops':>6}"
PASS_ROW = re.compile(r"^│ [a-z-]+ +│ [a-z]+ +│ [\d.]+ +│ (\d+) +│ (\d+) +│", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """Of several runs the shortest times and the most memory."""

    seconds: float
    """From the shell and back."""
    user: float
    """Seconds of the processor, without those of the system."""
    megabytes: float
    """The most that was resident."""
    ops: int
    """The most that a level of the IR has; 0 if it was not asked for."""

    def __str__(self) -> str:
        return f"{self.seconds:6.2f}{self.user:8.2f}{self.megabytes:6.0f}{self.ops:6}"


def measure(arguments: Sequence[str], repeats: int, environment: dict[str, str]) -> Measured:
    """Run a command several times. One that fails ends the benchmark."""
    held = [run([*arguments], environment) for _ in range(repeats)]
    return Measured(
        min(one.seconds for one in held),
        min(one.user for one in held),
        max(one.megabytes for one in held),
        max(one.ops for one in held),
    )


def run(arguments: list[str], environment: dict[str, str]) -> Measured:
    """One run. The ops are those of the table that `compile --stats` prints."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "supertile.cli.main", *arguments],
            stdout=output,
            env={**os.environ, **environment},
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        counts = [int(count) for row in PASS_ROW.findall(output.read()) for count in row]
    if status:
        sys.exit(f"supertile {' '.join(arguments)} failed")
    return Measured(seconds, usage.ru_utime, usage.ru_maxrss / 1024, max(counts, default=0))
