"""Long prompts against transformers: which choices differ, which are ties, what error is left.

    python bench/long_prompts.py --python PYTHON [--folder out/long] [512 1024 4096]

PYTHON has torch and transformers (see `reference_v4.py`, which it runs to make the model and the
reference of each number of tokens, unless FOLDER has them). Prints what `supertile run --against`
prints for each, and then a table. Prompts are fed in chunks of 512 tokens.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

TOKENS = (512, 1024, 4096)
CHUNK = 512
COMPARED = re.compile(r"^  ([\d,]+) (?:route|selection)s? compared, (\d+) differs?", re.MULTILINE)
LOGITS = re.compile(r"^  logits with (.*): at most (\S+) apart, .*; (\d+) of", re.MULTILINE)
NO_TIES = re.compile(r"^error: (\d+) choices? differs? from", re.MULTILINE)
SECONDS = re.compile(r"tokens fed in ([\d.]+) s")
HEADER = (
    *("tokens", "choices", "differ", "no ties", "error, our choices", "positions above 1e-4"),
    *("error, its choices", "positions above 1e-4", "seconds"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokens", type=int, nargs="*", help="512 1024 4096")
    parser.add_argument("--python", help="an interpreter with torch and transformers")
    parser.add_argument("--folder", type=Path, default=Path("out/long"))
    options = parser.parse_args()
    counts = options.tokens or TOKENS
    make_references(options.folder, [str(count) for count in counts], options.python)
    rows = [HEADER, *(row(options.folder, count) for count in counts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for cells in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))


def make_references(folder: Path, counts: list[str], python: str | None) -> None:
    if all((folder / f"reference_{count}.npz").exists() for count in counts):
        return
    if python is None:
        sys.exit(
            f"{folder} has no reference for {', '.join(counts)} tokens: --python names an "
            "interpreter that has torch and transformers, to make them with"
        )
    script = Path(__file__).resolve().parent / "reference_v4.py"
    if subprocess.run([python, script, folder, *counts]).returncode:
        sys.exit("the reference could not be made: see above")


def row(folder: Path, count: int) -> tuple[str, ...]:
    """One line of the table, from what the command prints."""
    options = (
        *("--config", folder, "--weights", folder, "--tokens", folder / f"ids_{count}.npy"),
        *("--against", folder / f"reference_{count}.npz", "--chunk", str(CHUNK)),
    )
    command = [sys.executable, "-m", "supertile.cli.main", "run", "deepseek_v4", *options]
    finished = subprocess.run(command, capture_output=True, text=True)
    print(finished.stdout + finished.stderr, flush=True)
    compared = COMPARED.findall(finished.stdout)
    errors = {how: (error, above) for how, error, above in LOGITS.findall(finished.stdout)}
    if finished.returncode not in (0, 1) or not compared or not errors:
        sys.exit("supertile run failed")
    # Without a difference there is one run, whose choices are those of both.
    equal = errors.get("equal choices", ("", ""))
    ours, theirs = (errors.get(f"{side} choices", equal) for side in ("our", "the reference's"))
    no_ties = NO_TIES.search(finished.stderr)
    seconds = SECONDS.search(finished.stdout)
    assert seconds is not None
    return (
        f"{count:,}",
        f"{sum(int(number.replace(',', '')) for number, _ in compared):,}",
        str(sum(int(number) for _, number in compared)),
        no_ties[1] if no_ties else "0",
        *ours,
        *theirs,
        seconds[1],
    )


if __name__ == "__main__":
    main()
