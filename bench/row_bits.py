"""Bits of logits under each BLAS kernel, thread count and set of processor features, as a table.

    python bench/row_bits.py            # exits 1 if a promised bit differs

Each line is a child process, as a library picks its kernels when it is loaded. It runs the small
models of the tests in exact arithmetic (`--row-invariant`), one shot, in chunks and on two ranks,
and in the usual arithmetic for comparison. A kernel that the processor cannot run, or that this
OpenBLAS was built without, is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
KERNELS = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX", "Cooperlake")
KERNELS += ("SapphireRapids",)
THREADS = (1, 2)
FEATURES = {"all": "", "no AVX-512": "AVX512_ICL AVX512_CLX X86_V4", "SSE4": "X86_V4 X86_V3"}
CASES = {"deepseek_v4": "reference", "deepseek_v4_deployed": "deployed", "deepseek_v3": "reference"}


def main() -> int:
    if sys.argv[1:] == ["--child"]:
        print(json.dumps(digests()))
        return 0
    lines = {}
    for kernel in KERNELS:
        for threads in THREADS:
            lines[f"{kernel}, {threads} thread{'s' * (threads > 1)}"] = child(kernel, threads, "")
    for name, disabled in FEATURES.items():
        lines[f"NumPy: {name}"] = child("", 1, disabled)
    known = {name: line for name, line in lines.items() if line is not None}
    for name in lines.keys() - known.keys():
        print(f"left out, not on this machine: {name}", file=sys.stderr)
    first = next(iter(known.values()))
    print(f"{'child process':<26}{'kernel':<16}{'exact: promised bits':<24}usual: as line 1")
    broken = 0
    for name, line in known.items():
        broken += line["exact"] != first["exact"] or not line["alike"]
        exact = "equal" if line["exact"] == first["exact"] and line["alike"] else "DIFFER"
        usual = "equal" if line["usual"] == first["usual"] else "differ"
        print(f"{name:<26}{line['kernel']:<16}{exact:<24}{usual}")
    return int(broken > 0)


def child(kernel: str, threads: int, disabled: str) -> dict[str, object] | None:
    """What a child process found; None where the kernel asked for is not the one that runs."""
    settings = {"OPENBLAS_NUM_THREADS": str(threads), "NPY_DISABLE_CPU_FEATURES": disabled}
    settings |= {"PYTHONPATH": f"{TESTS}:{TESTS / 'cases'}"}
    environment = {**os.environ, **settings}
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        environment.pop(name, None)
    if kernel:
        environment["OPENBLAS_CORETYPE"] = kernel
    run = subprocess.run(
        [sys.executable, __file__, "--child"], env=environment, capture_output=True, text=True
    )
    if run.returncode != 0:
        print(f"{kernel or disabled}: exit {run.returncode}\n{run.stderr[-500:]}", file=sys.stderr)
        return None
    line: dict[str, object] = json.loads(run.stdout)
    return line if not kernel or line["kernel"] == kernel else None


def digests() -> dict[str, object]:
    """Of the exact and the usual logits, and whether feeds and ranks have the same exact ones."""
    from test_exact_bits import FEEDS, digest, exact_logits
    from test_placed import alone, five_rows, on_one_rank, placed, run

    from supertile.runtime.generate import Request

    exact, usual, alike = [], [], True
    for case, numerics in CASES.items():
        logits = exact_logits(case, numerics, Request())
        exact.append(digest(logits))
        for request in FEEDS.values():
            alike &= digest(exact_logits(case, numerics, request)) == exact[-1]
        two = placed(case, "ranks=2", numerics, row_invariant=True)
        ranked = run(two, five_rows(case), Request()).logits
        alike &= digest(ranked) == digest(alone(case, "one shot").logits)
        if numerics == "reference":
            usual.append(digest(on_one_rank(case).logits))
    return {"exact": exact, "usual": usual, "alike": alike, "kernel": blas_kernel()}


def blas_kernel() -> str:
    """The kernel that OpenBLAS runs, or "" with another BLAS."""
    from threadpoolctl import threadpool_info

    return next((pool["architecture"] for pool in threadpool_info() if "architecture" in pool), "")


if __name__ == "__main__":
    sys.exit(main())
