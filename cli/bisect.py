"""`supertile bisect`: the first pass that breaks the IR or its numbers, on a small config."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.cli.compile import select_passes
from supertile.cli.inputs import add_model_options, check_output_folder
from supertile.cli.numerics import Comparison, compare_small, small_module

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp


@dataclass(frozen=True)
class Culprit:
    """The first pass that breaks something."""

    number: int
    """From 1, in the pipeline."""
    name: str
    message: str
    reproducer: Path | None


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command)
    command.add_argument("--entry", metavar="E", help="this entry alone (default: all)")
    command.add_argument("-p", "--pipeline", metavar="P", help="passes to try instead of all")
    command.add_argument(
        "-o", "--output", metavar="DIR", help="where a reproducer is written (default: here)"
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0: every pass keeps the IR sound and the numbers equal; 2: one does not."""
    check_output_folder(options.output)
    passes = select_passes(options.pipeline)
    comparison = compare_small(options, passes)
    culprit = find_culprit(small_module(options, passes), comparison)
    for line in comparison.lines:
        print(line)
    if culprit is None:
        count = len(comparison.passes)
        print(f"{count} passes: the IR stays sound and the numbers stay equal")
        return 0
    print(f"{culprit.name} (pass {culprit.number} of {len(comparison.passes)}): {culprit.message}")
    print(f"reproducer: {culprit.reproducer or 'none could be written'}")
    return 2


def find_culprit(module: ModuleOp, comparison: Comparison) -> Culprit | None:
    """Run the passes; the first that fails, if one does."""
    from supertile.passes.driver import InternalError

    try:
        comparison.run(module)
    except InternalError as error:
        number = len(comparison.fine)
        name = comparison.passes[number].name if comparison.passes else ""
        if not error.message.startswith(f"the pass {name} failed"):
            raise  # the module is unsound before the first pass
        return Culprit(number + 1, name, error.message, error.reproducer)
    return None
