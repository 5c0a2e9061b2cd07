"""Time and memory of costing deployments: over machines, ranks and contexts. Flat is the goal.

    python bench/deploy.py [--quick]

Each row is a fresh interpreter without kept answers, best of two (one with --quick), as a user
feels it, and the most ops that a level has. Limits, of V4-Pro: 3 s of the processor cold, which
are the seconds on 2 idle cores; 1.2 s where the answer is kept; 500 MB; 3,000 ops.
"""

from __future__ import annotations

import sys
import tempfile

from measure import HEADER, measure

MODELS = (
    ("deepseek_v4", "deepseek_v4_flash", "ascend-910c", "phase=decode ep=64 batch=64 context=8192"),
    ("deepseek_v3", "deepseek_v3", "h200", "phase=decode ep=32 batch=128 context=4096"),
    ("llama", "llama_3_1_8b", "h100", "phase=decode batch=32 context=4096"),
)
MACHINES = {
    "ascend-910c": 384, "ascend-950dt": 384, "h100": 8, "h200": 32, "gb200-nvl72": 72,
    "gb300-nvl72": 72, "numpy": 1,
}  # fmt: skip
RANKS = (8, 64, 1024, 4096, 8192)
CONTEXTS = ("4K", "64K", "256K", "1M")
SECONDS, KEPT_SECONDS, MEGABYTES, OPS = 3.0, 1.2, 500, 3000


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


def command(model: str, config: str, machine: str, deployment: str, folder: str) -> list[str]:
    line = ["compile", model, "--config", config, "--target", machine, "--deploy", deployment]
    return [*line, "-o", f"{folder}/out"]


def main() -> None:
    repeats = 1 if "--quick" in sys.argv else 2
    print(f"{'config':20}{'machine':14}{'deployment':52}{HEADER}")
    misses = []
    with tempfile.TemporaryDirectory() as folder:
        cache = {"XDG_CACHE_HOME": folder}
        for model, config, machine, deployment in cases():
            line = command(model, config, machine, deployment, folder)
            found = measure([*line, "--stats"], repeats, cache)
            print(f"{config:20}{machine:14}{deployment:52}{found}", flush=True)
            over = found.user > SECONDS or found.megabytes > MEGABYTES or found.ops > OPS
            misses += [f"{config} on {machine}, {deployment}"] if over else []
        first = command(*cases()[0], folder)
        measure(first, 1, cache)
        kept = measure(first, repeats, cache).seconds
    print(f"\nthe answer to the first row, kept: {kept:.2f} s (limit {KEPT_SECONDS})")
    print(f"limits {SECONDS} user s, {MEGABYTES} MB, {OPS} ops: {len(misses)} rows over them")
    for miss in misses:
        print(f"  {miss}")


if __name__ == "__main__":
    main()
