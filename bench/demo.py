"""What `make demo` shows: V4-Pro through every pass, and a small V4 run against stored logits.

Prints each command and its output; leaves the IR of every pass and a page with diffs in out/demo.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import numpy as np

from supertile.cli.main import main as supertile

ROOT = Path(__file__).resolve().parent.parent
CASE = "tests/data/deepseek_v4"
COMPILE = (
    "compile models/deepseek_v4.st --config models/configs/deepseek_v4_pro.json"
    " --check-numerics --stats --dump-ir out/demo/ir -o out/demo"
)
RUNS = {
    "one shot": "",
    "prefill of 21 in chunks of 5, the rest token by token": " --prompt 21 --chunk 5 --teacher",
}
RUN = (
    f"run models/deepseek_v4.st --config {CASE}/config.json --weights {CASE}"
    f" --tokens {CASE}/io.npz -o out/demo/run.npz"
)


def command(text: str) -> None:
    """Print a command line, run it, stop if it fails."""
    print(f"\n$ supertile {text}", flush=True)
    code = supertile(shlex.split(text))
    if code:
        sys.exit(code)


def main() -> None:
    start = time.perf_counter()
    print("1. DeepSeek-V4-Pro to IR, each pass checked by running a small config before and after")
    command(COMPILE)
    print("\n2. A small V4 checkpoint (all layer kinds) against logits from transformers, float32")
    expected = np.load(f"{CASE}/io.npz")["logits_prefill"]
    for title, options in RUNS.items():
        command(RUN + options)
        with np.load("out/demo/run.npz") as result:
            error = float(np.abs(result["logits"] - expected).max())
        verdict = "equal" if error < 1e-4 else "DIFFERENT"
        print(f"  {title}: largest difference {error:.1e} of logits, tolerance 1e-4: {verdict}")
        if error >= 1e-4:
            sys.exit(1)
    print(
        f"\nDone in {time.perf_counter() - start:.1f} s. "
        "Open out/demo/ir/trace.html for what each pass changed."
    )


if __name__ == "__main__":
    import os

    os.chdir(ROOT)
    main()
