"""Time and memory of costing deployments: over machines, ranks and contexts. Flat is the goal.

    python bench/deploy.py [--quick]

Each row is a fresh interpreter without kept answers, best of three (one with --quick), as a user
feels it. Limits, of V4-Pro on 2 idle cores: 3 s cold, 1.2 s where the answer is kept, 500 MB, 3,000
ops.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PRO = ("deepseek_v4", "deepseek_v4_pro")
MODELS = (
    ("deepseek_v4", "deepseek_v4_flash", "ascend-910c", "phase=decode ep=64 batch=64 context=8192"),
    ("deepseek_v3", "deepseek_v3", "h200", "phase=decode ep=32 batch=128 context=4096"),
    ("llama", "llama_3_1_8b", "h100", "phase=decode batch=32 context=4096"),
)
MACHINES = {
    "ascend-910c": 384, "ascend-950dt": 384, "h100": 8, "h200": 32, "gb200-nvl72": 72,
    "gb300-nvl72": 72, "numpy": 1,
}  # fmt: skip
RANKS = (8, 64, 384, 1024, 8192)
CONTEXTS = ("4K", "64K", "256K", "1M")
SECONDS, KEPT_SECONDS, MEGABYTES, OPS = 3.0, 1.2, 500, 3000
FLAT = 1.25
"""The largest over the smallest, of what must not grow."""
OPS_LINE = re.compile(r"(\d+) ops in")


@dataclass(frozen=True)
class Run:
    """What one compilation took."""

    seconds: float
    cpu: float
    """Seconds of a core, which other processes disturb less."""
    peak: float
    """Resident megabytes."""
    output: str


def run(arguments: list[str], folder: str) -> Run:
    """`supertile compile` in a fresh interpreter; exits where it fails."""
    environment = {**os.environ, "XDG_CACHE_HOME": folder, "PYTHONPYCACHEPREFIX": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "supertile.cli.main", "compile", *arguments],
            stdout=output,
            env=environment,
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if status:
        sys.exit(f"supertile compile {' '.join(arguments)} failed")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


@dataclass(frozen=True)
class Row:
    """The best of several runs of one deployment."""

    about: str
    seconds: float
    cpu: float
    peak: float
    ops: int
    written: float
    """Megabytes of all files."""

    def __str__(self) -> str:
        sizes = f"{self.peak:6.0f}{self.ops:6}{self.written:7.2f}"
        return f"{self.about}{self.seconds:6.2f}{self.cpu:6.2f}{sizes}"

    @property
    def over(self) -> bool:
        return self.seconds > SECONDS or self.peak > MEGABYTES or self.ops > OPS


def measure(case: tuple[str, str, str, str], repeats: int, folder: str) -> Row:
    out = f"{folder}/out"
    held = [run([*arguments(case), "-o", out, "--no-cache"], folder) for _ in range(repeats)]
    found = OPS_LINE.search(held[0].output)
    assert found is not None
    return Row(
        f"{case[1]:17}{case[2]:14}{case[3]:46}",
        min(one.seconds for one in held),
        min(one.cpu for one in held),
        max(one.peak for one in held),
        int(found[1]),
        sum(path.stat().st_size for path in Path(out).iterdir()) / 1e6,
    )


def arguments(case: tuple[str, str, str, str]) -> list[str]:
    model, config, machine, deployment = case
    return [model, "--config", config, "--target", machine, "--deploy", deployment]


def ops_by_level(folder: str) -> str:
    """Live ops of V4-Pro behind each phase, as --stats tells them."""
    case = (*PRO, "ascend-910c", "phase=decode ep=384 batch=96 context=4096")
    levels = {}
    for line in run([*arguments(case), "--stats"], folder).output.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if len(cells) > 5 and cells[5].isdigit():
            levels[cells[2]] = cells[5]
    return ", ".join(f"{level} {count}" for level, count in levels.items())


def of_ranks() -> list[tuple[str, str, str, str]]:
    return [
        (*PRO, "ascend-950dt", f"phase=decode ep={ranks} batch=32 context=4096") for ranks in RANKS
    ]


def of_contexts() -> list[tuple[str, str, str, str]]:
    return [
        (*PRO, "ascend-950dt", f"phase=decode ep=384 batch=32 context={context}")
        for context in CONTEXTS
    ]


def cases() -> list[tuple[str, str, str, str]]:
    """(model, config, machine, deployment) of every row."""
    machines = [
        (*PRO, machine, f"phase=decode ep={ranks} batch=32 context=4096")
        for machine, ranks in MACHINES.items()
    ]
    chunks = (*PRO, "ascend-910c", "phase=prefill ep=384 batch=1 context=64K chunk=4K")
    return list(dict.fromkeys([*machines, *of_ranks(), *of_contexts(), chunks, *MODELS]))


def main() -> None:
    repeats = 1 if "--quick" in sys.argv else 3
    print(f"{'config':17}{'machine':14}{'deployment':46}", end="")
    print(f"{'s':>6}{'cpu s':>6}{'MB':>6}{'ops':>6}{'out MB':>7}")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        levels = ops_by_level(folder)  # and the first run, which compiles Supertile's own files
        for case in cases():
            rows[case] = measure(case, repeats, folder)
            print(rows[case], flush=True)
        again = [*arguments(case), "-o", f"{folder}/out"]
        run(again, folder)
        kept = min(run(again, folder).seconds for _ in range(repeats))
    print(f"\nlive ops of V4-Pro behind each phase: {levels}")
    print(f"the answer kept: {kept:.2f} s (limit {KEPT_SECONDS})")
    for name, points in (("ranks", of_ranks()), ("context", of_contexts())):
        spans = [[rows[point].cpu for point in points], [rows[point].written for point in points]]
        cpu, written = (max(span) / min(span) for span in spans)
        verdict = "flat" if max(cpu, written) <= FLAT else "NOT FLAT"
        print(f"over {name}: cpu x{cpu:.2f}, output x{written:.2f} (limit x{FLAT}): {verdict}")
    misses = [row.about for row in rows.values() if row.over]
    print(f"limits {SECONDS} s, {MEGABYTES} MB, {OPS} ops: {len(misses)} of {len(rows)} rows over")
    print("".join(f"  {miss}\n" for miss in misses), end="")


if __name__ == "__main__":
    main()
