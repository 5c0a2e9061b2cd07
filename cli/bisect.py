"""`supertile bisect`: the first pass that breaks the IR or its numbers, on a small config."""

from __future__ import annotations

import argparse

from supertile.cli.compile import check_numerics, select_passes
from supertile.cli.inputs import add_model_options, config_path


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command)
    command.add_argument("--entry", metavar="E", help="this entry alone (default: all)")
    command.add_argument("-p", "--pipeline", metavar="P", help="passes to try instead of all")
    command.add_argument("-o", "--output", metavar="DIR", help="where a reproducer is written")


def run(options: argparse.Namespace) -> int:
    """Exit code 0: every pass keeps the IR sound and the numbers equal; 2: the first that does not."""
    from supertile.frontend.hf_config import read_config

    options.dump_ir = None
    passes = select_passes(options.pipeline)
    check_numerics(options, read_config(config_path(options.config)), passes)
    print(f"{len(passes)} passes: the IR stays sound and the numbers stay equal")
    return 0
