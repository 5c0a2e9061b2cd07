"""`--loads`: a law, a file, or several files that are added up."""

from __future__ import annotations

import argparse

LOADS_HELP = (
    "a file (.pt, .npz, .npy, .safetensors, .json, .csv; docs/plan_files.md), a folder or a "
    "pattern in quotes of files that are added up, or a law: zipf:0.6,seed=1; may be given again"
)


def add_loads_option(command: argparse.ArgumentParser, default: str) -> None:
    """`options.loads` becomes a list of the texts, or None. `default` says what holds without."""
    command.add_argument(
        "--loads", action="append", metavar="L", help=f"{LOADS_HELP} (default: {default})"
    )


def name_files(options: argparse.Namespace) -> None:
    """Let the option name each file, so that what is asked says what is read.

    Errors: those of `argument.named_loads`.
    """
    if getattr(options, "loads", None) is not None:
        from supertile.targets.plan.argument import named_loads

        options.loads = named_loads(options.loads)
