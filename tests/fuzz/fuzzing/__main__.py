"""`make fuzz`: all draws of a seed, or as many as a budget allows; a later call goes on.

    make fuzz                        # 100,000 inputs, 2,000 commands, 200 mutants
    make fuzz SEED=7 MINUTES=10      # ten minutes of another seed
    PYTHONPATH=tests/fuzz .venv/bin/python -m fuzzing --again commands 17

The exit code is 1 if something was found.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before NumPy is imported: worker processes share the processors, not threads of each.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzzing import inputs
from fuzzing.campaign import Budget, State, draws, is_clean, mutants, report
from fuzzing.commands import Commands
from fuzzing.pool import Limits, Work, attempts
from fuzzing.reading import Readings

COUNTS = {"inputs": 100_000, "commands": 2_000, "mutants": 200}
SLOW = Limits(seconds=120, waiting=900.0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzzing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="then stop (default: when all is drawn)")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--only", choices=COUNTS, help="draw these and nothing else")
    parser.add_argument("--again", nargs=2, metavar=("KIND", "N"), help="one draw, with its end")
    for name, count in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N")
    parser.add_argument("--folder", default="out/fuzz", help="where state and findings are")
    options = parser.parse_args()
    works: dict[str, tuple[Work, Limits]] = {
        "inputs": (Readings(options.seed), Limits(jobs=options.jobs)),
        "commands": (
            Commands(options.seed),
            Limits(SLOW.seconds, SLOW.waiting, SLOW.memory, options.jobs),
        ),
    }
    if options.again:
        return _again(works, options.again[0], int(options.again[1]))
    state = State(Path(options.folder).resolve() / f"seed-{options.seed}")
    seconds = None if options.minutes is None else 60 * options.minutes
    budget = Budget(seconds)
    counts = {name: getattr(options, name) for name in COUNTS}
    if options.only in (None, "inputs", "commands"):
        inputs.prepare()
    for name, (work, limits) in works.items():
        if options.only in (None, name):
            draws(state, name, work, counts[name], limits, budget)
    if options.only in (None, "mutants"):
        mutants(state, options.seed, counts["mutants"], budget)
    print("\n".join(report(state, options.seed, counts)))
    return 0 if is_clean(state, options.seed, counts) else 1


def _again(works: dict[str, tuple[Work, Limits]], name: str, number: int) -> int:
    """One draw, told in full."""
    work, limits = works[name]
    for _, outcome in attempts(work, [number], limits):
        print(f"{outcome.kind}\n{outcome.text}")
        for file, data in outcome.files.items():
            print(f"--- {file}, {len(data)} bytes\n{data[:2000]!r}")
        return int(outcome.is_finding)
    return 1


if __name__ == "__main__":
    sys.exit(main())
