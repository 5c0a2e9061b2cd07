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
OPS_LINE = re.compile(r"(\d+) ops in")


def run(arguments: list[str], cache: str) -> tuple[float, float, int]:
    """Seconds, peak resident megabytes, and live ops of the last level, of one compilation."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "supertile.cli.main", "compile", *arguments],
            stdout=output,
            env={**os.environ, "XDG_CACHE_HOME": cache},
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        found = OPS_LINE.search(output.read())
    if status or found is None:
        sys.exit(f"supertile compile {' '.join(arguments)} failed")
    return seconds, usage.ru_maxrss / 1024, int(found[1])


def cases() -> list[tuple[str, str, str, str]]:
    """(model, config, machine, deployment) of every row."""
    pro = ("deepseek_v4", "deepseek_v4_pro")
    rows = [
        (*pro, machine, f"phase=decode ep={ranks} batch=32 context=4096")
        for machine, ranks in MACHINES.items()
    ]
    rows += [
        (*pro, "ascend-950dt", f"phase=decode ep={ranks} batch=32 context=4096") for ranks in RANKS
    ]
    rows += [
        (*pro, "ascend-950dt", f"phase=decode ep=384 batch=32 context={context}")
        for context in CONTEXTS
    ]
    rows.append((*pro, "ascend-910c", "phase=prefill ep=384 batch=1 context=64K chunk=4K"))
    return [*rows, *MODELS]


def main() -> None:
    repeats = 1 if "--quick" in sys.argv else 3
    print(f"{'config':20}{'machine':14}{'deployment':52}{'s':>6}{'MB':>6}{'ops':>6}")
    misses = []
    with tempfile.TemporaryDirectory() as folder:
        for model, config, machine, deployment in cases():
            arguments = [model, "--config", config, "--target", machine, "--deploy", deployment]
            cold = [*arguments, "-o", f"{folder}/out", "--no-cache"]
            held = [run(cold, folder) for _ in range(repeats)]
            seconds, megabytes, ops = (min(column) for column in zip(*held, strict=True))
            print(f"{config:20}{machine:14}{deployment:52}{seconds:6.2f}{megabytes:6.0f}{ops:6}")
            over = seconds > SECONDS or megabytes > MEGABYTES or ops > OPS
            misses += [f"{config} on {machine}, {deployment}"] if over else []
        again = [*arguments, "-o", f"{folder}/out"]
        run(again, folder)
        kept = min(run(again, folder)[0] for _ in range(repeats))
    print(f"\nthe answer kept: {kept:.2f} s (limit {KEPT_SECONDS})")
    print(f"limits {SECONDS} s, {MEGABYTES} MB, {OPS} ops: {len(misses)} rows over them")
    for miss in misses:
        print(f"  {miss}")


if __name__ == "__main__":
    main()
